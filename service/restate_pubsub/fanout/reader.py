"""One subscriber of a topic: an offset on its feed, and nothing queued.

It takes what there is from its offset on in one piece, and then waits to be woken. A slow one loses nothing: behind
the ring, it reads the log again until it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from restate_pubsub.backoff import Backoff
from restate_pubsub.errors import PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout.catch_up import Appetite
from restate_pubsub.fanout.puller import BACKOFF_FIRST, BACKOFF_LONGEST
from restate_pubsub.fanout.steps import Began, Chunk, End, Reset, Step
from restate_pubsub.fanout.window import Begin, Missing, Start, Unknown

if TYPE_CHECKING:
    from restate_pubsub.fanout.feed import Feed
    from restate_pubsub.fanout.observer import Observer

log = structlog.stdlib.get_logger(__name__)

NEVER = float("-inf")
"""When messages arrived that did not come as news."""


HISTORY = 64
"""A reader who comes takes so many of the newest messages as they are: reading them joined costs a call.

Not where an attempt was replaced in them: who comes later need not see it."""


class Stoppable(Protocol):
    """A stream, as far as its end is concerned."""

    def stop(self) -> None:
        """End it after what is being written."""


class Reader:
    """An offset on a feed. Close it, or it is counted for ever.

    Take its steps in one of two ways: `steps` in a task of its own, or `step` whenever `on_wake` is called, and
    `steps(live=False)` where `step` says that what follows has to be read again. An idle reader of the second kind
    costs no task.
    """

    __slots__ = (
        "_appetite",
        "_arrived",
        "_backoff",
        "_came_at",
        "_closed",
        "_epoch",
        "_given",
        "_join",
        "_joined",
        "_middle",
        "_observer",
        "_offset",
        "_on_close",
        "_stopped",
        "_wake",
        "feed",
        "on_wake",
        "part_of",
        "reset",
        "start",
    )

    def __init__(
        self,
        feed: Feed,
        start: Start,
        observer: Observer,
        on_close: Callable[[Reader], None],
        *,
        join: bool = False,
        part_of: Stoppable | None = None,
    ) -> None:
        """Join the feed; nothing is decided until it is known where to begin.

        `join`: history may come joined. `part_of` is a stream that has more readers, if it is of one.
        """
        self.part_of = part_of
        self.start = start
        self.feed = feed
        self.reset: Reset | None = None
        """What it is told first, where that is not what it asked for."""
        self.on_wake: Callable[[], None] | None = None
        """Called when there may be something to take; it must not wait."""
        self._observer = observer
        self._on_close = on_close
        self._join = join
        self._middle = -1  # the offset in the middle of what was joined, from which on is read by itself
        self._came_at = 0  # the tail when it came: what is before that is history
        self._offset = -1
        self._epoch = -1
        self._wake: asyncio.Event | None = None
        self._stopped = False
        self._closed = False
        self._backoff: Backoff | None = None
        self._appetite: Appetite | None = None
        self._given: Chunk | None = None  # the chunk that is being written
        self._arrived = NEVER  # when the last of it arrived
        self._joined = -1.0  # when the first step was asked for
        feed.waker.join(self)

    @property
    def resolved(self) -> bool:
        """Whether it is known where it begins."""
        return self._offset >= 0

    @property
    def stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stopped

    @property
    def finished(self) -> bool:
        """Whether it has everything of a closed topic."""
        return self.resolved and isinstance(self.feed.window.next(self._offset, self._epoch), End)

    @property
    def behind(self) -> int:
        """How many messages it has not been given yet; 0 before it has begun."""
        return self.feed.window.tail - self._offset if self.resolved else 0

    def wake(self) -> None:
        """Look at what is new."""
        if self._wake is not None:
            self._wake.set()
        if self.on_wake is not None:
            self.on_wake()

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._stopped = True
        self.wake()

    def close(self) -> None:
        """Leave the feed."""
        if not self._closed:
            self._closed = True
            self.on_wake = None
            self.feed.waker.leave(self)
            self._on_close(self)

    def begin(self) -> bool:
        """Find out where to begin, if that can be known without asking the log; return whether it is known."""
        if not self.resolved:
            self._place(self.feed.window.begin(self.start))
        return self.resolved

    async def resolve_start(self) -> None:
        """Find out where to begin; waits until the log has answered, or the stream is stopped."""
        window, asked, earlier = self.feed.window, None, self.feed.question
        while not self.resolved and not self._stopped:
            found = window.begin(self.start, asked)
            if found is Unknown.NOT_LOCATED:
                await self._woken()
            elif found is Unknown.ASK:
                asked = await self._ask(earlier)
            else:
                self._place(found)

    def _place(self, found: Begin | Reset | Unknown) -> None:
        if isinstance(found, Reset):
            self.reset = found
            self._offset, self._epoch = found.head, self.feed.window.epoch
        elif isinstance(found, Begin):
            self._offset, self._epoch = found
        self._came_at = self.feed.window.tail

    def _next(self) -> Chunk | Reset | End | Missing:
        """Return what it gets next; history is read joined, even where single messages of it are still at hand."""
        window = self.feed.window
        step = window.next(self._offset, self._epoch)
        history = self._join and (
            self._offset + HISTORY <= self._came_at or self._offset <= window.restarted < self._came_at
        )
        return Missing.OLDER if history and isinstance(step, Chunk) else step

    def step(self) -> Step | Missing:
        """Return what the stream is told next, if it is there; what was returned before counts as written.

        Only once it is known where it begins. `End` is the last one.
        """
        if self._given is not None:
            self._took(self._given)
        if self._joined < 0:
            self._joined = asyncio.get_running_loop().time()
            if self.start.kind != "offset":
                return Began(self._offset)
        if self.reset is not None:
            return self._go_on_after(self.reset)
        step = self._next()
        if isinstance(step, Chunk):
            self._give(step, self.feed.arrived_at)
        elif isinstance(step, Reset):
            return self._go_on_after(step)
        return step

    async def steps(self, *, live: bool = True) -> AsyncGenerator[Step, None]:
        """Yield what the stream is told, until the topic ends or `stop`; not `live`: or until nothing more is there."""
        await self.resolve_start()
        while self.resolved and not self._stopped:
            found = self.step()
            if found is Missing.NEWER:
                if not live:
                    return
                await self._woken()
                continue
            step: Step | None = await self._read_again() if found is Missing.OLDER else found
            if step is None:
                continue
            yield step
            if self._given is not None:
                self._took(self._given)
            if isinstance(step, End):
                return

    async def _read_again(self) -> Chunk | None:
        chunk = await self._older()
        if chunk is not None:
            self._give(chunk, NEVER)
        return chunk

    def _give(self, chunk: Chunk, arrived: float) -> None:
        self._offset, self._given, self._arrived = chunk.next_offset, chunk, arrived

    def _took(self, chunk: Chunk) -> None:
        """Note that a chunk was written."""
        self._given = None
        # What was there before this reader came did not wait for a write: it has no lag.
        fresh = self._arrived >= self._joined
        lag = asyncio.get_running_loop().time() - self._arrived if fresh else None
        self._observer.delivered(chunk.next_offset - chunk.offset, len(chunk.data), lag)
        appetite = self._appetite
        if self._arrived == NEVER and appetite and appetite.is_full and chunk.next_offset < appetite.stop:
            self.feed.catch_up.read_ahead(appetite.stop, appetite.size, join=self._join)

    def _go_on_after(self, reset: Reset) -> Reset:
        if reset is not self.reset:
            self._offset, self._epoch = reset.head, self.feed.window.epoch
            self._came_at = self.feed.window.tail
        self.reset = None
        self._observer.was_reset()
        return reset

    async def _older(self) -> Chunk | None:
        """Return a chunk of what is older than the ring; None if that failed, or is not what is wanted any more."""
        catch_up, offset = self.feed.catch_up, self._offset
        appetite = self._appetite = self._appetite or Appetite()
        if (chunk := catch_up.take(offset, appetite, join=self._join)) is not None:
            return chunk
        appetite.change(offset)
        read = catch_up.read(offset, appetite.size, join=self._join, exact=self._middle == offset)
        read.waiting += 1
        try:
            await self._done(read.task)
        finally:
            read.waiting -= 1
            catch_up.leave(read)
        if not self._is_behind():
            return None
        try:
            page = None if not read.task.done() or read.task.cancelled() else read.task.result()
        except PubsubError as error:
            page = None
            self._say(error)
        if page is not None and offset in page:
            self._backoff = None
            appetite.stop = page.tail
            return page.take(offset)
        if page is not None and page.end_of(offset) is not None:
            self._middle = offset  # of what was joined: the rest of that is read next, by itself
            return None
        if page is None or read.offset == offset:  # otherwise it was another's read, and did not get here
            await self._wait(lambda: not self._is_behind(), self._pause())
        return None

    def _say(self, error: PubsubError) -> None:
        """Log that a catch-up read failed; the first of a row is a warning, unless it may pass."""
        passes = self._backoff is not None or isinstance(error, (Unavailable, PullTimeout))
        say = log.debug if passes else log.warning
        say("reader cannot catch up; it keeps trying", topic=self.feed.topic, error=str(error), code=error.code)

    def _pause(self) -> float:
        """Return the seconds to wait after a failure: more, one after the other."""
        self._backoff = self._backoff or Backoff(BACKOFF_FIRST, BACKOFF_LONGEST)
        return self._backoff.next()

    def _is_behind(self) -> bool:
        return self._next() is Missing.OLDER

    async def _ask(self, earlier: asyncio.Task[int] | None) -> int | None:
        """Ask the log for the topic's tail; None if it does not answer now.

        Nor is the answer to an `earlier` question one: it may be older than what this reader has seen elsewhere.
        """
        asking = self.feed.locating()
        await self._done(asking)
        if not asking.done() or asking is earlier:
            return None
        try:
            return asking.result()
        except PubsubError:
            await self._wait(lambda: False, self._pause())
            return None

    async def _done(self, task: asyncio.Task[object]) -> None:
        """Wait until a task that is shared with others has ended."""

        def wake(_task: asyncio.Task[object]) -> None:
            self.wake()

        task.add_done_callback(wake)
        try:
            await self._wait(task.done)
        finally:
            task.remove_done_callback(wake)

    async def _wait(self, enough: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until there is enough, the time is over, or the stream is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopped and not enough():
                    await self._woken()

    async def _woken(self) -> None:
        if self._wake is None:
            self._wake = asyncio.Event()
        self._wake.clear()
        await self._wake.wait()
