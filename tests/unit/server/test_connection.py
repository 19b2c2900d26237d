"""Connections: how long they may do nothing, and how they end."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER

from restate_pubsub.server.hypercorn_fixes import ServerConfig, connection
from restate_pubsub.server.hypercorn_fixes.connection import Connection
from restate_pubsub.server.hypercorn_fixes.send_buffer import BoundedBuffer
from support.harness import free_port
from support.http2 import Http2Client
from support.waiting import until
from unit.server.conftest import Server, Serving

SHORT, LONG = 0.3, 1.2
GET = b"GET / HTTP/1.1\r\nhost: t\r\n\r\n"


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """Return what is logged."""
    with structlog.testing.capture_logs() as entries:
        yield entries


async def lasts(server: Server, *parts: bytes, pause: float = 0.0) -> tuple[float, bytes]:
    """Send parts with pauses; return for how long the server kept the connection, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    begin, got = time.monotonic(), b""

    async def send() -> None:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(LONG * 2.5):
            while data := await reader.read(65536):
                got += data
    except ConnectionError:
        pass
    except TimeoutError:
        return float("inf"), got
    finally:
        sending.cancel()
        writer.close()
    return time.monotonic() - begin, got


@pytest.mark.parametrize(
    ("parts", "expected", "answers"),
    [
        ((), SHORT, b""),
        ((b"GET / HTTP/1.1\r\nx: y",), SHORT, b" 408 "),
        ((b"GET / HTTP/1.1\r\nx: ", *[b"y"] * 50), SHORT, b" 408 "),
        ((GET,), LONG, b" 200 "),
        ((GET, b"GET / HTTP/1.1\r\nx: ", *[b"y"] * 50), SHORT, b" 408 "),
        ((b"PRI * HTTP/2.0\r\n",), SHORT, b" 408 "),
        ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",), SHORT, b""),
    ],
    ids=[
        "nothing",
        "half a head",
        "a slow head",
        "an idle connection",
        "a slow second head",
        "half a preface",
        "no request",
    ],
)
async def test_a_connection_that_does_nothing_is_closed(
    serving: Serving, parts: tuple[bytes, ...], expected: float, answers: bytes
) -> None:
    """A head has its time in all, however it drips; a connection that has been of use has more of it."""
    async with serving(request=SHORT, keep_alive=LONG) as server:
        lasted, got = await lasts(server, *parts, pause=0.02)
        assert expected * 0.9 <= lasted < expected + 0.6
        assert answers in got
        assert 1 == server.seen.idle
        await server.nothing_left()


async def test_an_idle_http2_connection_is_told(serving: Serving) -> None:
    """By a GOAWAY, so that no request is lost on it; pings are no use that counts."""
    async with serving(request=SHORT, keep_alive=SHORT) as server, Http2Client.connect(server.port) as client:
        await client.answer(client.open())
        for _ in range(10):
            client.h2.ping(b"12345678")
            client.flush()
            await asyncio.sleep(0.02)
        await client.end()
        assert "ConnectionTerminated" in [type(event).__name__ for event in client.events]


@pytest.mark.parametrize("path", [b"/stream", b"/busy", b"/unread"])
async def test_an_http2_connection_whose_last_request_was_taken_back_is_idle(serving: Serving, path: bytes) -> None:
    """As that of a browser that has closed its only stream; another one in progress keeps it."""
    async with serving(request=SHORT, keep_alive=SHORT) as server, Http2Client.connect(server.port) as client:
        first, second = client.open(path), client.open(b"/stream")
        await client.begun(second)
        client.h2.reset_stream(first)
        client.flush()
        await asyncio.sleep(3 * SHORT)
        assert 0 == server.seen.idle
        client.h2.reset_stream(second)
        client.flush()
        await client.end()
        assert 1 == server.seen.idle
        server.app.release.set()


@pytest.mark.parametrize("path", [b"/stream", b"/unread"])
async def test_a_request_in_the_making_is_no_idle_connection(serving: Serving, path: bytes) -> None:
    """A stream, and an answer that takes its time."""
    async with serving(request=SHORT, keep_alive=SHORT) as server:
        lasted, _ = await lasts(server, b"GET " + path + b" HTTP/1.1\r\nhost: t\r\n\r\n")
        assert lasted == float("inf")
        server.app.release.set()


async def test_other_ports_have_no_limits(serving: Serving) -> None:
    """The internal one is Restate's."""
    async with serving(request=SHORT, keep_alive=SHORT, ports={1}) as server:
        assert float("inf") == (await lasts(server, GET))[0]


async def test_a_connection_that_has_brought_an_accepted_call_has_no_limits(serving: Serving) -> None:
    """By the path and the answer: a refused one does not count."""

    def accepted(path: str, status: int) -> bool:
        return path == "/call" and status == 200

    async with serving(request=SHORT, keep_alive=SHORT, spares=accepted) as server:
        call = GET.replace(b"/ ", b"/call ")
        assert float("inf") == (await lasts(server, call))[0]
        assert float("inf") == (await lasts(server, call, GET, b"GET / HTTP"))[0]
        assert (await lasts(server, GET))[0] < LONG
        async with Http2Client.connect(server.port) as client:
            await client.answer(client.open(b"/call"))
            await asyncio.sleep(2 * SHORT)
            await client.answer(client.open())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "reset"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "timeout"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "unreachable"),
    ],
)
@pytest.mark.parametrize("path", [b"/", b"/stream", b"/busy"])
async def test_a_client_that_vanishes_is_one_line_at_debug(
    serving: Serving,
    caplog: pytest.LogCaptureFixture,
    logged: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    kind: str,
    path: bytes,
) -> None:
    """However the kernel calls it: no traceback, and counted."""
    connections: list[Any] = []
    run = Connection.run

    async def noted(self: Any) -> None:
        connections.append(self)
        await run(self)

    monkeypatch.setattr(Connection, "run", noted)
    async with serving() as server:
        connections.clear()
        logged.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET.replace(b"/ ", path + b" ", 1))
        await reader.readuntil(b"\r\n\r\n")
        connections[0].writer.transport._fatal_error(error)  # as the event loop does when the socket has it
        await server.nothing_left()
        assert [kind] == server.seen.lost
        writer.close()
    assert [] == [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert [("client vanished", "debug", kind)] == [(e["event"], e["log_level"], e["error"]) for e in logged]


async def test_a_reset_by_a_real_client_is_counted(serving: Serving) -> None:
    """A socket that is closed with something unread, or by a process that is killed."""
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET.replace(b"/ ", b"/busy "))
        await reader.readuntil(b"\r\n\r\n")
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await server.nothing_left()
        assert ["reset"] == server.seen.lost


async def test_a_connection_that_closes_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client takes nothing of what it was sent before; at last it is cut."""
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.1)
    closed = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        build: Callable[..., Any] = Connection
        ending = build(None, asyncio.get_running_loop(), ServerConfig(), None, {}, reader, writer)
        writer.write(b"x" * 50_000_000)
        await ending._close()
        closed.set()

    async with await asyncio.start_server(accept, "127.0.0.1", port := free_port()):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        await asyncio.wait_for(closed.wait(), 5)
        writer.close()


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


async def test_a_failure_of_ours_ends_one_connection(
    serving: Serving, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and nothing left."""

    async def fail(_self: Any, _data: bytes) -> None:
        msg = "a bug"
        raise ValueError(msg)

    async with serving() as server:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "_write", fail)
            await lasts(server, GET)
        await until(lambda: any(e["event"] == "a connection failed" for e in logged), "the line", 5)
        await server.nothing_left()
        assert b" 200 " in (await lasts(server, GET.replace(b"host", b"connection: close\r\nhost")))[1]
    assert not any("exc_info" in entry for entry in logged)
