"""One stream as an HTTP response: on a wire of its own, or with sse-starlette, which sends, beats and listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from restate_pubsub.protocol.sse import HEARTBEAT, heartbeat_event
from restate_pubsub.web.opening import Opening, opening_for
from restate_pubsub.web.pushed_stream import PushedStream
from restate_pubsub.web.wire import LAST, TAKE_OVER

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from restate_pubsub.web.beats import Beats
    from restate_pubsub.web.several.several_reader import SeveralReader
    from restate_pubsub.web.sse_reader import SseReader
    from restate_pubsub.web.views.view_reader import ViewReader

HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
"""What every stream carries. `no-transform` keeps proxies that compress from holding events back; nginx, which may
buffer, wants to be told by a header of its own."""
MEDIA_TYPE = "text/event-stream"
LAST_HEAD = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
    (b"connection", b"close"),
)
"""The head of a stream that takes its connection over, which ends with it."""


class _Encoded(ServerSentEvent):
    """A heartbeat as it goes over the wire: sse-starlette would end a comment with a blank line."""

    def __init__(self, wire: bytes) -> None:
        super().__init__()
        self._wire = wire

    def encode(self) -> bytes:
        return self._wire


class StreamResponse:
    """Streams a reader's frames; whatever happens, the reader is closed at the end.

    Where the server hands its connections over (`wire.py`), the response is over for everybody but the client as soon
    as its head is sent, and a `PushedStream` goes on.
    """

    def __init__(
        self,
        reader: SseReader | SeveralReader | ViewReader,
        *,
        retry: float,
        heartbeat: float,
        visible_heartbeats: bool = False,
        send_timeout: float,
        on_slow: Callable[[], None],
        lasts: float | None = None,
        beats: Beats | None = None,
        on_end: Callable[[], None] = lambda: None,
        headers: Mapping[str, str] = HEADERS,
    ) -> None:
        """Times are in seconds; the stream ends after `lasts`, if given.

        Heartbeats are comments, or events if they are to be visible; the first of those comes at once. `beats` are
        those of all streams that are handed over; without them this one is not. `on_slow` is told of a reader that was
        cut off, `on_end` of the end, whichever it is.
        """
        self._reader = reader
        self._heartbeat = heartbeat
        self._patience = send_timeout
        self._on_slow = on_slow
        self._lasts = lasts
        self._beats = beats
        self._on_end = on_end
        self._sent_headers = headers
        event = heartbeat_event(heartbeat) if visible_heartbeats else b""
        self._beat = event or HEARTBEAT
        self._opening = Opening(retry, beat=event, places=reader.start.kind != "offset")

    def leaves(self, scope: Scope) -> bool:
        """Whether it takes the request's connection over."""
        return self._beats is not None and TAKE_OVER in (scope.get("extensions") or ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the topic ends, the client goes, its time is up, or it takes nothing for too long."""
        if self._beats is None or not self.leaves(scope):
            await self._stay(receive, send)
            return
        take_over = scope["extensions"][TAKE_OVER]
        handed_over = False
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*LAST_HEAD], LAST: True})
            handed_over = await take_over(self._pushed(self._beats))
        finally:
            if not handed_over:
                self._reader.close()
                self._on_end()

    def _pushed(self, beats: Beats) -> PushedStream:
        return PushedStream(
            cast("SseReader | SeveralReader", self._reader),  # a view has no `beats`
            self._opening,
            beat=self._beat,
            beats=beats,
            lasts=self._lasts,
            on_slow=self._on_slow,
            on_end=self._on_end,
        )

    async def _stay(self, receive: Receive, send: Send) -> None:
        end = None
        if self._lasts is not None:
            end = asyncio.get_running_loop().call_later(self._lasts, self._reader.stop)
        try:
            response = _Sending(_frames(self._opening, self._reader), self._beat, self._heartbeat, self._sent_headers)
            slow = await response.run(receive, send, self._patience)
        finally:
            if end is not None:
                end.cancel()
            self._reader.close()
            self._on_end()
        if slow:
            self._on_slow()


class _Sending(EventSourceResponse):
    """Sends frames as any ASGI response does, with sse-starlette's heartbeats."""

    def __init__(self, frames: AsyncIterator[bytes], beat: bytes, heartbeat: float, headers: Mapping[str, str]) -> None:
        encoded = _Encoded(beat)
        super().__init__(frames, headers=headers, ping=heartbeat, ping_message_factory=lambda: encoded, sep="\n")

    async def run(self, receive: Receive, send: Send, patience: float) -> bool:
        """Run the stream in this task, with two more: sse-starlette's own way takes four.

        It watches for uvicorn's shutdown with one of them, which is not our server, and the hub ends our streams.
        Returns whether the client has taken nothing for too long.
        """
        async with anyio.create_task_group() as group:
            sends = _Sends(send, patience, group.cancel_scope.cancel)
            try:
                group.start_soon(_then_cancel, self._ping, sends, group.cancel_scope)
                group.start_soon(_then_cancel, self._listen_for_disconnect, receive, group.cancel_scope)
                await self._stream_response(sends)
                group.cancel_scope.cancel()
            finally:
                sends.close()
        return sends.expired

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
    return Response(opening_for(retry), headers=HEADERS, media_type=MEDIA_TYPE)


async def _frames(opening: Opening, reader: SseReader | SeveralReader | ViewReader) -> AsyncIterator[bytes]:
    """Yield the opening, in one write with what the reader has without waiting, and then what comes."""
    chunks = reader.chunks()
    waiting = asyncio.ensure_future(anext(chunks, b""))
    try:
        await asyncio.sleep(0)  # one turn is enough for a reader that need not wait
        if not waiting.done():
            yield opening.alone()
        chunk = await waiting
    finally:
        waiting.cancel()
    if first := opening.before(chunk) if chunk else opening.alone():
        yield first
    async for chunk in chunks:
        yield chunk
