"""All feeds of this process, and how many read them. It knows neither the web nor Restate."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.fanout.feed import Feed, FeedOptions
from restate_pubsub.fanout.lingering import Lingering
from restate_pubsub.fanout.observer import By, NullObserver, Observer
from restate_pubsub.fanout.openings import Openings
from restate_pubsub.fanout.pages import Pages
from restate_pubsub.fanout.positions import Positions
from restate_pubsub.fanout.reader import Reader, Stoppable
from restate_pubsub.fanout.readings import Readings
from restate_pubsub.fanout.releases import Releases
from restate_pubsub.fanout.ring_memory import RingMemory

if TYPE_CHECKING:
    from restate_pubsub.fanout.source import Position, Source
    from restate_pubsub.fanout.steps import Encode
    from restate_pubsub.fanout.window import Start
    from restate_pubsub.protocol.messages import Batch, Place

log = structlog.stdlib.get_logger(__name__)

RELEASE_SECONDS = 3.0
"""How long the end of this process waits for its last topics to be released."""


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


class Hub:
    """The feeds and readers of one process."""

    def __init__(
        self,
        source: Source,
        replica: str,
        encode: Encode,
        options: FeedOptions | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Start without feeds. `encode` makes a message the bytes that readers of it share."""
        self.replica = replica
        self.observer = observer or NullObserver()
        self.streams = 0
        """How many readers there are."""
        self._source = source
        self._encode = encode
        self._options = options or FeedOptions()
        self._lingering = Lingering(self._options.linger, self._retire)
        self._memory = RingMemory(self._options.rings_bytes, self.observer)
        self._pages = Pages(self._options.rings_bytes, self._memory)
        self._openings = Openings()
        self._readings = Readings()
        self._feeds: dict[str, Feed] = {}
        self._positions = Positions(source)
        self._releases = Releases(source)
        self._retiring: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    @property
    def topics(self) -> int:
        """How many feeds there are."""
        return len(self._feeds)

    def open(self, topic: str, start: Start, *, join: bool = False, part_of: Stoppable | None = None) -> Reader:
        """Return a reader of `topic`; the first one starts the feed. `join`: what is behind may come joined.

        `part_of` is a stream that has more readers. It ends as a whole, and whoever opens it has it counted.
        """
        feed = self._feeds.get(topic) or self._follow(topic)
        self._lingering.take_out(feed)
        reader = Reader(feed, start, self.observer, self._left, join=join, part_of=part_of)
        feed.readers.add(reader)
        self.streams += 1
        self._empty.clear()
        if part_of is None:
            self.observer.stream_opened()
        return reader

    async def position(self, topic: str) -> Position:
        """Return where the topic and its last answer are now, as the log knows it.

        Raises:
            PubsubError: the log does not answer.

        """
        return await self._positions.ask(topic)

    def _follow(self, topic: str) -> Feed:
        feed = self._feeds[topic] = Feed(
            topic,
            self._source,
            encode=self._encode,
            options=self._options,
            observer=self.observer,
            memory=self._memory,
            pages=self._pages,
            openings=self._openings,
            readings=self._readings,
        )
        self.observer.topic_opened()
        feed.start()
        return feed

    def _left(self, reader: Reader) -> None:
        """Note that a reader is gone; a feed without readers lingers a while."""
        feed = reader.feed
        feed.readers.discard(reader)
        self.streams -= 1
        if reader.part_of is None:
            self.observer.stream_closed()
        if not self.streams:
            self._empty.set()
        if not feed.readers:
            self._lingering.put_in(feed)

    def _retire(self, feed: Feed) -> None:
        if self._feeds.get(feed.topic) is feed and not feed.readers:
            del self._feeds[feed.topic]
            self.observer.topic_closed()
            task = asyncio.create_task(self._end(feed))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _end(self, feed: Feed) -> None:
        waits = feed.waits
        await feed.stop()
        if waits and feed.topic not in self._feeds:
            self._releases.release(feed.topic)

    def busiest(self, count: int) -> list[TopicFigures]:
        """Describe the `count` topics that have the most readers."""
        chosen = heapq.nlargest(count, self._feeds.values(), key=lambda feed: len(feed.readers))
        return [
            TopicFigures(
                feed.topic,
                len(feed.readers),
                feed.window.head,
                feed.window.tail,
                feed.window.closed,
                feed.window.ring.size,
                max((reader.behind for reader in feed.readers), default=0),
            )
            for feed in chosen
        ]

    # --- what writes say, here and at peers ---------------------------------------------------------------------------

    def follows(self, topic: str) -> bool:
        """Whether there is a feed of the topic."""
        return topic in self._feeds

    def followed(self) -> Collection[str]:
        """Return the topics of which there are feeds."""
        return self._feeds.keys()

    def opened(self, topic: str, opening: str, place: Place) -> bool:
        """Take the position that a feed's first pull has read; return whether that pull is to wait from the tail."""
        feed = self._feeds.get(topic)
        try:
            return feed is not None and feed.puller.opened(opening, place)
        except Exception:  # a reader's trouble must not fail the pull
            log.exception("taking a topic's position failed; the feed asks Restate", topic=topic)
            return False

    def read(self, reading: str, batch: Batch) -> bool:
        """Take what was read for a feed here; return whether it is still waited for."""
        return self._readings.take(reading, batch)

    def deliver(self, topic: str, batch: Batch, by: By = "local") -> None:
        """Take news straight from a write. A gap is pulled.

        A topic that had ended and has news was deleted. Nothing is pulled of it for readers that have gone.
        """
        feed = self._feeds.get(topic)
        if feed is not None and feed.window.closed and not feed.readers and not batch.closed:
            self._retire(feed)
        elif feed is not None:
            try:
                feed.deliver(batch, by)
            except Exception:  # a reader's trouble must not fail the write
                log.exception("delivery failed; the feed asks Restate", topic=topic)
                feed.puller.pull_now()

    def expect_tail(self, topic: str, tail: int) -> None:
        """Make sure that a feed gets to `tail`, which a write in this process has reached."""
        feed = self._feeds.get(topic)
        if feed is not None:
            feed.puller.expect_tail(tail)

    def delivery_uncertain(self, topic: str) -> None:
        """Make a feed ask Restate at once: a write may have happened that was not delivered."""
        feed = self._feeds.get(topic)
        if feed is not None:
            self.observer.delivery_uncertain()
            feed.puller.pull_now()

    # --- the end ---------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """End every stream, spread over `seconds`, so that readers do not come back all at once.

        Feeds do not linger from now on.
        """
        loop = asyncio.get_running_loop()
        self._lingering.end()
        streams = {reader.part_of or reader for feed in self._feeds.values() for reader in feed.readers}
        for stream in streams:
            loop.call_later(random.uniform(0, seconds), stream.stop)  # noqa: S311 - spreads load
        if streams:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds + 1.0)

    async def close(self) -> None:
        """Stop all feeds, and release their topics in the time that there is."""
        feeds, self._feeds = list(self._feeds.values()), {}
        await asyncio.gather(*(self._end(feed) for feed in feeds), *self._retiring)
        self._lingering.end()
        self._pages.close()
        await self._readings.close()
        await self._positions.close()
        await self._releases.close(RELEASE_SECONDS)
