"""One stream as an HTTP response: sse-starlette sends, beats and listens; the reader says what."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response

from restate_pubsub.frames import opening

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from restate_pubsub.hub import Reader

_BEAT = ServerSentEvent(comment="", sep="\n")


class StreamResponse(EventSourceResponse):
    """Streams a reader's frames; whatever happens, the reader is closed at the end."""

    def __init__(
        self,
        reader: Reader,
        *,
        retry: float,
        heartbeat: float,
        send_timeout: float,
        on_slow: Callable[[], None],
        lasts: float | None = None,
        ends: AsyncExitStack | None = None,
    ) -> None:
        """Times are in seconds; the stream ends after `lasts`, if given.

        `on_slow` is told of a reader that was cut off; `ends` is closed at the end, whichever it is.
        """
        self._reader = reader
        self._on_slow = on_slow
        self._lasts = lasts
        self._ends = ends
        super().__init__(
            _frames(_opening(retry), reader),
            ping=heartbeat,
            ping_message_factory=lambda: _BEAT,
            send_timeout=send_timeout,
            sep="\n",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the topic ends, the client goes, its time is up, or it takes nothing for too long."""
        end = None
        if self._lasts is not None:
            end = asyncio.get_running_loop().call_later(self._lasts, self._reader.stop)
        try:
            await (super().__call__(scope, receive, send) if scope["method"] == "HEAD" else self._run(receive, send))
        except* SendTimeoutError:
            self._on_slow()
        finally:
            if end is not None:
                end.cancel()
            self._reader.close()
            if self._ends is not None:
                await self._ends.aclose()

    async def _run(self, receive: Receive, send: Send) -> None:
        """Run the stream in this task, with two more: sse-starlette's own way takes four.

        It watches for uvicorn's shutdown with one of them, which is not our server, and the hub ends our streams.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(_then_cancel, self._ping, send, group.cancel_scope)
            group.start_soon(_then_cancel, self._listen_for_disconnect, receive, group.cancel_scope)
            await self._stream_response(send)
            group.cancel_scope.cancel()


async def _then_cancel(part: Callable[[Any], Awaitable[None]], channel: Any, scope: anyio.CancelScope) -> None:
    await part(channel)
    scope.cancel()


def come_back(retry: float) -> Response:
    """Return a stream that ends at once: a browser comes back after `retry`, where it would give up on any error."""
    return Response(_opening(retry), headers={"cache-control": "no-store"}, media_type="text/event-stream")


def _opening(retry: float) -> bytes:
    # Each stream has a time of its own, so that those that lose a connection together come back apart.
    return opening(int(random.uniform(1.0, 2.0) * retry * 1000))  # noqa: S311 - spreads load


async def _frames(first: bytes, reader: Reader) -> AsyncIterator[bytes]:
    yield first
    async for chunk in reader.chunks():
        yield chunk
