"""Connections that were taken over: what the client reads, who is told of its end, and what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.server.hypercorn_fixes import handing_over
from restate_pubsub.server.hypercorn_fixes.connection import Connection
from restate_pubsub.server.hypercorn_fixes.http1 import Http1
from restate_pubsub.server.wires import IGNORED_BYTES
from support.waiting import until
from unit.server.conftest import Server, Serving, Taker

GET = b"GET /wire HTTP/1.1\r\nhost: t\r\n\r\n"
HEAD = b"\r\n\r\n"
PATIENCE = 0.4


class Client:
    """A client of one server, on a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, taker: Taker) -> None:
        self.reader, self.writer, self.taker = reader, writer, taker

    async def chunk(self) -> bytes:
        """Return one chunk's data, read by the book."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def is_told(self, *words: str) -> None:
        """Wait until the taker was told this."""
        await until(lambda: self.taker.told == list(words), f"{words}, not {self.taker.told}", 5)


async def opened(server: Server, request: bytes = GET) -> Client:
    """Open a stream, and wait until its connection is taken over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**26)
    writer.write(request)
    count = len(server.app.takers)
    await until(lambda: len(server.app.takers) > count and server.app.takers[-1].wire, "the wire", 5)
    taker = server.app.takers[-1]
    assert taker.wire is not None
    taker.wire.write(b"first")
    head = await reader.readuntil(HEAD)
    assert head.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding: chunked" in head.lower()
    client = Client(reader, writer, taker)
    assert b"first" == await client.chunk()
    return client


@pytest.fixture
async def server(serving: Serving) -> AsyncIterator[Server]:
    async with serving(patience=PATIENCE) as server:
        yield server


async def test_what_is_written_is_chunks_and_the_end_is_the_connection_s(server: Server) -> None:
    """No task serves it meanwhile."""
    client = await opened(server)
    assert client.taker.wire is not None
    await server.nothing_left()
    client.taker.wire.write(b"x" * 300_000)
    client.taker.wire.write(b"")  # a chunk of nothing would be the end
    client.taker.wire.write(b"last")
    assert (b"x" * 300_000, b"last") == (await client.chunk(), await client.chunk())
    client.taker.wire.end()
    assert b"0\r\n\r\n" == await client.reader.read()
    client.writer.close()
    assert client.taker.offered
    await client.is_told(*[word for word in client.taker.told if word == "room"], "gone")


@pytest.mark.parametrize("way", ["closes", "closes its side", "resets"])
async def test_a_client_that_goes_is_told_once(server: Server, way: str) -> None:
    """However it goes; nothing is left of it."""
    client = await opened(server)
    if way == "resets":
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
    elif way == "closes its side":
        client.writer.write_eof()
    else:
        client.writer.close()
    await client.is_told("gone")
    client.writer.close()
    assert (["reset"] if way == "resets" else []) == server.seen.lost
    client.taker.wire.write(b"too late")  # type: ignore[union-attr]
    await server.nothing_left()


async def test_a_client_that_takes_nothing_is_cut_and_told_as_slow(server: Server) -> None:
    """One that takes little, again and again, is not, in the same time."""
    frozen, slow = await opened(server), await opened(server)
    for client in (frozen, slow):
        wire = client.taker.wire
        assert wire is not None
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(200):
            wire.write(bytes(100_000))
        assert wire.full
    sock = slow.writer.get_extra_info("socket").dup()
    taken = 0
    while not frozen.taker.told:
        with contextlib.suppress(BlockingIOError):
            taken += len(sock.recv(1 << 19))
        await asyncio.sleep(PATIENCE / 16)
    await frozen.is_told("slow", "gone")
    assert 0 < taken < 200 * 100_000
    assert "slow" not in slow.taker.told
    sock.close()
    for client in (frozen, slow):
        client.writer.transport.abort()


async def test_a_wire_with_room_again_says_so(server: Server) -> None:
    """And it was full before."""
    client = await opened(server)
    wire = client.taker.wire
    assert wire is not None
    parts = 0
    while not wire.full:
        wire.write(bytes(100_000))
        parts += 1
    for _ in range(parts):
        await client.chunk()
    await client.is_told("room")
    assert not wire.full
    client.writer.close()


async def test_what_comes_behind_the_request_is_no_request(server: Server) -> None:
    """The answer said that it is the last one. A client that sends on and on is cut."""
    client = await opened(server, GET + GET)
    client.writer.write(GET)
    assert client.taker.wire is not None
    client.taker.wire.write(b"second")
    assert b"second" == await client.chunk()
    assert 1 == len(server.app.takers)
    client.writer.write(bytes(IGNORED_BYTES))
    await client.is_told("gone")
    client.writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /wire HTTP/1.0\r\nhost: t\r\n\r\n",
        b"POST /wire HTTP/1.1\r\nhost: t\r\ncontent-length: 0\r\n\r\n",
        b"HEAD /wire HTTP/1.1\r\nhost: t\r\n\r\n",
    ],
)
async def test_other_requests_stay_with_the_server(server: Server, request_: bytes) -> None:
    """They are answered all the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_)
    assert (await reader.readuntil(HEAD)).startswith(b"HTTP/1.1 200")
    assert [] == server.app.takers
    writer.close()


async def test_a_request_whose_body_is_still_coming_stays_with_the_server(server: Server) -> None:
    """Its bytes are not those of a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /wire HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\n")
    await until(lambda: server.app.scopes, "the request", 5)
    writer.write(b"body")
    assert (await reader.readuntil(HEAD)).startswith(b"HTTP/1.1 200")
    assert b"4\r\nbody\r\n" == await reader.readexactly(9)
    assert [] == server.app.takers
    writer.close()


async def test_a_client_that_has_gone_before_is_not_handed_over(server: Server) -> None:
    """Whoever would have taken the connection is told so."""
    handed = asyncio.Event()
    kept = server.app.wire

    async def late(extensions: object, receive: object, send: object) -> None:
        await handed.wait()
        await kept(extensions, receive, send)  # type: ignore[arg-type]

    server.app.wire = late  # type: ignore[method-assign]
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(GET)
    await until(lambda: server.app.scopes, "the request", 5)
    writer.close()
    await asyncio.sleep(0.05)
    handed.set()
    await until(lambda: server.app.takers and server.app.takers[0].offered is not None, "an answer", 5)
    assert server.app.takers[0].offered is False
    assert [] == server.app.takers[0].told
    await server.nothing_left()


async def test_nothing_of_the_server_s_own_is_kept(server: Server) -> None:
    """Not its parser, not its tasks: that is what a stream that stands still would pay for."""
    gc.collect()
    before = {id(one) for one in gc.get_objects()}
    client = await opened(server)
    await server.nothing_left()
    server.app.scopes.clear()
    gc.collect()
    kept = [kind for one in gc.get_objects() if (kind := type(one)) in (Connection, Http1) and id(one) not in before]
    client.writer.close()
    assert [] == kept


async def test_opening_a_stream_leaves_nothing_to_the_collector(server: Server) -> None:
    """Circles of dead objects would make it walk all that the other streams hold."""
    clients = [await opened(server)]
    await server.nothing_left()
    gc.collect()
    gc.disable()
    try:
        clients += [await opened(server) for _ in range(10)]
        await server.nothing_left()
        server.app.scopes.clear()
        await until(lambda: gc.collect() == 0, "nothing to collect", 1)
        clients += [await opened(server) for _ in range(10)]
        await server.nothing_left()
        server.app.scopes.clear()
        assert gc.collect() < len(clients)
    finally:
        gc.enable()
    for client in clients:
        client.writer.close()


async def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another asyncio or hypercorn, streams stay where they are."""
    assert handing_over.missing() is None
    monkeypatch.setattr(handing_over, "TCPServer", type("TCPServer", (), {}))
    assert "hypercorn's TCPServer._read_data" == handing_over.missing()


@pytest.mark.parametrize("goes", ["closes", "closes its side", "resets"])
@pytest.mark.parametrize("behind", [b"", b"garbage", GET])
async def test_a_client_that_goes_right_behind_its_request_leaves_nothing(
    server: Server, goes: str, behind: bytes
) -> None:
    """Its end is there before its stream is, and no heartbeat has to find out."""
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    for client in clients:
        client.sendall(GET + behind)
        if goes == "closes its side":
            client.shutdown(socket.SHUT_WR)
            continue
        if goes == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    await server.nothing_left()
    await until(lambda: all("gone" in one.told for one in server.app.takers if one.offered), "the takers to be told", 1)
    for client in clients:
        client.close()
