"""A Restate server as a fixture: one for all tests of a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import running_restate


@pytest.fixture(scope="session")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a running Restate server."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server
