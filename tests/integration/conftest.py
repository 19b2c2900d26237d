"""One Restate server and one service for all tests of this folder; each test has a topic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, topic_name
from support.one_restate import restate

__all__ = ["restate"]


@pytest.fixture(scope="session")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a running, registered service."""
    service = await Service(restate, PUBSUB_HEARTBEAT="1s").start()
    yield service
    await service.stop()


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name()
