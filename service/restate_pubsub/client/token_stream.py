"""Tokens into a topic as fast as they come: the first at once, and while a call is in flight the next batch gathers.

So no rate of tokens needs more than one call at a time, and a lone token waits for nobody. Where calls are slow,
because Restate has much to do, a batch gathers a little longer (`Pace`). Every batch carries an idempotency key, so
that a call that is tried again never doubles a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any, Protocol, Self

from restate_pubsub.backoff import Backoff
from restate_pubsub.errors import CallAborted, InvalidRequest, PubsubError, StreamFailed, StreamStopped, Unavailable
from restate_pubsub.protocol import messages, names
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.digest import digest
from restate_pubsub.protocol.joined import JOINED_MAX_BYTES, check_field, joined, runs
from restate_pubsub.protocol.json_text import compact, dump

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from restate_pubsub.client.stop_watch import WaitForStop
    from restate_pubsub.protocol.limits import Limits
    from restate_pubsub.protocol.messages import Message

WAITING_BYTES = 1024 * 1024
WAITING_MESSAGES = 10_000
"""A writer that is this far ahead of Restate waits."""

PACE = 2.0
"""How many mean calls lie between the beginnings of two calls of one stream.

Streams that call again at once only queue up behind one another when a machine is full: their calls wait, and carry no
more tokens for it. Measured with 30 streams of 50 tokens/s on two cores, against none of it: p50 and p95 12 to 18 %
earlier; with 10 streams, p50 11 % earlier and 10 % less CPU. At 3 the machine rests more, and tokens are no earlier."""
RECOUNTS = 5
"""How often a counted stream sends a batch again whose call an operator has ended."""
LONGEST_PAUSE = 0.25
"""Seconds that a batch gathers at most by itself; a call that took longer counts as one of this length, as after an
outage calls are not slow any more."""
LONGEST_LINGER = 10.0


def check_linger(seconds: float) -> float:
    """Return the least time between two calls of a stream, in seconds.

    Raises:
        InvalidRequest: it is not between 0 and 10.

    """
    if not 0 <= seconds <= LONGEST_LINGER:
        msg = f"linger: {seconds!r} is not between 0 and {LONGEST_LINGER:g} seconds"
        raise InvalidRequest(msg)
    return seconds


class Pace:
    """How long a stream's next batch gathers: until `PACE` mean calls have passed since the last one began.

    And at least until `linger` seconds have.
    """

    def __init__(self, linger: float = 0.0) -> None:
        """Start without a pause."""
        self._mean = 0.0
        self._linger = linger

    def after(self, took: float) -> float:
        """Return the seconds to wait after a call that took `took` seconds; nothing after one that was slow itself."""
        self._mean += (min(took, LONGEST_PAUSE) - self._mean) / 8
        gathers = min(max(PACE * self._mean - took, 0.0), LONGEST_PAUSE)
        return max(gathers, self._linger - took)


class Appended(Protocol):
    """Where a batch went."""

    @property
    def offset(self) -> int:
        """The offset of its first message."""

    @property
    def next_offset(self) -> int:
        """The offset after its last message."""


class Appender(Protocol):
    """What a stream needs of a client: an append that tries again by itself, and raises what is final."""

    async def append_encoded(
        self,
        topic: str,
        messages: Sequence[Message],
        *,
        close: bool = False,
        stream: StreamRef | None = None,
        join: str | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append a batch."""


class TokenStream:
    """A writer of one topic, to be used as an async context manager; leaving the block flushes.

    `offset` is where the stream's first message went, `next_offset` the end of what is acknowledged, None before
    the first. `acknowledged` and `written` count what was given to `write`.
    """

    def __init__(
        self,
        appender: Appender,
        topic: str,
        limits: Limits,
        *,
        stream_id: str | None = None,
        resume: bool = False,
        close: bool = False,
        linger: float = 0.0,
        join: str | None = None,
        stops: WaitForStop | None = None,
    ) -> None:
        """See `PubsubClient.stream`. `stops` tells of a stop whoever writes nothing.

        `resume` makes it a counted stream (`topic/streams.py`).
        """
        check_field(join)
        names.check_topic(topic, limits)
        if stream_id is not None:
            names.check_stream_id(stream_id)
        self.offset: int | None = None
        self.next_offset: int | None = None
        self.acknowledged = 0
        self.written = 0
        self.unstopped_until = 0
        """No stop of this stream lies before this offset."""
        self.heard_at = float("-inf")
        """When its last call was answered, by the loop's clock."""
        self._stops = stops
        self._asks: int | None = None
        self._stopped: asyncio.Future[StreamStopped | None] | None = None
        self._appender = appender
        self._topic = topic
        self._limits = limits
        self._id = stream_id
        self._resume = resume
        self._close = close
        self._join = join
        self._attempt = uuid.uuid4().hex
        self._calls = 0
        self._digest = ""
        self._cut = False
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._pace = Pace(check_linger(linger))
        self._more = asyncio.Event()
        self._enough = asyncio.Event()  # for a call, whatever the pace
        self._room = asyncio.Event()
        self._room.set()
        self._inflight = 0
        self._done = False
        self._failed: StreamFailed | StreamStopped | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the stream, if it has an id, and begin to send.

        Opening it fixes the order of attempts: from now on those that were opened before are refused.

        Raises:
            InvalidRequest: it was entered before; a stream is written once.
            StreamStopped: the stream was stopped, perhaps before an earlier attempt of it had ended.
            PubsubError: it cannot be opened; nothing was written.

        """
        if self._task is not None:
            msg = "stream: this one was used before; open another with client.stream(…)"
            raise InvalidRequest(msg)
        if self._id is not None and not self._resume:
            opening = StreamRef(self._id, self._attempt, first=True)
            opened = await self._appender.append_encoded(
                self._topic, (), stream=opening, idempotency_key=f"{self._attempt}-open"
            )
            self._heard(opened.next_offset)
        self._task = asyncio.create_task(self._send(), name=f"token stream to {self._topic}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits, and close the topic if asked to; an exception in the block closes nothing.

        Raises:
            StreamFailed: not everything that was written is in the topic.
            StreamStopped: nor is it, as somebody stopped the stream.

        """
        if isinstance(error, asyncio.CancelledError):
            await self._abandon()
            return
        if error is not None:
            self.keep_open()
        try:
            await self._flush()
        except (StreamFailed, StreamStopped):
            if error is None:
                raise

    @property
    def stream_id(self) -> str:
        """The stream's name; empty where it has none."""
        return self._id or ""

    @property
    def stopped(self) -> asyncio.Future[StreamStopped | None]:
        """What is done when somebody stops this stream, for a writer whose model is silent.

        Its result is the `StreamStopped` that ends the block; None if the stream ends without it: its block is left, or
        the topic was closed, which the block raises as well. It is there within a second of the stop. Waiting for it
        costs the client one reader of the topic, however many of its streams wait there, and no call for a stream that
        writes.

        Raises:
            InvalidRequest: the stream has no id, so that nobody can stop it; or its block has not begun.

        """
        if self._id is None or self._stops is None:
            msg = "stream: one without an id cannot be stopped: open it with id=… or step=ctx"
            raise InvalidRequest(msg)
        if self._task is None:
            msg = "stream: wait for `stopped` within `async with client.stream(…) as stream:`"
            raise InvalidRequest(msg)
        if self._stopped is None or self._stopped.cancelled():
            if self._task.done() or self._failed is not None:
                self._stopped = asyncio.get_running_loop().create_future()
                self._settle()
            else:
                self._stopped = self._stops(self._topic, self)
        return self._stopped

    def _heard(self, next_offset: int) -> None:
        """Note an answer: a stream that was stopped before would have been refused."""
        self.unstopped(next_offset)
        self.heard_at = asyncio.get_running_loop().time()

    def unstopped(self, until: int) -> None:
        """Note that no stop of this stream lies before an offset."""
        self.unstopped_until = max(self.unstopped_until, until)

    def ask(self, until: int) -> None:
        """Call the topic although there is nothing to write; unless it refuses, there was no stop before `until`."""
        self._asks = until
        self._more.set()
        self._enough.set()

    def _settle(self) -> None:
        """End the wait for a stop."""
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(self._failed if isinstance(self._failed, StreamStopped) else None)

    async def write(self, data: Any, *, event: str | None = None) -> None:
        """Add one message; returns at once unless too much is waiting.

        Raises:
            InvalidRequest, TooLarge: this message cannot be written; the stream can go on without it.
            InvalidRequest: outside of the stream's `async with` block, where nobody would send it.
            StreamFailed: an earlier batch was refused for good.
            StreamStopped: it was refused as somebody stopped the stream: end the step.

        """
        await self.write_encoded(dump(data), event=event)

    async def write_encoded(self, data: bytes, *, event: str | None = None) -> None:
        """Add one message that is JSON text already. Raises what `write` does."""
        message = messages.Message(compact(data, self._limits.message_bytes), event)
        names.check_event(event)
        while True:
            self._check_open()
            if self._room.is_set():
                break
            await self._room.wait()
        self._waiting.append(message)
        self._waiting_bytes += len(message.data)
        self.written += 1
        self._more.set()
        if self._full():
            self._enough.set()
        if self.written == 1:
            await asyncio.sleep(0)  # the first one goes out now, also from a writer that never waits
        if self._crowded():
            self._room.clear()

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._task is None:
            msg = "stream: write within `async with client.stream(…) as stream:`; before, nobody sends what is written"
            raise InvalidRequest(msg)
        if self._done:
            msg = "stream: its block has ended, and nobody would send this message: write before, or open another"
            raise InvalidRequest(msg)

    def keep_open(self) -> None:
        """Do not close the topic at the end after all; and a counted stream has not come to its end."""
        self._close = False
        self._cut = True

    async def _abandon(self) -> None:
        self._done = True
        self._settle()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _flush(self) -> None:
        self._done = True
        self._more.set()
        self._enough.set()
        if self._task is not None:
            try:
                await self._task
            except asyncio.CancelledError:
                await self._abandon()
                raise
        self._settle()
        if self._failed is not None:
            raise self._failed

    async def _send(self) -> None:
        try:
            await self._send_batches()
        except PubsubError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a writer may wait on this task: it must not end without a word
            self._fail(PubsubError(f"it ended early: {error!r}"), error)
        except asyncio.CancelledError:
            self._fail(PubsubError("it was cancelled"))
            raise

    def _fail(self, cause: PubsubError, origin: Exception | None = None) -> None:
        self._failed = cause if isinstance(cause, StreamStopped) else self._failure(cause, origin)
        self._settle()
        self._waiting.clear()
        self._room.set()  # whoever waits for room learns of it

    def _failure(self, cause: PubsubError, origin: Exception | None) -> StreamFailed:
        uncertain = self._inflight if isinstance(cause, (Unavailable, CallAborted)) else 0
        failed = StreamFailed(
            self._topic, self.acknowledged, self.written, self.next_offset, cause, uncertain=uncertain
        )
        failed.__cause__ = origin or cause
        return failed

    async def _send_batches(self) -> None:
        loop, closed = asyncio.get_running_loop(), False
        while True:
            await self._more.wait()
            began = loop.time()
            batch = self._next_batch()
            last = self._done and not self._waiting
            ends = last and (self._close or self._resume or (self._id is not None and not self._cut))
            asks, self._asks = self._asks, None
            if batch or (ends and not closed):
                closed = ends
                await self._append(batch, close=last and self._close, last=last)
            elif asks is not None:
                await self._ask(asks)
            if last and self._done and not self._waiting:
                return
            if pause := self._pace.after(loop.time() - began):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._enough.wait()

    def _full(self) -> bool:
        """Whether as much is waiting as one call may carry, or the writer waits for the next call."""
        limits = self._limits
        return (
            self._crowded() or len(self._waiting) >= limits.batch_messages or self._waiting_bytes >= limits.batch_bytes
        )

    def _crowded(self) -> bool:
        """Whether the writer has to wait."""
        return self._waiting_bytes >= WAITING_BYTES or len(self._waiting) >= WAITING_MESSAGES

    def _next_batch(self) -> list[Message]:
        """Take what waits, as much as one call may carry."""
        count = size = 0
        for message in self._waiting[: self._limits.batch_messages]:
            size += len(message.data)
            if size > self._limits.batch_bytes and count:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes = sum(len(message.data) for message in self._waiting)
        if not self._waiting and not self._done:
            self._more.clear()
        if not self._full() and not self._done:
            self._enough.clear()
        if not self._crowded():
            self._room.set()
        return batch

    async def _append(self, batch: Sequence[Message], *, close: bool, last: bool) -> None:
        self._inflight = len(batch)
        try:
            done = await self._called(self._joined(batch), close=close, last=last)
        except StreamStopped:
            raise
        except PubsubError:
            if batch or close or self._resume:
                raise
            return  # all of it is there, and only that it has ended could not be said
        self._inflight = 0
        self._heard(done.next_offset)
        self._calls += 1
        if self._resume:
            self._digest = digest(self._digest, batch)
        if not batch:
            return
        if self.offset is None:
            self.offset = done.offset
        self.acknowledged += len(batch)
        self.next_offset = done.next_offset

    async def _ask(self, until: int) -> None:
        """Let the topic refuse this stream, if it would refuse what is written next."""
        try:
            await self._called((), close=False, last=False)
        except (Unavailable, CallAborted):
            self._calls += 1  # under the same key the answer would be the same for ever
            self.ask(until)
            return
        self._calls += 1
        self._heard(until)

    def _joined(self, batch: Sequence[Message]) -> Sequence[Message]:
        """Return what gathered as one message; a counted stream sends each, so that a repetition counts the same."""
        if self._join is None or self._resume:
            return batch
        each = min(self._limits.message_bytes, JOINED_MAX_BYTES)
        return joined(runs(batch, self._join), self._limits.batch_bytes, each=each).messages

    async def _called(self, batch: Sequence[Message], *, close: bool, last: bool) -> Appended:
        """Append a batch; what an operator has ended is sent again only where the topic counts.

        Under the same key the answer would be the same for ever, and under another the batch might be there twice. A
        counted stream says how many messages came before, so that the topic passes over those that it has.
        """
        backoff, again = Backoff(0.1, 2.0), 0
        while True:
            key = f"{self._attempt}-{self._calls}" + (f"-{again}" if again else "")
            try:
                return await self._appender.append_encoded(
                    self._topic,
                    batch,
                    close=close,
                    stream=self._ref(last=last),
                    join=self._join,
                    idempotency_key=key,
                )
            except CallAborted:
                again += 1
                if not self._resume or again > RECOUNTS:
                    raise
            await asyncio.sleep(backoff.next())

    def _ref(self, *, last: bool) -> StreamRef | None:
        if self._id is None:
            return None
        if self._resume:
            return StreamRef(self._id, start=self.acknowledged, digest=self._digest, last=last and not self._cut)
        return StreamRef(self._id, self._attempt, last=last and not self._cut)
