"""The mends of the server, each against what goes wrong without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import hypercorn.protocol
import pytest
from hypercorn.asyncio import run, serve
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.config import Config
from hypercorn.protocol import h2 as hypercorn_h2
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER

from restate_pubsub.server import hypercorn_fixes as hypercorn_mends
from restate_pubsub.server.hypercorn_fixes import BoundedBuffer, EndingConnection, mend
from support.harness import free_port, listens
from support.waiting import until


async def test_what_a_client_takes_no_window_for_is_waited_for() -> None:
    """It is not read into memory; once enough of it has gone, more may come."""
    buffer = BoundedBuffer(EventWrapper)
    push = asyncio.create_task(buffer.push(b"x" * BUFFER_HIGH_WATER))
    await asyncio.sleep(0)
    for _ in range(3):
        assert b"" == await buffer.pop(0)
        await asyncio.sleep(0)
    assert not push.done()
    assert BUFFER_HIGH_WATER == len(await buffer.pop(BUFFER_HIGH_WATER))
    await asyncio.wait_for(push, 1)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend the server for one test."""
    for module, name in ((hypercorn.protocol, "H2Protocol"), (run, "TCPServer"), (hypercorn_h2, "StreamBuffer")):
        monkeypatch.setattr(module, name, getattr(module, name))  # as it was, afterwards
    mend()


@contextlib.asynccontextmanager
async def serving(app: Callable[..., Any]) -> AsyncIterator[int]:
    """Serve an application, and return its port."""
    config, stop, port = Config(), asyncio.Event(), free_port()
    config.bind, config.errorlog = [f"127.0.0.1:{port}"], None
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    await until(lambda: listens(port), "the server to listen")
    yield port
    stop.set()
    await task


@pytest.mark.usefixtures("mended")
async def test_an_answer_that_breaks_off_is_broken_off_for_an_http2_client() -> None:
    """Also where it opens no window: it would wait for ever for the rest, and the rest would stay in memory."""

    async def app(scope: dict[str, Any], _receive: object, send: Callable[..., Any]) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})
            msg = "the source is gone"
            raise RuntimeError(msg)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.local_settings.initial_window_size = 0
        client.initiate_connection()
        headers = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "test")]
        client.send_headers(1, headers, end_stream=True)
        events: list[h2.events.Event] = []
        async with asyncio.timeout(5):
            while not any(isinstance(event, h2.events.StreamReset) for event in events):
                writer.write(client.data_to_send())
                data = await reader.read(65536)
                assert data, f"closed after {events}"
                events += client.receive_data(data)
        writer.close()
    assert not any(isinstance(event, h2.events.DataReceived) for event in events)


async def test_a_connection_that_closes_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client takes nothing of what it was sent before; at last it is cut."""
    monkeypatch.setattr(hypercorn_mends, "CLOSE_SECONDS", 0.1)
    closed = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ending: Any = EndingConnection
        connection = ending(None, asyncio.get_running_loop(), Config(), None, {}, reader, writer)
        writer.write(b"x" * 50_000_000)
        await connection._close()
        closed.set()

    async with await asyncio.start_server(accept, "127.0.0.1", port := free_port()):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        await asyncio.wait_for(closed.wait(), 5)
        writer.close()
