"""A request's body that stands still holds a task and a place: after a time it is answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from restate_pubsub.web.errors import RequestTimeout

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyTimeout:
    """ASGI middleware: whoever reads a body that brings nothing for too long gets a `RequestTimeout`.

    Not for what only listens for the client to go (GET and HEAD), and not for invocations, whose bodies stay open for
    as long as they last.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, restate_path: str) -> None:
        """Wait for so long; 0 is for ever."""
        self._app = app
        self._seconds = seconds
        self._restate = restate_path + "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand everything on."""
        if (
            scope["type"] != "http"
            or not self._seconds
            or scope["method"] in ("GET", "HEAD")
            or scope["path"].startswith(self._restate)
        ):
            await self._app(scope, receive, send)
            return
        more = True

        async def reading() -> Message:
            nonlocal more
            if not more:  # from here on it waits for the client to go
                return await receive()
            try:
                async with asyncio.timeout(self._seconds):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout(self._seconds) from None
            more = bool(message.get("more_body", False))
            return message

        await self._app(scope, reading, send)
