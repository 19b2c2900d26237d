"""HTTP/1.1: targets, upgrades, pipelining."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest

from unit.server.conftest import Server, Serving


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test here is a reason to log anything."""
    caplog.set_level(logging.INFO)
    yield
    assert [] == [
        record.getMessage() for record in caplog.get_records("call") if record.exc_info or record.levelno > logging.INFO
    ]


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def exchange(server: Server, sent: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes, or a second passes after the last of it."""
    async with connected(server) as (reader, writer):
        writer.write(sent)
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while data := await asyncio.wait_for(reader.read(65536), 0.3 if got else 5):
                got += data
        return got


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        (b"/a?b=c", "/a", b"b=c", b"test"),
        (b"http://other:80/a/b?c=d", "/a/b", b"c=d", b"other:80"),
        (b"HTTPS://other", "/", b"", b"other"),
        (b"http://other?x=1", "/", b"x=1", b"other"),
        (b"http://other//a", "//a", b"", b"other"),
    ],
)
async def test_a_target_may_be_absolute(serving: Serving, target: bytes, path: str, query: bytes, host: bytes) -> None:
    """As proxies are asked; its authority wins over the header (RFC 9112, section 3.2.2)."""
    async with serving() as server:
        got = await exchange(server, b"GET " + target + b" HTTP/1.1\r\nhost: test\r\n\r\n")
        scope = server.app.scopes[0]
    assert got.startswith(b"HTTP/1.1 200")
    assert (path, query) == (scope["path"], scope["query_string"])
    assert target.partition(b"?")[0].endswith(scope["raw_path"].rstrip(b"/"))
    assert [host] == [value for name, value in scope["headers"] if name == b"host"]


@pytest.mark.parametrize(
    "upgrade",
    [
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n",
        b"connection: upgrade\r\nupgrade: websocket\r\n",
        b"connection: upgrade\r\nupgrade: TLS/1.0\r\n",
    ],
)
async def test_no_upgrade_is_accepted(serving: Serving, upgrade: bytes) -> None:
    """The request is served as it is; what follows is another request of the same protocol."""
    async with serving() as server:
        asked = b"GET / HTTP/1.1\r\nhost: test\r\n" + upgrade + b"\r\n"
        got = await exchange(server, asked + b"GET /next HTTP/1.1\r\nhost: test\r\n\r\n")
        assert ["/", "/next"] == [scope["path"] for scope in server.app.scopes]
        assert {"http"} == {scope["type"] for scope in server.app.scopes}
    assert 2 == got.count(b"HTTP/1.1 200")
    assert b" 101 " not in got


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\nx: y\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost: t\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nhost: t\r\n\r\n", 400),
        (b"G\xcbT / HTTP/1.1\r\nhost: t\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: t\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_is_answered_with_a_problem(serving: Serving, sent: bytes, status: int) -> None:
    """A document, and counted; then the connection is closed."""
    async with serving() as server:
        got = await exchange(server, sent)
        last = got[got.rindex(b"HTTP/1.1 ") :]
        head, _, body = last.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        problem = json.loads(body)
        assert [problem["code"]] == server.seen.codes
        assert status == problem["status"]
        await server.nothing_left()


@pytest.mark.parametrize(
    "sent",
    [
        b"HEAD / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello",
        b"OPTIONS * HTTP/1.1\r\nhost: t\r\n\r\n",
        b"CONNECT test:443 HTTP/1.1\r\nhost: t\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
        b"POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n",
    ],
)
async def test_what_is_unusual_is_served(serving: Serving, sent: bytes) -> None:
    """By the application, or at least without a fault."""
    async with serving() as server:
        got = await exchange(server, sent)
        assert b"HTTP/1.1 200" in got
        await server.nothing_left()


async def test_pipelined_requests_are_answered_in_order(serving: Serving) -> None:
    """Also where a large body waits behind a slow answer."""
    large = b"x" * 1_000_000
    async with serving() as server, connected(server) as (reader, writer):
        writer.write(b"POST /unread HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\nab")
        writer.write(b"POST /second HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n" % len(large) + large)
        writer.write(b"GET /third HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        server.app.release.set()
        got = await asyncio.wait_for(reader.read(-1), 10)
        assert ["/unread", "/second", "/third"] == [scope["path"] for scope in server.app.scopes]
    assert 3 == got.count(b"HTTP/1.1 200")
    assert got.index(b"\r\nab\r\n") < got.index(b"x" * 1000) < got.index(b"\r\ndone\r\n")


@pytest.mark.parametrize("behind", [1, 100])
async def test_pipelined_requests_behind_a_stream_leave_nothing(serving: Serving, behind: int) -> None:
    """The client goes; what waited for the stream's end is not begun."""
    asked = b"GET /stream HTTP/1.1\r\nhost: t\r\n\r\n"
    async with serving() as server:
        for _ in range(20):
            async with connected(server) as (reader, writer):
                writer.write(asked + asked * behind)
                await reader.readuntil(b"first")
        await server.nothing_left()
        assert 20 == len(server.app.scopes)


@pytest.mark.parametrize("parts", [2, 5])
@pytest.mark.parametrize("behind", [b"G", b"x" * 1000, b"x" * 60_000], ids=["a byte", "some", "more than is read"])
@pytest.mark.parametrize("path", [b"/stream", b"/busy"])
@pytest.mark.parametrize("reset", [True, False])
async def test_bytes_behind_a_stream_do_not_hide_that_its_client_goes(
    serving: Serving, path: bytes, behind: bytes, parts: int, *, reset: bool
) -> None:
    """In however many pieces they come: the stream ends, and what came is not begun."""
    asked = b"GET " + path + b" HTTP/1.1\r\nhost: t\r\n\r\n"
    async with serving() as server:
        for _ in range(3):
            async with connected(server) as (reader, writer):
                writer.write(asked + asked)
                await reader.readuntil(b"first")
                for _ in range(parts):
                    writer.write(behind)
                    await asyncio.sleep(0.02)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
        await server.nothing_left()
        assert 3 == len(server.app.scopes)


@pytest.mark.parametrize("path", [b"/stream", b"/busy", b"/unread"])
async def test_clients_that_vanish_leave_nothing(serving: Serving, path: bytes) -> None:
    """Also in the middle of a body."""
    async with serving() as server:
        for how in (b"content-length: 0", b"transfer-encoding: chunked", b"content-length: 9999999"):
            async with connected(server) as (_, writer):
                writer.write(b"POST " + path + b" HTTP/1.1\r\nhost: t\r\n" + how + b"\r\n\r\n")
                if not how.endswith(b"0"):
                    writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                await asyncio.sleep(0.05)
                writer.transport.abort()
        server.app.release.set()
        await server.nothing_left()


async def test_the_head_goes_out_with_what_follows_at_once(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """One segment for a short answer, and for what a stream says first."""
    async with serving() as server:
        written: list[bytes] = []
        write = asyncio.StreamWriter.write

        def recorded(self: asyncio.StreamWriter, data: bytes) -> None:
            written.append(bytes(data))
            write(self, data)

        for path, last in ((b"/", b"0\r\n\r\n"), (b"/stream", b"first\r\n")):
            async with connected(server) as (reader, writer):
                writer.write(b"GET " + path + b" HTTP/1.1\r\nhost: t\r\n\r\n")
                with monkeypatch.context() as patch:
                    patch.setattr(asyncio.StreamWriter, "write", recorded)
                    await reader.readuntil(last)
                assert 1 == len(written)
                written.clear()
