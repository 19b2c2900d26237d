"""Reads one topic's older messages again, for readers behind the ring; those at about the same offset share a read."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout
from restate_pubsub.fanout.frames import Frames
from restate_pubsub.fanout.pages import READ_BYTES, Page, Pages
from restate_pubsub.fanout.ring import TAKE_MAX_BYTES
from restate_pubsub.fanout.steps import Chunk, Encode
from restate_pubsub.fanout.window import HeadMoved, Learnt, News, Window
from restate_pubsub.protocol.limits import JOINED_READ, WHOLE_MAX_BYTES
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.topic.log import PAGE

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import Observer
    from restate_pubsub.fanout.readings import Readings
    from restate_pubsub.fanout.source import Source

READ_MESSAGES = 64 * PAGE
"""Most messages in one read: as many as the object gives in one answer. A joined read covers `JOINED_READ` times more
offsets."""
ALIGN_BYTES = 64 * 1024
"""A read begins where the object's page begins, so that readers nearby share it, unless that brings more than this
before what its reader wants."""
WHOLE_SHARE = 4
"""A joined read of less than this part of a topic does not ask for the whole: all of it would be sent for each part.

Token by token, only a read of all of it does."""


class Appetite:
    """How many bytes one reader asks for at once.

    A page that is forgotten before its reader has taken all of it has to be read again. So a slow reader asks for
    less each time, down to what it takes in one write, and a fast one for more.
    """

    def __init__(self) -> None:
        """Start with everything."""
        self.size = READ_BYTES
        self.stop = 0
        """Where the page ends that its reader took from last."""

    @property
    def is_full(self) -> bool:
        """Whether its reader keeps up with its pages, so that the next one may be read ahead of it."""
        return self.size == READ_BYTES

    def change(self, offset: int) -> None:
        """Ask for less or for more, since there is no page any more that holds `offset`."""
        self.size = max(self.size // 2, TAKE_MAX_BYTES) if offset < self.stop else min(self.size * 2, READ_BYTES)


class Read:
    """A read that is under way for whoever waits for one of its messages."""

    def __init__(
        self, offset: int, expected: range, task: asyncio.Task[Frames | None], restarted: int, *, join: bool
    ) -> None:
        """`offset` is the one that it began for; it brings about what is `expected`, joined if it may be.

        `restarted` is where the newest `restart` was when it began.
        """
        self.offset = offset
        self.restarted = restarted
        self.expected = expected
        self.join = join
        self.task = task
        self.waiting = 0


class CatchUp:
    """The reads and pages of one topic."""

    def __init__(
        self,
        topic: str,
        source: Source,
        window: Window,
        *,
        encode: Encode,
        locate: Callable[[], Awaitable[object]],
        learn: Callable[[News], Learnt],
        pages: Pages,
        readings: Readings,
        observer: Observer,
    ) -> None:
        """Start without pages; `pages` and `readings` are shared by all topics.

        What a read tells of the topic is given to `learn`.
        """
        self._topic = topic
        self._source = source
        self._window = window
        self._encode = encode
        self._locate = locate
        self._learn = learn
        self._all = pages
        self._readings = readings
        self._observer = observer
        self._pages: list[Page] = []
        self._reads: list[Read] = []
        self._restarted = window.restarted
        self._means = {False: 0.0, True: 0.0}
        """The bytes for each offset, of messages as they were written and of joined ones."""

    def take(self, offset: int, appetite: Appetite, *, join: bool) -> Chunk | None:
        """Return what there is in memory from `offset` on; None where that is nothing."""
        self._forget_replaced()
        for page in reversed(self._pages):
            if page.join == join and offset in page.frames:
                self._all.used(page)
                appetite.stop = page.frames.tail
                return page.frames.take(offset)
        return None

    def read(self, offset: int, size: int, *, join: bool, exact: bool = False) -> Read:
        """Return a read that is to bring the message at `offset`, and about `size` bytes; `exact`: it begins there.

        Its task returns what was read; None where the topic turned out to be another one than was known, and the
        window has learnt so. It raises what the source raises.
        """
        self._forget_replaced()
        for read in self._reads:
            if read.task.done() or (join and read.restarted != self._restarted):
                continue  # one that is over is in the pages, as far as it got
            if read.join == join and offset in (read.expected[:1] if exact else read.expected):
                return read
        mean = self._means[join]
        most = READ_MESSAGES * (JOINED_READ if join else 1)
        count = min(most, max(int(size / mean), 1) if mean else most)
        start = offset if exact else self._start(offset, join=join)
        stop = self._window.tail if join else self._window.ring.base
        # In the middle of what was joined, only the rest of that is needed: what follows it is there, and shared.
        for page in self._pages:
            if page.join == join and (end := page.frames.end_of(offset)) is not None:
                start, stop = offset, end
        count = max(min(count + offset - start, stop - start), 1)
        task = asyncio.create_task(self._bring(start, offset, count, join=join), name=f"catch up {self._topic}")
        read = Read(offset, range(start, start + count), task, self._restarted, join=join)
        self._reads.append(read)
        task.add_done_callback(functools.partial(self._ended, read))
        return read

    def read_ahead(self, offset: int, size: int, *, join: bool) -> None:
        """Begin the read of what a reader wants from `offset` on, which it has not reached yet."""
        known = any(page.join == join and offset in page.frames for page in self._pages)
        if offset < self._window.ring.base and not known:
            self.read(offset, size, join=join)

    def leave(self, read: Read) -> None:
        """End a read for which nobody waits any more."""
        if not read.waiting and read in self._reads:
            read.task.cancel()
            self._reads.remove(read)

    def clear(self) -> None:
        """Forget everything: what was read before must not be shown as what is there now."""
        for read in self._reads:
            read.task.cancel()
        self._reads.clear()
        for page in self._pages:
            self._all.drop(page)
        self._pages.clear()

    async def stop(self) -> None:
        """End all reads, and give the memory back."""
        tasks = [read.task for read in self._reads]
        self.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, read: Read, task: asyncio.Task[Frames | None]) -> None:
        if read in self._reads:
            self._reads.remove(read)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    def _start(self, offset: int, *, join: bool) -> int:
        start = max(offset - offset % PAGE, min(self._window.head, offset))
        ring = self._window.ring
        mean = self._means[join] or (ring.size / len(ring) if len(ring) else 0.0)
        return start if (offset - start) * mean <= ALIGN_BYTES else offset

    def _forget_replaced(self) -> None:
        """Forget what was read joined before the newest `restart` came: it has what that replaces.

        Who opens the topic now need not see it.
        """
        if self._restarted == self._window.restarted:
            return
        self._restarted = self._window.restarted
        for page in [page for page in self._pages if page.join]:
            self._all.drop(page)
            self._pages.remove(page)

    async def _bring(self, start: int, offset: int, count: int, *, join: bool) -> Frames | None:
        restarted = self._window.restarted
        async with self._all.reads:
            try:
                batch = await self._pull(start, offset, count, join=join)
            except OffsetGone as gone:
                self._learn(HeadMoved(gone.head))
                return None
            except PullTimeout:  # nothing there, where there was something: the counter was lost
                await self._locate()
                return None
            self._observer.caught_up(batch.next_offset - batch.offset)
            frames = self._encoded(batch)
        if len(frames):
            self._means[join] = frames.size / len(frames)
        if not join or restarted == self._window.restarted:
            page = Page(frames, join, self._forget)
            self._pages.append(page)
            self._all.add(page)
        if batch.closed:  # only where: its messages are no news, and joined ones do not lie one at each offset
            self._learn(Batch(batch.next_offset, (), batch.next_offset, closed=True, head=batch.head))
        elif batch.head is not None:
            self._learn(HeadMoved(batch.head))
        return frames

    def _encoded(self, batch: Batch) -> Frames:
        """Encode what was read; what several messages were joined to is encoded as the last of them."""
        starts, frames = [], []
        for index, (at, message) in enumerate(batch.placed()):
            starts.append(at)
            frames.append(self._encode(at + batch.spans.get(index, 1) - 1, message))
        return Frames(starts, frames, batch.offset, batch.next_offset)

    async def _pull(self, start: int, offset: int, count: int, *, join: bool) -> Batch:
        try:
            batch = await self._asked(start, count, join=join)
        except OffsetGone as gone:
            if gone.head > offset:
                raise
        else:
            if batch.next_offset > offset:
                return batch
        # The head has moved into the object's page, or the answer was cut before it reached the reader's offset.
        return await self._asked(offset, start + count - offset, join=join)

    async def _asked(self, start: int, count: int, *, join: bool) -> Batch:
        """Read, in the way that is faster for so much of this topic."""
        window = self._window
        share = count * WHOLE_SHARE if join else count
        if window.whole is not None and window.whole <= WHOLE_MAX_BYTES and share >= window.tail - window.head:
            history = functools.partial(self._source.history, self._topic, start, limit=count, join=join)
            try:
                return await self._readings.ask(lambda word: history(reading=word))
            except OffsetGone:
                raise
            except PubsubError:
                pass  # it has found nothing, or a version before this one was asked
        return await self._source.pull(self._topic, start, limit=count, join=join)

    def _forget(self, page: Page) -> None:
        self._pages.remove(page)
