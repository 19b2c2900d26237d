"""Servers that stand where Restate should be: one that answers as told, a proxy as companies have them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp import web

Answer = tuple[int, str, bytes]
JSON, HTML = "application/json", "text/html"


@dataclass
class Odd:
    """A server that answers `answers(request)`: status, content type, body; what it was asked is kept."""

    answers: Callable[[web.Request], Answer]
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextlib.asynccontextmanager
async def odd(answers: Callable[[web.Request], Answer]) -> AsyncIterator[Odd]:
    """Run it."""
    server = Odd(answers)

    async def answer(request: web.Request) -> web.Response:
        server.asked.append((request.method, request.path))
        server.keys.append(request.headers.get("idempotency-key"))
        await request.read()
        status, kind, body = server.answers(request)
        return web.Response(status=status, body=body, headers={"content-type": kind} if kind else {})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def threaded(body: bytes) -> Iterator[tuple[str, set[Any]]]:
    """Run a server in a thread of its own, beside any event loop; give its URL, and the connections it has now."""
    connections: set[Any] = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.add(self)
            super().setup()

        def finish(self) -> None:
            super().finish()
            connections.discard(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", JSON)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", connections
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class CompanyProxy:
    """A forward proxy: absolute-form requests and CONNECT, every host name leading to this machine.

    `asked` holds the request lines. With a `password` it wants `user:password`.
    """

    def __init__(self, target: int, password: str | None = None) -> None:
        """Whatever is asked for is fetched from port `target`."""
        self.asked: list[str] = []
        self.url = ""
        self._target = target
        self._wanted = None
        if password is not None:
            self._wanted = b"Basic " + base64.b64encode(f"user:{password}".encode())
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop."""
        assert self._server is not None
        self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, _, rest = head.partition(b"\r\n")
            method, target, version = line.decode().split(" ")
            self.asked.append(f"{method} {target}")
            if self._wanted is not None and b"proxy-authorization: " + self._wanted.lower() not in rest.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                writer.close()
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = urlsplit(target).path
                far_writer.write(f"{method} {path} {version}\r\n".encode() + rest)
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
