"""Readers of every kind, while a topic is written, truncated and ended, and the log answers late, cut short, or not."""

from __future__ import annotations

import asyncio
import random

import pytest

from restate_pubsub.errors import Unavailable
from restate_pubsub.fanout import catch_up, puller, reader
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource, Position
from restate_pubsub.fanout.steps import Chunk, End, Reset
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch, Message
from support.following import encoded

HISTORIES = 200
STEPS = 40
READERS = 4
TOKENS = 10
"""So many messages go on with one another, and then some do not."""
SECONDS = 20.0


class Wild(MemorySource):
    """A log whose questions and answers are under way for a while, whose answers are cut short, and that may fail."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.calm = False
        """Once set, nothing fails any more."""

    async def _under_way(self, *, fails: bool = True) -> None:
        for _ in range(self.chance.choice((0, 0, 1, 3, 20))):
            await asyncio.sleep(0)
        if fails and not self.calm and self.chance.random() < 0.05:
            raise Unavailable

    async def position(self, topic: str) -> Position:
        await self._under_way()
        found = await super().position(topic)
        await self._under_way()
        return found

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        await self._under_way()
        if self.chance.random() < 0.3:
            limit = min(limit or 99, self.chance.randint(1, 9))
        found = await super().pull(topic, offset, limit=limit, wait=min(wait, 0.5), join=join)
        await self._under_way()
        return found

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        await self._under_way()
        return await super().history(topic, offset, limit=limit, join=join, reading=reading)


class Topic:
    """What was written to the topic `t`, and the hub that reads it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log = Wild(chance)
        self.log.whole = chance.choice((None, 100))
        self.hub = Hub(self.log, "here", encoded, FeedOptions(linger=chance.choice((0.0, 60.0)), ring_bytes=300))
        self.log.opened = self.hub.opened
        if chance.random() < 0.7:
            self.log.read = self.hub.read
        self.period = chance.choice((TOKENS + 5, 50))
        self.written: list[str] = []
        self.head = 0

    def truncate(self) -> None:
        """Move the head somewhere."""
        self.head = self.chance.randint(self.head, len(self.written))
        self.log.truncate("t", self.head)

    def append(self, count: int) -> Batch:
        """Write messages: some go on with one another."""
        told = []
        for at in range(len(self.written), len(self.written) + count):
            self.written.append(f'{{"text":"{at},"}}' if at % self.period < TOKENS else f"{at}")
            told.append(Message(self.written[-1].encode()))
        return self.log.append("t", *told)

    async def happens(self) -> None:
        """Write, or truncate; who writes here hands its news over, now or later."""
        if self.chance.random() < 0.1 and self.written:
            self.truncate()
            return
        batch = self.append(self.chance.choice((1, 1, 2, 9, 70)))
        if self.chance.random() < 0.4:
            self.hub.deliver("t", batch)
        for _ in range(self.chance.choice((0, 0, 2, 10))):
            await asyncio.sleep(0)

    async def ends(self) -> None:
        """Close the topic; often all of a sudden, with a truncation, and much that nobody has heard of yet."""
        for _ in range(self.chance.choice((0, 1, 3, 8, 20))):
            await asyncio.sleep(0)
        if self.chance.random() < 0.5:
            self.truncate()
        if self.chance.random() < 0.5:
            self.append(self.chance.choice((1, 9, 70)))
        self.log.close("t")
        self.log.calm = True

    def covers(self, start: int, stop: int) -> str:
        """Return the messages `[start, stop)` as one."""
        if stop - start == 1:
            return self.written[start]
        texts = [one.removeprefix('{"text":"').removesuffix('"}') for one in self.written[start:stop]]
        return '{"text":"' + "".join(texts) + '"}'

    async def read(self) -> None:
        """Read to the end; now and then go, and come again where it was, joined or not."""
        at, ended = self.chance.randint(0, len(self.written)), False
        while not ended:
            join, leaves = self.chance.random() < 0.6, self.chance.random() < 0.3
            reading = self.hub.open("t", Start("offset", at), join=join)
            try:
                async for step in reading.steps():
                    if isinstance(step, Chunk):
                        at = self._seen(at, step.data, join=join)
                    elif isinstance(step, Reset):
                        assert at < step.head <= self.head, f"{step} at {at}, where the head is {self.head}"
                        at = step.head
                    ended = isinstance(step, End)
                    if leaves and self.chance.random() < 0.2:
                        break
            finally:
                reading.close()
            assert not ended or at == len(self.written), f"it ended at {at} of {len(self.written)}"

    def _seen(self, at: int, data: bytes, *, join: bool) -> int:
        for line in data.decode().splitlines():
            last, _, found = line.partition("=")
            stop = int(last) + 1
            assert at < stop, f"{line} comes at {at}"
            assert join or stop == at + 1, f"{line} leaves something out at {at}"
            assert found == self.covers(at, stop), f"{line} is not what was written from {at} on"
            at = stop
        return at


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again without a long pause."""
    for module in (puller, reader):
        monkeypatch.setattr(module, "BACKOFF_FIRST", 0.001)
        monkeypatch.setattr(module, "BACKOFF_LONGEST", 0.002)


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_whoever_reads_gets_what_was_written(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    topic = Topic(chance := random.Random(seed))
    monkeypatch.setattr(catch_up, "READ_MESSAGES", chance.choice((2, 16, 4096)))
    await topic.happens()
    readers = []
    for step in range(STEPS):
        await topic.happens()
        if step % (STEPS // READERS) == 0:
            readers.append(asyncio.create_task(topic.read()))
    await topic.ends()
    try:
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*readers)
    finally:
        for task in readers:
            task.cancel()
        await topic.hub.close()
