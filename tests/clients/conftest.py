"""A Restate and a service that tests may kill, Chromium, and an origin that both the page and the streams come from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from clients.readers import FILES, PAGE
from restate_pubsub.commands.local_restate import RestateServer
from support.chromium import browser, page
from support.harness import Service, topic_name
from support.one_restate import restate
from support.origin import Origin

__all__ = ["browser", "page", "restate"]


@pytest.fixture(scope="session")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that tests may kill and start; readers come back to it quickly."""
    service = await Service(restate, PUBSUB_HEARTBEAT="200ms", PUBSUB_RETRY="100ms").start()
    yield service
    await service.stop()


@pytest.fixture
async def origin(service: Service) -> AsyncIterator[Origin]:
    """Return the running origin."""
    async with Origin(PAGE, files=FILES).serving(service) as origin:
        yield origin


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name("clients")
