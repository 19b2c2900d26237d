"""The log as feeds see it: a protocol, and one that lives in memory, for tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from restate_pubsub.errors import OffsetGone, PullTimeout, TopicClosed
from restate_pubsub.protocol.answers import Answer
from restate_pubsub.protocol.joined import joined, runs
from restate_pubsub.protocol.messages import Batch, Message, Place


class Position(NamedTuple):
    """A topic's bounds at one moment, and where its last answer is; its bytes, where it may be read as a whole."""

    head: int
    tail: int
    closed: bool = False
    answer: Answer = Answer()
    whole: int | None = None


class Source(Protocol):
    """What a feed asks of the log.

    All raise `Unavailable` for what may pass, and any other `PubsubError` for what is an answer.
    """

    async def position(self, topic: str) -> Position:
        """Return the topic's bounds now."""

    async def open(self, topic: str, opening: str, *, wait: float) -> Batch:
        """Say where the topic is, and wait for what follows up to `wait` seconds: both in one call, where it can.

        Where the log can tell the hub, it tells `Hub.opened` the position, with the word `opening`. If that wants it to
        wait, this is a pull from the tail. Otherwise it returns at once: no messages, and the position.

        Raises:
            PullTimeout: nothing came.

        """

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        """Return messages from `offset` on, or wait for news up to `wait` seconds.

        News may begin after `offset`; a read that need not wait begins there. `limit` counts offsets. `join`: messages
        that continue one another may come as one.

        Raises:
            OffsetGone: `offset` is below the head.
            PullTimeout: nothing came.

        """

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        """Return messages as `pull` does, of a topic that may be read as a whole: at once, and in few steps.

        Where the log can, it gives them to `Hub.read` with the word `reading`, and returns none.

        Raises:
            OffsetGone: `offset` is below the head.
            PubsubError: `pull` is to be asked.

        """

    async def release(self, topic: str) -> None:
        """Tell the log that nobody here waits for news of the topic any more; otherwise its pull times out."""


@dataclass
class _MemoryTopic:
    head: int = 0
    messages: list[Message] = field(default_factory=list)
    closed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tail(self) -> int:
        return self.head + len(self.messages)


class MemorySource:
    """A log in memory, for tests of whatever is built on a `Source`."""

    def __init__(self) -> None:
        """Start without topics."""
        self._topics: dict[str, _MemoryTopic] = {}
        self.pulls = 0
        self.waiting: Counter[str] = Counter()
        """How many pulls wait on each topic, those that were cancelled included until the topic is released."""
        self.clock_behind = 0.0
        """Seconds by which a pull's wait is over too early."""
        self.failing: Exception | None = None
        """Raised by every call while set."""
        self.whole: int | None = None
        """How large topics are said to be, where they may be read as a whole."""
        self.opened: Callable[[str, str, Place], bool] = lambda _topic, _opening, _place: False
        """Told the position of a topic that is opened; returns whether its pull is to wait."""
        self.read: Callable[[str, Batch], bool] = lambda _reading, _batch: False
        """Given what `history` has read; returns whether that is waited for."""
        self.histories = 0

    def _topic(self, topic: str) -> _MemoryTopic:
        return self._topics.setdefault(topic, _MemoryTopic())

    def append(self, topic: str, *messages: Message) -> Batch:
        """Append, wake who waits, and return what an `on_commit` would be told."""
        log = self._topic(topic)
        if log.closed:
            raise TopicClosed.at(topic, log.tail)
        first = log.tail
        log.messages.extend(messages)
        self._wake(log)
        return Batch(first, messages, log.tail, head=log.head)

    def close(self, topic: str) -> None:
        """End the topic."""
        log = self._topic(topic)
        log.closed = True
        self._wake(log)

    def truncate(self, topic: str, head: int) -> None:
        """Move the head."""
        log = self._topic(topic)
        del log.messages[: head - log.head]
        log.head = head

    def forget(self, topic: str) -> None:
        """Lose the topic, counter and all."""
        self._wake(self._topics.pop(topic))

    @staticmethod
    def _wake(log: _MemoryTopic) -> None:
        log.changed.set()
        log.changed = asyncio.Event()

    async def position(self, topic: str) -> Position:
        """Return the topic's bounds."""
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        log = self._topic(topic)
        return Position(log.head, log.tail, log.closed, Answer().after(log.head, log.messages), self.whole)

    async def open(self, topic: str, opening: str, *, wait: float) -> Batch:
        """Tell `opened` the position, and wait; or return it."""
        head, tail, closed, _, whole = await self.position(topic)
        if not closed and self.opened(topic, opening, Place(head, tail, whole)):
            return await self.pull(topic, tail, wait=wait)
        return Batch(tail, (), tail, closed, head, whole=whole)

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        """Return messages from `offset` on, or wait; `join` does what it does for texts of the field `text`."""
        self.pulls += 1
        await asyncio.sleep(0)
        log = self._topic(topic)
        if offset >= log.tail and not log.closed and self.failing is None:
            self.waiting[topic] += 1
            try:
                await asyncio.wait_for(log.changed.wait(), max(wait - self.clock_behind, 0.0))
            except TimeoutError:
                self.waiting[topic] -= 1
                raise PullTimeout from None
            self.waiting[topic] -= 1
            log = self._topic(topic)
        if self.failing is not None:
            raise self.failing
        if offset < log.head:
            raise OffsetGone(offset, log.head)
        stop = log.tail if limit is None else min(log.tail, offset + limit)
        messages = log.messages[offset - log.head : stop - log.head]
        after = offset + len(messages)
        ended = log.closed and after >= log.tail
        if join:
            found = joined(runs(messages, "text"), 2**30)
            return Batch(offset, found.messages, after, closed=ended, head=log.head, spans=found.spans)
        return Batch(offset, messages, after, closed=ended, head=log.head)

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        """Give `read` the messages from `offset` on, or return them."""
        self.histories += 1
        batch = await self.pull(topic, offset, limit=limit, join=join)
        return Batch(offset, (), offset, head=batch.head) if self.read(reading, batch) else batch

    async def release(self, topic: str) -> None:
        """Forget those who were waiting and have been cancelled."""
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        self.waiting.pop(topic, None)
