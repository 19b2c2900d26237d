"""A Restate, services that stand behind proxies, and the proxies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from proxies.programs import PROGRAMS, Running, running
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, topic_name
from support.one_restate import restate

__all__ = ["restate"]

BEAT = 1.0
"""Seconds between the heartbeats of the services."""
ORIGIN = "https://app.example.org"
"""Whose pages may read."""


@pytest.fixture(scope="session")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that tests may kill and start."""
    env = {
        "PUBSUB_HEARTBEAT": f"{BEAT:g}s",
        "PUBSUB_PUBLISH_ENABLED": "true",
        "PUBSUB_TRUSTED_PROXIES": "1",
        "PUBSUB_CORS_ORIGINS": ORIGIN,
    }
    service = await Service(restate, env=env).start()
    yield service
    await service.stop()


@pytest.fixture(scope="session")
async def strict(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that gives a client two streams, and counts clients as one trusted proxy names them."""
    env = {"PUBSUB_HEARTBEAT": f"{BEAT:g}s", "PUBSUB_TRUSTED_PROXIES": "1", "PUBSUB_MAX_STREAMS_PER_CLIENT": "2"}
    service = await Service(restate, env=env).start(register=False)
    yield service
    await service.stop()


@pytest.fixture(scope="session", params=PROGRAMS)
async def proxy(
    request: pytest.FixtureRequest, service: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """Return each proxy before the service, one after another."""
    async with running(request.param, service.url, tmp_path_factory.mktemp(request.param)) as proxy:
        yield proxy


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name("proxies")
