"""The built image, named by `make test-image`, and one Restate server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from image.engine import Image
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import running_restate


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Return the image under test."""
    named = os.environ.get("TEST_IMAGE")
    if not named:
        pytest.fail("TEST_IMAGE is not set: run `make test-image`, which builds the image first")
    engine, tag = named.split()
    image = Image(engine, tag)
    yield image
    image.close()


@pytest.fixture(scope="session")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a running Restate server."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server
