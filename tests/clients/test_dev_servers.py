"""Dev servers that compress what passes through them, as they do by default or as everybody sets them up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from clients.readers import FOLDER
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, free_port, listens, publish, stream
from support.node import NODE
from support.origin import Origin
from support.waiting import until

every_kind = pytest.mark.parametrize("kind", ["express", "webpack-dev-server"])


@contextlib.asynccontextmanager
async def dev_server(kind: str, target: str) -> AsyncIterator[str]:
    """Return the URL of a dev server before `target`."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(NODE, FOLDER / "dev-servers.mjs", kind, str(port), target)
    try:
        await until(lambda: listens(port), f"{kind} to listen")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@every_kind
async def test_events_come_one_by_one(restate: RestateServer, service: Service, topic: str, kind: str) -> None:
    """`no-transform` is what their compression honours."""
    async with dev_server(kind, service.url) as url, stream(f"{url}/pubsub/{topic}") as reader:
        assert "content-encoding" not in reader.response.headers
        for at in range(3):
            await publish(restate, topic, at)
            assert at == (await reader.next()).data
        await call(restate, topic, "close")
        assert "end" == (await reader.next()).event


@every_kind
async def test_their_compression_is_on(restate: RestateServer, origin: Origin, topic: str, kind: str) -> None:
    """The origin leaves `no-transform` out, and its streams are compressed."""
    await publish(restate, topic, "x" * 2000)
    await call(restate, topic, "close")
    async with dev_server(kind, origin.url) as url, stream(f"{url}/pubsub/{topic}") as reader:
        assert "gzip" == reader.response.headers["content-encoding"]
        assert ["message", "end"] == [event.event for event in await reader.to_end()]
