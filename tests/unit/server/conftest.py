"""hypercorn with our fixes, around a small application, in this process: so its tasks can be counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import hypercorn.protocol
import pytest
from hypercorn.asyncio import run, serve

from restate_pubsub.server.hypercorn_fixes import UNLIMITED, ConnectionLimits, ServerConfig, install
from restate_pubsub.server.hypercorn_fixes.connection import kind_of
from restate_pubsub.server.wires import Wires
from restate_pubsub.web.wire import LAST, TAKE_OVER, Wire
from support.harness import free_port, listens
from support.waiting import until


class Seen:
    """Observes connections."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.lost: list[str] = []
        self.idle = 0

    def refused(self, code: str) -> None:
        self.codes.append(code)

    def connection_lost(self, error: str) -> None:
        self.lost.append(error)

    def connection_idle(self) -> None:
        self.idle += 1


class Taker:
    """Holds a wire, and notes what it is told."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.told: list[str] = []
        self.offered: bool | None = None

    def taken(self, wire: Wire) -> None:
        self.wire = wire

    def room(self) -> None:
        self.told.append("room")

    def slow(self) -> None:
        self.told.append("slow")

    def gone(self) -> None:
        self.told.append("gone")


class App:
    """An ASGI application for tests: what it does, a request's path says."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.ended = 0
        self.release = asyncio.Event()
        self.takers: list[Taker] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.scopes.append(scope)
        try:
            answers: dict[str, Any] = {
                "/stream": self.stream,
                "/busy": self.busy,
                "/unread": self.unread,
                "/early": self.early,
                "/broken": self.broken,
                "/large": self.large,
                "/wire": partial(self.wire, scope["extensions"]),
            }
            await answers.get(scope["path"], self.echo)(receive, send)
        finally:
            self.ended += 1

    async def echo(self, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        await answer(send, body or b"done")

    async def stream(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    async def busy(self, receive: Any, send: Any) -> None:
        """Stream something all the time, so that something is sent to a client that has just gone."""
        listening = asyncio.create_task(self.stream(receive, send))
        while not listening.done():
            await asyncio.wait({listening}, timeout=0.005)
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

    async def unread(self, receive: Any, send: Any) -> None:
        await self.release.wait()
        await self.echo(receive, send)

    async def early(self, _receive: Any, send: Any) -> None:
        await answer(send, b"no")

    async def broken(self, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})

    async def wire(self, extensions: dict[str, Any], receive: Any, send: Any) -> None:
        """Take the connection over, where that is offered."""
        if TAKE_OVER not in extensions:
            await self.echo(receive, send)
            return
        taker = Taker()
        self.takers.append(taker)
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, LAST: True})
        taker.offered = await extensions[TAKE_OVER](taker)

    async def large(self, _receive: Any, send: Any) -> None:
        await answer(send, b"x" * 100_000)


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Server:
    """A running server."""

    def __init__(self, port: int, app: App, seen: Seen, tasks: int) -> None:
        self.port = port
        self.app = app
        self.seen = seen
        self._tasks = tasks

    async def nothing_left(self) -> None:
        """Wait until no task is left of any connection."""
        await until(lambda: len(asyncio.all_tasks()) <= self._tasks, "all tasks to end", 5)


Serving = Callable[..., contextlib.AbstractAsyncContextManager[Server]]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Return what starts a server with the fixes; afterwards hypercorn is as it was."""
    places = ((hypercorn.protocol, "H2Protocol"), (hypercorn.protocol, "H11Protocol"), (run, "TCPServer"))
    before = [(module, name, getattr(module, name)) for module, name in places]
    install()

    @contextlib.asynccontextmanager
    async def start(patience: float | None = None, **limits: Any) -> AsyncIterator[Server]:
        app, seen, port, stop = App(), Seen(), free_port(), asyncio.Event()
        config = ServerConfig()
        config.bind = [f"127.0.0.1:{port}"]
        config.errorlog = None
        config.keep_alive_max_requests = config.keep_alive_timeout = UNLIMITED
        config.limits, config.observer = ConnectionLimits(**limits), seen
        if patience is not None:
            config.wires = Wires(patience, lambda error: seen.connection_lost(kind_of(error)))
        task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
        await until(lambda: listens(port), "the server to listen")
        await asyncio.sleep(0.05)  # the connection that found it listening has gone
        try:
            yield Server(port, app, seen, len(asyncio.all_tasks()))
        finally:
            stop.set()
            await task

    yield start
    for module, name, value in before:
        setattr(module, name, value)
