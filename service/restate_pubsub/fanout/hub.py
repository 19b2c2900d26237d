"""All feeds of this process, and the readers on them. It knows neither the web nor Restate.

A reader is a cursor, not a queue: it takes every frame from its offset to the ring's end in one write and then
waits to be woken. A slow one loses nothing: behind the ring, it reads the log again until it has caught up.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import structlog

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout
from restate_pubsub.fanout.feed import Feed, FeedOptions, backed_off
from restate_pubsub.fanout.observer import Nobody, Observer
from restate_pubsub.fanout.ring import Ring
from restate_pubsub.fanout.ring_memory import RingMemory
from restate_pubsub.protocol.sse import end_frame, place_frame, reset_frame

if TYPE_CHECKING:
    from restate_pubsub.fanout.source import Source
    from restate_pubsub.protocol.messages import Batch

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """Where a reader wants to begin: at an offset, at the latest (what comes next), or at the last so many.

    `resumes`: it has read before, so at the end of a closed topic it need not be told once more.
    """

    kind: Literal["offset", "latest", "last"] = "offset"
    value: int = 0
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """The place asked for is gone; there is `[head, tail)`."""

    requested: int
    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class TopicFigures:
    """A topic as this process sees it: its readers, its bounds, what is in memory, and its slowest reader.

    `behind` counts the messages that the slowest reader has not been given yet.
    """

    topic: str
    streams: int
    head: int
    tail: int
    closed: bool
    bytes: int
    behind: int


class Reader:
    """One stream: a cursor on a feed. Close it, or it is counted for ever."""

    def __init__(self, hub: Hub, feed: Feed, start: Start) -> None:
        """Join the feed; nothing is decided until `place`."""
        self.start = start
        self.cursor = -1
        self.reset: Reset | None = None
        self._hub = hub
        self._feed = feed
        self._epoch = feed.epoch
        self._wake = asyncio.Event()
        self._stopped = False
        self._left = False
        self._failures = 0
        feed.join(self._wake)

    @property
    def placed(self) -> bool:
        """Whether the cursor is known."""
        return self.cursor >= 0

    @property
    def finished(self) -> bool:
        """Whether it is at the end of a closed topic."""
        return self.placed and self._feed.closed and self.cursor >= self._feed.ring.tail

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._stopped = True
        self._wake.set()

    def close(self) -> None:
        """Leave the feed."""
        if not self._left:
            self._left = True
            self._feed.leave(self._wake)
            self._hub.left(self, self._feed)

    async def place(self) -> None:
        """Find out where to begin; waits until Restate has answered once, or the stream is stopped."""
        if self.placed:
            return
        feed = self._feed
        while not feed.positioned.is_set() and not self._stopped:
            await self._woken()
        wanted = self.start.value
        known = feed.ring.tail
        # A closed topic may have been deleted since and be open again; and an offset past what this feed knows
        # may come from a replica that knows more. Only Restate can tell.
        if feed.closed or (self.start.kind == "offset" and wanted > known):
            known = max(await self._locate(), feed.ring.tail)
        if self._stopped:
            return
        self._epoch = feed.epoch
        if self.start.kind == "latest":
            self.cursor = feed.ring.tail
        elif self.start.kind == "last":
            self.cursor = max(feed.head, feed.ring.tail - wanted)
        elif wanted < feed.head or (wanted > known and not feed.closed):
            self._go_on_from_head(wanted, known)
        else:
            self.cursor = wanted

    async def _woken(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    async def _locate(self) -> int:
        """Ask Restate for the topic's tail until it answers."""
        failures = 0
        while not self._stopped:
            try:
                return await self._feed.locate()
            except PubsubError:
                failures = await backed_off(failures)
        return 0

    def _go_on_from_head(self, requested: int, tail: int) -> None:
        self.reset = Reset(requested, self._feed.head, tail)
        self.cursor = self._feed.head

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what to write, until the topic ends or `stop`."""
        await self.place()
        feed = self._feed
        loop = asyncio.get_running_loop()
        joined = loop.time()
        if self.placed and self.start.kind != "offset":
            yield place_frame(self.cursor)
        while not self._stopped:
            if feed.epoch != self._epoch:
                self._epoch = feed.epoch
                self._go_on_from_head(self.cursor, feed.ring.tail)
            if self.reset is not None:
                yield self._reset_frame(self.reset)
            elif self.cursor < feed.ring.base:
                async for piece in self._older():
                    yield piece
            elif self.cursor < feed.ring.tail:
                arrived = feed.arrived_at
                piece, count = self._take(feed.ring)
                yield piece
                # What was there before this reader came did not wait for a write: it has no lag.
                lag = loop.time() - arrived if arrived >= joined else None
                self._hub.observer.delivered(count, len(piece), lag)
            elif feed.closed:
                yield end_frame(feed.ring.tail)
                return
            else:
                await self._woken()

    def _take(self, ring: Ring) -> tuple[bytes, int]:
        """Take what the ring has from the cursor on: the bytes, and how many messages."""
        piece, after = ring.take(self.cursor)
        count, self.cursor = after - self.cursor, after
        return piece, count

    def _reset_frame(self, reset: Reset) -> bytes:
        self.reset = None
        self._hub.observer.was_reset()
        return reset_frame(reset.requested, reset.head, reset.tail, self.cursor)

    async def _older(self) -> AsyncIterator[bytes]:
        """Yield a part of what is older than the ring, read again from Restate; nothing if that failed."""
        feed = self._feed
        ring = await self._history()
        if ring is None or not ring.base <= self.cursor < ring.tail:
            if self.reset is None:
                self._failures = await backed_off(self._failures)
            return
        self._failures = 0
        if ring.tail < feed.ring.base:
            feed.history(ring.tail)  # the next part comes while this one is written
        while ring.base <= self.cursor < ring.tail and not self._stopped:
            piece, count = self._take(ring)
            yield piece
            self._hub.observer.delivered(count, len(piece), None)

    async def _history(self) -> Ring | None:
        feed = self._feed
        try:
            return await asyncio.shield(feed.history(self.cursor))
        except OffsetGone as error:
            feed.head = max(feed.head, error.head)
            self._go_on_from_head(self.cursor, max(feed.head, feed.ring.tail))
        except PullTimeout:  # nothing there, where there was something: the counter was lost
            await self._locate()
        except PubsubError as error:
            log.debug("catch-up read failed; it is tried again", topic=feed.topic, code=error.code)
        return None


class Hub:
    """The feeds and readers of one process; the object's `LocalReaders`."""

    def __init__(
        self, source: Source, replica: str, options: FeedOptions | None = None, observer: Observer | None = None
    ) -> None:
        """Start without feeds."""
        self.replica = replica
        self.observer = observer or Nobody()
        self._source = source
        self._options = options or FeedOptions()
        self._memory = RingMemory(self._options.rings_bytes, self.observer)
        self._feeds: dict[str, Feed] = {}
        self._readers: dict[Feed, set[Reader]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    @property
    def streams(self) -> int:
        """How many readers there are."""
        return sum(map(len, self._readers.values()))

    def open(self, topic: str, start: Start) -> Reader:
        """Return a reader of `topic`; the first one starts the feed."""
        feed = self._feeds.get(topic)
        if feed is None:
            feed = self._feeds[topic] = Feed(topic, self._source, self._options, self.observer, self._memory)
            self._readers[feed] = set()
            self.observer.topic_opened()
            feed.start()
        reader = Reader(self, feed, start)
        self._readers[feed].add(reader)
        self._empty.clear()
        self.observer.stream_opened()
        return reader

    def busiest(self, count: int) -> list[TopicFigures]:
        """Describe the `count` topics that have the most readers."""
        chosen = heapq.nlargest(count, self._readers.items(), key=lambda item: len(item[1]))
        return [
            TopicFigures(
                feed.topic,
                len(readers),
                feed.head,
                feed.ring.tail,
                feed.closed,
                feed.ring.size,
                max((feed.ring.tail - reader.cursor for reader in readers if reader.placed), default=0),
            )
            for feed, readers in chosen
        ]

    def left(self, reader: Reader, feed: Feed) -> None:
        """Note that a reader is gone; a feed without readers lingers a while."""
        self._readers[feed].discard(reader)
        self.observer.stream_closed()
        if not self.streams:
            self._empty.set()
        if not self._readers[feed]:
            asyncio.get_running_loop().call_later(self._options.linger, self._retire, feed)

    def _retire(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic) is feed and not self._readers[feed]:
            del self._feeds[feed.topic], self._readers[feed]
            self.observer.topic_closed()
            task = asyncio.create_task(feed.stop())
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    def follows(self, topic: str) -> bool:
        """Whether there is a feed of the topic."""
        return topic in self._feeds

    def deliver(self, topic: str, batch: Batch) -> None:
        """Take news of a write that ran in this process."""
        feed = self._feeds.get(topic)
        if feed is not None:
            try:
                feed.deliver(batch)
            except Exception:  # a reader's trouble must not fail the write
                log.exception("delivery failed; the feed asks Restate", topic=topic)
                feed.poke()

    def expect_tail(self, topic: str, tail: int) -> None:
        """Make sure that a feed gets to `tail`, which a write in this process has reached."""
        feed = self._feeds.get(topic)
        if feed is not None:
            feed.heard(tail)

    def delivery_uncertain(self, topic: str) -> None:
        """Make a feed ask Restate at once: a write may have happened that was not delivered."""
        feed = self._feeds.get(topic)
        if feed is not None:
            self.observer.suspected()
            feed.poke()

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over `seconds`, so that readers do not come back all at once."""
        loop = asyncio.get_running_loop()
        readers = [reader for readers in self._readers.values() for reader in readers]
        for reader in readers:
            loop.call_later(random.uniform(0, seconds), reader.stop)  # noqa: S311 - spreads load
        if readers:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds + 1.0)

    async def close(self) -> None:
        """Stop all feeds."""
        feeds, self._feeds = list(self._feeds.values()), {}
        await asyncio.gather(*(feed.stop() for feed in feeds), *self._stopping)
