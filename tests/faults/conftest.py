"""Parts that a fault test may break: each test has its own Restate and its own services.

By default the faults are short, so that the tests run with all others; see `traffic.FULL`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import running_restate, topic_name


@pytest.fixture
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a running Restate server that this test may kill."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture
async def parts() -> AsyncIterator[contextlib.AsyncExitStack]:
    """Return a stack for what the test starts; the last is stopped first."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name()
