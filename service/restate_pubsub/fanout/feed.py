"""One topic's live end in this process: pulled once, encoded once, shared by all its readers.

The feed keeps recent frames in a ring and pulls from the ring's tail. News come from that pull or, when the
write ran in this very process, straight from its handler (`accept`); they are taken in offset order, what is there
already is passed over, and what is missing in between is pulled.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout.ring import Ring
from restate_pubsub.protocol.sse import message_frame
from restate_pubsub.topic.log import PAGE

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import Observer
    from restate_pubsub.fanout.ring_memory import RingMemory
    from restate_pubsub.fanout.source import Position, Source
    from restate_pubsub.protocol.messages import Batch

log = structlog.stdlib.get_logger(__name__)

HISTORY_MESSAGES = 16 * PAGE
"""Messages in one catch-up read; whole pages, so that readers at about the same place share it."""
HISTORY_KEPT = 8
HISTORY_SECONDS = 5.0
"""Catch-up reads that are kept for others, and for how long: the herd after a restart comes within seconds."""
HOT_SECONDS = 0.06
"""Pulls answered faster than this one after the other mean that the topic is hot somewhere else …"""
HOT_PAUSE = 0.025
"""… and waiting this long lets the next one find messages, which costs Restate no subscription."""
HOT_RUN = 32
"""After so many waits one pull goes at once. Where the topic is hot because it is written here, that one soon finds
nothing and stays, and the writes hand their messages over again; elsewhere it costs a subscription a second."""
WAKE_AT_ONCE = 4
"""Readers that are woken together. Writing to them takes a fifth of a millisecond, and a call from Restate needs
some fifty turns of the loop."""
HEARD_SECONDS = 2.0
"""A pull that has not brought what a write here has done after this may wait on a node that is gone."""
PEACE_SECONDS = 1.0
"""A pull that has waited for so long has not failed."""
BACKOFF_FIRST, BACKOFF_LAST = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How feeds behave. Times in seconds, sizes in bytes."""

    pull_wait: float = 600.0
    linger: float = 30.0
    ring_bytes: int = 4 * 1024 * 1024
    rings_bytes: int = 256 * 1024 * 1024


def jittered(seconds: float) -> float:
    """Return between half of `seconds` and all of it, so that many do not come back at the same moment."""
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


async def backed_off(failures: int) -> int:
    """Sleep after the given number of failures, longer each time; return one more."""
    await asyncio.sleep(jittered(min(BACKOFF_FIRST * 2**failures, BACKOFF_LAST)))
    return min(failures + 1, 16)


class Feed:
    """The frames of one topic, its task, and those who read it."""

    def __init__(
        self, topic: str, source: Source, options: FeedOptions, observer: Observer, memory: RingMemory
    ) -> None:
        """Prepare; `start` begins to pull. `memory` is shared by all feeds."""
        self.topic = topic
        self.ring = Ring()
        self.head = 0
        self.epoch = 0
        """Goes up when the topic's counter was lost: offsets from before mean nothing then."""
        self.arrived_at = 0.0
        self.positioned = asyncio.Event()
        self._wakes: OrderedDict[asyncio.Event, None] = OrderedDict()
        self._asleep = 0
        self._waking = False
        self._closed_at: int | None = None
        self._source = source
        self._options = options
        self._observer = observer
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._pulling: asyncio.Task[Batch] | None = None
        self._poked = False
        self._located = False
        self._answered = 0.0
        self._hot = 0
        self._failures = 0
        self._heard = 0
        self._listening: asyncio.TimerHandle | None = None
        self._locating: asyncio.Task[int] | None = None
        self._history: dict[int, asyncio.Task[Ring]] = {}
        self._log = log.bind(topic=topic)

    @property
    def closed(self) -> bool:
        """Whether nothing will follow the ring's tail."""
        return self._closed_at is not None and self.ring.tail >= self._closed_at

    def start(self) -> None:
        """Begin to pull."""
        self._task = asyncio.create_task(self._run(), name=f"feed {self.topic}")

    async def stop(self) -> None:
        """End all that this feed runs."""
        tasks = [task for task in (self._task, self._locating, *self._history.values()) if task is not None]
        self._history.clear()
        self._memory.forget(self)
        if self._listening is not None:
            self._listening.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- news --------------------------------------------------------------------------------------------------

    def deliver(self, batch: Batch) -> None:
        """Take news from a write that ran in this process."""
        if not self.positioned.is_set():
            return  # the first pull starts from a position that is read after this
        if not self._accept(batch, locally=True):
            self.poke()

    def give_up(self, size: int) -> int:
        """Forget recent messages of at least `size` bytes, the oldest first, or all; return what is left.

        A reader that has not taken them yet reads them from Restate.
        """
        self.ring.shrink(max(self.ring.size - size, 0))
        return self.ring.size

    def heard(self, tail: int) -> None:
        """Get to `tail` soon: whatever else should bring the news, ask Restate if it has not in a while."""
        self._heard = max(self._heard, tail)
        if self._listening is None and self.positioned.is_set() and self.ring.tail < tail:
            self._listening = asyncio.get_running_loop().call_later(HEARD_SECONDS, self._look)

    def _look(self) -> None:
        self._listening = None
        if self.ring.tail < self._heard:
            self._observer.suspected()
            self.poke()

    def poke(self) -> None:
        """Ask Restate now, instead of waiting for the long poll."""
        if self._pulling is not None and not self._pulling.done():
            self._poked = True
            self._pulling.cancel()

    def _accept(self, batch: Batch, *, locally: bool = False) -> bool:
        """Take what is new; False when something is missing before it."""
        if batch.head is not None:
            self._raise_head(batch.head)
        joined = batch.offset <= self.ring.tail
        if joined and batch.next_offset >= self.ring.tail:
            skip = self.ring.tail - batch.offset
            frames = [message_frame(at, message) for at, message in enumerate(batch.messages[skip:], self.ring.tail)]
            self.ring.extend(frames)
            self.ring.drop_below(min(self.head, self.ring.tail))
            self.ring.shrink(self._options.ring_bytes)
            self._closed_at = batch.next_offset if batch.closed else None
            if frames:
                self.arrived_at = asyncio.get_running_loop().time()
                self._observer.arrived(len(frames), locally=locally)
            self._wake()
        self._memory.holds(self, self.ring.size)
        self._go_on()
        return joined

    def _raise_head(self, head: int) -> None:
        """Forget what lies below a head that has moved: it must not be shown any more."""
        if head <= self.head:
            return
        self.head = head
        for start in [start for start in self._history if start < head]:
            del self._history[start]
        self.ring.drop_below(min(head, self.ring.tail))
        self._memory.holds(self, self.ring.size)

    def join(self, wake: asyncio.Event) -> None:
        """Set `wake` whenever there may be something new."""
        self._wakes[wake] = None

    def leave(self, wake: asyncio.Event) -> None:
        """Forget `wake`."""
        self._wakes.pop(wake, None)

    def _wake(self) -> None:
        """Wake all readers, in parts: between two, the loop takes what came from Restate meanwhile.

        Where there are thousands, the next messages arrive while the last ones are still being written. Those who
        have not been woken yet then take both in one write; and the write that brought them is acknowledged
        without waiting for all of that.
        """
        self._asleep = len(self._wakes)
        if not self._waking:
            self._wake_some()

    def _wake_some(self) -> None:
        some = min(WAKE_AT_ONCE, self._asleep, len(self._wakes))
        self._asleep -= some
        for _ in range(some):
            wake = next(iter(self._wakes))
            self._wakes.move_to_end(wake)
            wake.set()
        self._waking = self._asleep > 0 and some > 0
        if self._waking:
            asyncio.get_running_loop().call_soon(self._wake_some)

    # --- the task ----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._located = False
        while True:
            try:
                if not self._located:
                    await self.locate()
                    self._located = True
                if self.closed:
                    return  # a reader that comes later asks for the position again
                await self._take_news()
            except PubsubError as error:
                self._observer.pulled("unavailable" if isinstance(error, Unavailable) else "error")
                if self._failures == 0:
                    self._log.warning("feed cannot pull; it keeps trying", error=str(error), code=error.code)
                await self._begin_again()
            except Exception:  # noqa: BLE001 - readers wait on this task: it must not end without a word
                self._observer.pulled("error")
                self._log.exception("feed failed; it keeps trying")
                await self._begin_again()

    async def _begin_again(self) -> None:
        self._located = False
        self._failures = await backed_off(self._failures)

    def _recovered(self) -> None:
        """Note that a pull was answered, or waits in peace."""
        if self._failures:
            self._log.info("feed recovered", failures=self._failures)
        self._failures = 0

    async def _take_news(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            batch = await self._pull()
        except PullTimeout:
            self._observer.pulled("timeout")
            self._located = False  # the one moment to notice that the counter was lost while nobody wrote
        except OffsetGone as error:
            self._observer.pulled("gone")
            self._restart_at(error.head, error.head)
        else:
            if batch is None:
                return
            self._observer.pulled("messages")
            self._accept(batch)
            self._hot = self._hot + 1 if loop.time() - self._answered < HOT_SECONDS else 0
            if self._hot % HOT_RUN:
                await asyncio.sleep(HOT_PAUSE)
            self._answered = loop.time()

    async def _pull(self) -> Batch | None:
        """Pull from the tail; None when `poke` wants another one at once."""
        wait = jittered(self._options.pull_wait)
        self._pulling = asyncio.create_task(self._source.pull(self.topic, self.ring.tail, wait=wait))
        peace = asyncio.get_running_loop().call_later(PEACE_SECONDS, self._recovered)
        try:
            batch = await self._pulling
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._poked and task is not None and not task.cancelling():
                return None
            self._pulling.cancel()
            raise
        else:
            self._recovered()
            return batch
        finally:
            peace.cancel()
            self._poked = False
            self._pulling = None

    async def locate(self) -> int:
        """Ask where the topic is, and return its tail; callers at the same time share the question."""
        if self._locating is None or self._locating.done():
            self._locating = asyncio.create_task(self._locate())
            self._locating.add_done_callback(_looked_at)
        return await asyncio.shield(self._locating)

    async def _locate(self) -> int:
        known = self.ring.tail
        position = await self._source.position(self.topic)
        if not self.positioned.is_set():
            self._begin(position)
        elif position.tail < known:
            self._log.warning("the topic's counter went back; readers are reset", tail=position.tail, known=known)
            self.epoch += 1
            self._restart_at(position.tail, position.head)
            self._closed_at = position.tail if position.closed else None
        else:
            self._raise_head(position.head)
            self._closed_at = position.tail if position.closed else None
        self._go_on()
        return position.tail

    def _go_on(self) -> None:
        """Pull again where the end of the topic was reached, and is its end no more: it was deleted, and written to."""
        if not self.closed and self._task is not None and self._task.done():
            self.start()

    def _begin(self, position: Position) -> None:
        self.ring.clear(position.tail)
        self.head = position.head
        self._closed_at = position.tail if position.closed else None
        self.positioned.set()
        self._wake()

    def _restart_at(self, tail: int, head: int) -> None:
        self.ring.clear(tail)
        self._heard = 0
        self._history.clear()  # what was read before must not be shown as what is there now
        self._memory.holds(self, 0)
        self.head = head
        self._wake()

    # --- catching up -------------------------------------------------------------------------------------------

    def history(self, offset: int) -> asyncio.Task[Ring]:
        """Return the read of messages older than the ring that holds `offset`; readers nearby share it.

        The task raises OffsetGone, or what the source raises.
        """
        start = max(offset - offset % PAGE, min(self.head, offset))
        task = self._history.get(start)
        if task is None or not _may_hold(task, offset):
            task = asyncio.create_task(self._read(start, offset))
            task.add_done_callback(_looked_at)
            self._history[start] = task
            while len(self._history) > HISTORY_KEPT:
                self._history.pop(next(iter(self._history)))
            asyncio.get_running_loop().call_later(HISTORY_SECONDS, self._forget, start, task)
        return task

    def _forget(self, start: int, task: asyncio.Task[Ring]) -> None:
        if self._history.get(start) is task:
            del self._history[start]

    async def _read(self, start: int, offset: int) -> Ring:
        limit = min(HISTORY_MESSAGES, max(self.ring.base - start, 1))
        try:
            batch = await self._source.pull(self.topic, start, limit=limit)
        except OffsetGone as error:
            if error.head > offset:
                raise
            batch = await self._source.pull(self.topic, offset, limit=limit)
        if batch.next_offset <= offset:  # the answer was cut before it reached the reader's place
            batch = await self._source.pull(self.topic, offset, limit=limit)
        self._observer.caught_up(len(batch.messages))
        ring = Ring(batch.offset)
        ring.extend([message_frame(at, message) for at, message in enumerate(batch.messages, batch.offset)])
        return ring


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Take a task's exception where everybody who waited for it was cancelled."""
    if not task.cancelled():
        task.exception()


def _may_hold(task: asyncio.Task[Ring], offset: int) -> bool:
    if not task.done():
        return True
    if task.cancelled() or task.exception() is not None:
        return False
    return task.result().base <= offset < task.result().tail
