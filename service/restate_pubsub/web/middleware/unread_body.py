"""Requests that are answered before their body was read: the rest is thrown away, so that nothing waits for it.

hypercorn 0.18 queues a body for the application, and its connection stands still for good when an application that has
answered leaves that queue full. And whoever is still sending when the connection closes may lose the answer.

To be dropped with the hypercorn that takes such a body itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 2.0
LINGER_BYTES = 16 * 1024 * 1024
"""So much more of a body is taken after the answer: for most senders enough to come to the end and read it."""


class DrainUnreadBody:
    """ASGI middleware: takes what an application left of a request's body."""

    def __init__(self, app: ASGIApp, *, restate_path: str) -> None:
        """Under `restate_path` only refusals count: an invocation is read and answered at the same time."""
        self._app = app
        self._restate = restate_path + "/"
        self._draining: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand everything on; before the end of an answer, see to the rest of the body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exempt = scope["path"].startswith(self._restate)
        unread = True

        async def reading() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal exempt
            if message["type"] == "http.response.start" and message["status"] >= 400:
                exempt = False
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not ends or exempt or not unread:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _linger(reading, lambda: unread)
            if unread:
                task = asyncio.create_task(_to_the_end(receive))
                self._draining.add(task)
                task.add_done_callback(self._draining.discard)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, reading, sending)


async def _linger(receive: Receive, unread: Callable[[], bool]) -> None:
    taken = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while unread() and taken < LINGER_BYTES:
                taken += len((await receive()).get("body", b""))
    except TimeoutError:
        return


async def _to_the_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
