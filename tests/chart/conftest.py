"""One Restate server for what the chart runs against one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from harness import restate_server
from restate_pubsub.dev import RestateServer


@pytest.fixture(scope="session")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a running Restate server."""
    server = restate_server(tmp_path_factory.mktemp("restate"))
    await server.start()
    yield server
    await server.stop()
