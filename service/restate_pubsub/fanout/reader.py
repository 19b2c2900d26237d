"""One subscriber of a topic: an offset on its feed, and nothing queued.

It takes what there is from its offset on in one piece, and then waits to be woken. A slow one loses nothing: behind
the ring, it reads the log again until it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.backoff import Backoff
from restate_pubsub.errors import PubsubError
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


class Reader:
    """An offset on a feed. Close it, or it is counted for ever."""

    def __init__(self, feed: Feed, start: Start, observer: Observer, on_close: Callable[[Reader], None]) -> None:
        """Join the feed; nothing is decided until `resolve_start`."""
        self.start = start
        self.feed = feed
        self.reset: Reset | None = None
        """What it is told first, where that is not what it asked for."""
        self._observer = observer
        self._on_close = on_close
        self._offset = -1
        self._epoch = -1
        self._wake = asyncio.Event()
        self._stopped = False
        self._closed = False
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_LONGEST)
        self._appetite = Appetite()
        feed.waker.join(self._wake)

    @property
    def resolved(self) -> bool:
        """Whether it is known where it begins."""
        return self._offset >= 0

    @property
    def finished(self) -> bool:
        """Whether it has everything of a closed topic."""
        return self.resolved and isinstance(self.feed.window.next(self._offset, self._epoch), End)

    @property
    def behind(self) -> int:
        """How many messages it has not been given yet; 0 before it has begun."""
        return self.feed.window.tail - self._offset if self.resolved else 0

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._stopped = True
        self._wake.set()

    def close(self) -> None:
        """Leave the feed."""
        if not self._closed:
            self._closed = True
            self.feed.waker.leave(self._wake)
            self._on_close(self)

    async def resolve_start(self) -> None:
        """Find out where to begin; waits until the log has answered, or the stream is stopped."""
        window, asked = self.feed.window, None
        while not self.resolved and not self._stopped:
            found = window.begin(self.start, asked)
            if found is Unknown.NOT_LOCATED:
                await self._woken()
            elif found is Unknown.ASK:
                asked = await self._ask()
            elif isinstance(found, Reset):
                self.reset = found
                self._offset, self._epoch = found.head, window.epoch
            elif isinstance(found, Begin):
                self._offset, self._epoch = found

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Yield what the stream is told, until the topic ends or `stop`."""
        await self.resolve_start()
        feed, window, wake = self.feed, self.feed.window, self._wake
        joined = asyncio.get_running_loop().time()
        if self.resolved and self.start.kind != "offset":
            yield Began(self._offset)
        while self.resolved and not self._stopped:
            arrived = feed.arrived_at
            step: Step | Missing | None = self.reset or window.next(self._offset, self._epoch)
            if step is Missing.NEWER:
                wake.clear()
                await wake.wait()
                continue
            if step is Missing.OLDER:
                arrived = NEVER
                step = await self._older()
            if isinstance(step, Chunk):
                self._offset = step.next_offset
                yield step
                self._took(step, arrived, joined)
            elif isinstance(step, Reset):
                self._go_on_after(step)
                yield step
            elif isinstance(step, End):
                yield step
                return

    def _took(self, chunk: Chunk, arrived: float, joined: float) -> None:
        """Note that a chunk was written; the last of it arrived then, and the reader had joined then."""
        # What was there before this reader came did not wait for a write: it has no lag.
        lag = asyncio.get_running_loop().time() - arrived if arrived >= joined else None
        self._observer.delivered(chunk.next_offset - chunk.offset, len(chunk.data), lag)
        if arrived == NEVER and self._appetite.is_full and chunk.next_offset < self._appetite.stop:
            self.feed.catch_up.read_ahead(self._appetite.stop, self._appetite.size)

    def _go_on_after(self, reset: Reset) -> None:
        if reset is not self.reset:
            self._offset, self._epoch = reset.head, self.feed.window.epoch
        self.reset = None
        self._observer.was_reset()

    async def _older(self) -> Chunk | None:
        """Return a chunk of what is older than the ring; None if that failed, or is not what is wanted any more."""
        catch_up, offset = self.feed.catch_up, self._offset
        if (chunk := catch_up.take(offset, self._appetite)) is not None:
            return chunk
        self._appetite.change(offset)
        read = catch_up.read(offset, self._appetite.size)
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
            log.debug("catch-up read failed; it is tried again", topic=self.feed.topic, code=error.code)
        if page is not None and offset in page:
            self._backoff.reset()
            self._appetite.stop = page.tail
            return page.take(offset)
        if page is None or read.offset == offset:  # otherwise it was another's read, and did not get here
            await self._wait(lambda: not self._is_behind(), self._backoff.next())
        return None

    def _is_behind(self) -> bool:
        return self.feed.window.next(self._offset, self._epoch) is Missing.OLDER

    async def _ask(self) -> int | None:
        """Ask the log for the topic's tail; None if it does not answer now."""
        asking = self.feed.locating()
        await self._done(asking)
        if not asking.done():
            return None  # stopped
        try:
            return asking.result()
        except PubsubError:
            await self._wait(lambda: False, self._backoff.next())
            return None

    async def _done(self, task: asyncio.Task[object]) -> None:
        """Wait until a task that is shared with others has ended."""

        def wake(_task: asyncio.Task[object]) -> None:
            self._wake.set()

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
        self._wake.clear()
        await self._wake.wait()
