"""Chromium for all tests of this folder, a Restate for those of each file, and the example chat."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.chat_demo import Demo
from support.chromium import browser, page
from support.harness import running_restate, topic_name

__all__ = ["browser", "page"]


@pytest.fixture(scope="module")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate server that the tests of a file may kill and start."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name("browser")


@pytest.fixture(scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """Return the running example."""
    demo = await Demo(tmp_path_factory.mktemp("chat")).start()
    yield demo
    await demo.stop()
