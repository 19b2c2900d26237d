"""One topic's live end in this process: pulled once, encoded once, shared by all its readers.

News come from its own pull, from a write that ran in this very process, from asking for the topic's position, or from
reading older messages again. Whatever it is, it goes through `learn`: the only place where the window changes, and the
one that wakes who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.fanout.catch_up import CatchUp
from restate_pubsub.fanout.early import Early
from restate_pubsub.fanout.puller import Phase, Puller
from restate_pubsub.fanout.waker import Waker
from restate_pubsub.fanout.window import Learnt, Located, News, Window

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import By, Observer
    from restate_pubsub.fanout.openings import Openings
    from restate_pubsub.fanout.pages import Pages
    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.readings import Readings
    from restate_pubsub.fanout.ring_memory import RingMemory
    from restate_pubsub.fanout.source import Source
    from restate_pubsub.fanout.steps import Encode
    from restate_pubsub.protocol.messages import Batch

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How feeds behave. Times in seconds, sizes in bytes.

    `handed`: whether there are replicas now that hand over what they write.
    """

    pull_wait: float = 600.0
    linger: float = 30.0
    ring_bytes: int = 4 * 1024 * 1024
    rings_bytes: int = 256 * 1024 * 1024
    handed: Callable[[], bool] = lambda: False


class Feed:
    """The window of one topic, what keeps it up to date, and those who read it."""

    def __init__(
        self,
        topic: str,
        source: Source,
        *,
        encode: Encode,
        options: FeedOptions,
        observer: Observer,
        memory: RingMemory,
        pages: Pages,
        openings: Openings,
        readings: Readings,
    ) -> None:
        """Prepare; `start` begins to pull. `memory`, `pages`, `openings` and `readings` are shared by all feeds."""
        self.topic = topic
        self.window = Window(encode, options.ring_bytes)
        self.waker = Waker()
        self.readers: set[Reader] = set()
        self.arrived_at = 0.0
        self.catch_up = CatchUp(
            topic,
            source,
            self.window,
            encode=encode,
            locate=self.locate,
            learn=self.learn,
            pages=pages,
            readings=readings,
            observer=observer,
        )
        self.puller = Puller(
            topic,
            source,
            self.window,
            locate=self.locate,
            learn=self.learn,
            wait=options.pull_wait,
            openings=openings,
            observer=observer,
            handed=options.handed,
        )
        self._source = source
        self._observer = observer
        self._memory = memory
        self._handed = options.handed
        self._early = Early(lambda batch, by: self.learn(batch, by=by), self.puller.pull_now)
        self._locating: asyncio.Task[int] | None = None

    def start(self) -> None:
        """Begin to pull."""
        self.puller.start()

    async def stop(self) -> None:
        """End all that this feed runs."""
        self._memory.forget(self)
        self._early.stop()
        asking = [] if self._locating is None else [self._locating]
        for task in asking:
            task.cancel()
        await asyncio.gather(self.puller.stop(), self.catch_up.stop())
        await asyncio.gather(*asking, return_exceptions=True)

    @property
    def waits(self) -> bool:
        """Whether the log may have noted that this feed waits for news."""
        return self.window.located and self.puller.phase is not Phase.ENDED

    def learn(self, news: News, *, by: By = "pull") -> Learnt:
        """Take news in, whatever they are, and wake who waits for them."""
        learnt = self.window.learn(news)
        if learnt.arrived:
            self.arrived_at = asyncio.get_running_loop().time()
            self._observer.arrived(learnt.arrived, by=by)
        if learnt.lost:
            log.warning("the topic's counter went back; readers are reset", topic=self.topic, tail=self.window.tail)
            self.catch_up.clear()
        if learnt.changed:
            self._memory.holds(self, self.window.ring.size)
            self.puller.go_on()
            self.waker.wake()
            self._early.go_on()
        if learnt.jumped:
            self.puller.pull_now()
        return learnt

    def give_up(self, size: int) -> int:
        """Forget recent messages of at least `size` bytes, or all; return how many bytes are left."""
        return self.window.give_up(size)

    def deliver(self, batch: Batch, by: By) -> None:
        """Take news straight from a write."""
        if not self.learn(batch, by=by).gap:
            return
        if self._handed():
            self._early.keep(batch, by)
        else:
            self.puller.pull_now()

    @property
    def question(self) -> asyncio.Task[int] | None:
        """The question that is under way where the topic is."""
        return None if self._locating is None or self._locating.done() else self._locating

    def locating(self) -> asyncio.Task[int]:
        """Return the question where the topic is, and its tail; those who ask at the same time share it.

        The task raises what the source raises.
        """
        if self._locating is None or self._locating.done():
            self._locating = asyncio.create_task(self._locate(), name=f"locate {self.topic}")
            self._locating.add_done_callback(_looked_at)
        return self._locating

    async def locate(self) -> None:
        """Ask where the topic is."""
        await asyncio.shield(self.locating())

    async def _locate(self) -> int:
        asked_at = self.window.tail
        position = await self._source.position(self.topic)
        self.learn(Located(position.head, position.tail, position.closed, asked_at, position.whole))
        self.puller.expect_tail(position.tail)
        return position.tail


def _looked_at(task: asyncio.Task[int]) -> None:
    """Take the exception where everybody who waited for it is gone."""
    if not task.cancelled():
        task.exception()
