"""One stream as an HTTP response: sse-starlette sends, beats and listens; the reader says what."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from restate_pubsub.protocol.sse import HEARTBEAT, heartbeat_event, opening

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from restate_pubsub.web.sse_reader import SseReader

HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
"""What every stream carries. `no-transform` keeps proxies that compress from holding events back; nginx, which may
buffer, wants to be told by a header of its own."""
MEDIA_TYPE = "text/event-stream"


class _Encoded(ServerSentEvent):
    """A heartbeat as it goes over the wire: sse-starlette would end a comment with a blank line."""

    def __init__(self, wire: bytes) -> None:
        super().__init__()
        self._wire = wire

    def encode(self) -> bytes:
        return self._wire


class StreamResponse(EventSourceResponse):
    """Streams a reader's frames; whatever happens, the reader is closed at the end."""

    def __init__(
        self,
        reader: SseReader,
        *,
        retry: float,
        heartbeat: float,
        visible_heartbeats: bool = False,
        send_timeout: float,
        on_slow: Callable[[], None],
        lasts: float | None = None,
        ends: AsyncExitStack | None = None,
    ) -> None:
        """Times are in seconds; the stream ends after `lasts`, if given.

        Heartbeats are comments, or events if they are to be visible; the first of those comes at once. `on_slow` is
        told of a reader that was cut off; `ends` is closed at the end, whichever it is.
        """
        self._reader = reader
        self._patience = send_timeout
        self._on_slow = on_slow
        self._lasts = lasts
        self._ends = ends
        event = heartbeat_event(heartbeat) if visible_heartbeats else b""
        beat = _Encoded(event or HEARTBEAT)
        super().__init__(
            _frames(_opening(retry), event, reader),
            headers=HEADERS,
            ping=heartbeat,
            ping_message_factory=lambda: beat,
            sep="\n",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the topic ends, the client goes, its time is up, or it takes nothing for too long."""
        end = None
        if self._lasts is not None:
            end = asyncio.get_running_loop().call_later(self._lasts, self._reader.stop)
        try:
            await (super().__call__(scope, receive, send) if scope["method"] == "HEAD" else self._run(receive, send))
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
            sends = _Sends(send, self._patience, group.cancel_scope.cancel)
            try:
                group.start_soon(_then_cancel, self._ping, sends, group.cancel_scope)
                group.start_soon(_then_cancel, self._listen_for_disconnect, receive, group.cancel_scope)
                await self._stream_response(sends)
                group.cancel_scope.cancel()
            finally:
                sends.close()
        if sends.expired:
            self._on_slow()

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        """Send: the time is `_Sends`' business. sse-starlette makes a scope for each send, a fifth of its CPU."""
        await send(message)


class _Sends:
    """An ASGI `send` that looks after itself: when the client has taken nothing for `seconds`, it calls `expire`.

    One timer watches whatever is being sent, so that a send costs no timer of its own.
    """

    def __init__(self, send: Send, seconds: float, expire: Callable[[], None]) -> None:
        """Nothing is watched before the first send."""
        self.expired = False
        self._send = send
        self._seconds = seconds
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._under_way = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, message: Message) -> None:
        """Send one message. A heartbeat may be sent at the same time."""
        if not self._under_way:
            self._since = self._loop.time()
        self._under_way += 1
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)
        try:
            await self._send(message)
        finally:
            self._under_way -= 1
            if self._under_way:
                self._since = self._loop.time()

    def close(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._under_way:
            return  # the next send starts the timer again
        left = self._since + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.expired = True
            self._expire()


async def _then_cancel(part: Callable[[Any], Awaitable[None]], channel: Any, scope: anyio.CancelScope) -> None:
    await part(channel)
    scope.cancel()


def come_back(retry: float) -> Response:
    """Return a stream that ends at once: a browser comes back after `retry`, where it would give up on any error."""
    return Response(_opening(retry), headers=HEADERS, media_type=MEDIA_TYPE)


def _opening(retry: float) -> bytes:
    # Each stream has a time of its own, so that those that lose a connection together come back apart.
    return opening(int(random.uniform(1.0, 2.0) * retry * 1000))  # noqa: S311 - spreads load


async def _frames(first: bytes, beat: bytes, reader: SseReader) -> AsyncIterator[bytes]:
    """Yield the opening, in one write with what the reader has without waiting, and then what comes.

    `beat` is a visible heartbeat, or nothing. It follows the opening, or carries the id of where the stream begins.
    """
    chunks = reader.chunks()
    waiting = asyncio.ensure_future(anext(chunks, b""))
    try:
        await asyncio.sleep(0)  # one turn is enough for a reader that need not wait
        if not waiting.done():
            yield first + beat
            first = b""
        chunk = await waiting
    finally:
        waiting.cancel()
    if chunk and reader.start.kind != "offset":  # it is an id that stands alone
        yield first + (chunk.removesuffix(b"\n") + beat if beat else chunk)
    elif first or chunk:
        yield first + (beat if first else b"") + chunk
    async for chunk in chunks:
        yield chunk
