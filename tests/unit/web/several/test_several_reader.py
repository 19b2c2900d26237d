"""Several topics on one wire, over a hub on a log in memory: in which writes, in which order, and what each costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource, Position
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.sse import message_frame
from restate_pubsub.web.beats import Beats
from restate_pubsub.web.opening import Opening
from restate_pubsub.web.pushed_stream import PushedStream
from restate_pubsub.web.several import several_reader
from restate_pubsub.web.several.several_reader import AT_ONCE, PIECE_BYTES, SeveralReader
from support.waiting import until


class Source(MemorySource):
    """A log that answers for no topic of `dead`, and counts how many questions it has at once."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[str] = set()
        self.asked = self.most = 0

    async def position(self, topic: str) -> Position:
        self.asked += 1
        self.most = max(self.most, self.asked)
        try:
            if topic in self.dead:
                await asyncio.Event().wait()
            await asyncio.sleep(0.001)
            return await super().position(topic)
        finally:
            self.asked -= 1


class Wire:
    """Notes what is written; full when it is told to be."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.full = self.ended = self.aborted = False

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def said(self) -> list[tuple[str, int]]:
        """The topic and offset of each message."""
        lines = b"".join(self.parts).split(b"\n")
        found = [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]
        return [(data["topic"], data["offset"]) for data in found if "offset" in data]


class Pushed:
    """One stream and its wire."""

    def __init__(self, hub: Hub, topics: list[str], *, offset: str = "offset", full: bool = False) -> None:
        start = Start() if offset == "offset" else Start("latest")
        self.closed = 0
        self.reader = SeveralReader(
            topics,
            [start] * len(topics),
            lambda topic, start, part_of: hub.open(topic, start, part_of=part_of),
            on_close=self._close,
        )
        self.wire = Wire()
        self.wire.full = full
        self.stream = PushedStream(
            self.reader,
            Opening(1.0, beat=b"", places=False),
            beat=b":\n",
            beats=Beats(60.0),
            lasts=None,
            on_slow=lambda: None,
            on_end=lambda: None,
        )
        self.stream.taken(self.wire)

    def _close(self) -> None:
        self.closed += 1

    async def placed(self) -> None:
        """Wait until all topics are open."""
        await self.reader.resolve(10, all_=True)
        await until(lambda: not self.reader._tasks, "all to be open", 10)

    def held(self) -> int:
        """How many chunks wait for the client."""
        return sum(part.pending is not None for part in self.reader._parts)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def hub(source: Source) -> AsyncIterator[Hub]:
    hub = Hub(source, "here", message_frame, FeedOptions(linger=60))
    yield hub
    await hub.close()


def names(count: int) -> list[str]:
    return [f"t{n}" for n in range(count)]


async def test_a_hundred_topics_are_opened_a_few_at_a_time(hub: Hub, source: Source) -> None:
    """However many the stream has, Restate is asked about so many at once."""
    for topic in names(100):
        source.append(topic, Message(b"1"))
    pushed = Pushed(hub, names(100))
    await until(lambda: len(pushed.wire.said) == 100, "a message of each", 10)
    assert 1 < source.most <= AT_ONCE
    pushed.stream.gone()


async def test_dead_topics_hold_up_none(hub: Hub, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than are asked about at once, and first in line: all others are served."""
    monkeypatch.setattr(several_reader, "TURN_SECONDS", 0.05)
    topics = names(40)
    source.dead = set(topics[: 2 * AT_ONCE])
    for topic in topics:
        source.append(topic, Message(b"1"))
    pushed = Pushed(hub, topics)
    await until(lambda: len(pushed.wire.said) == 40 - 2 * AT_ONCE, "a message of each that answers", 10)
    assert {topic for topic, _ in pushed.wire.said} == set(topics) - source.dead
    pushed.stream.gone()
    assert (0, 1) == (hub.streams, pushed.closed)


async def test_news_of_many_topics_are_one_write(hub: Hub, source: Source) -> None:
    """What comes together is written together, and an idle stream has no task."""
    topics = names(30)
    pushed = Pushed(hub, topics, offset="latest")
    await pushed.placed()
    before = len(pushed.wire.parts)
    for topic in topics:
        hub.deliver(topic, source.append(topic, Message(b"1")))
    await until(lambda: len(pushed.wire.said) == 30, "a message of each", 10)
    assert before + 1 == len(pushed.wire.parts)
    assert not pushed.reader._tasks
    pushed.stream.gone()


async def test_a_topic_that_has_much_holds_up_none(hub: Hub, source: Source) -> None:
    """They take turns, a chunk each."""
    pushed = Pushed(hub, ["much", "little"], offset="latest")
    await pushed.placed()
    pushed.wire.full = True
    big = b'"%b"' % (b"x" * (PIECE_BYTES // 2))
    hub.deliver("much", source.append("much", *[Message(big)] * 20))
    hub.deliver("little", source.append("little", Message(b"1")))
    await asyncio.sleep(0.05)
    pushed.wire.full = False
    pushed.stream.room()
    await until(lambda: len(pushed.wire.said) == 21, "all", 10)
    assert pushed.wire.said.index(("little", 0)) <= 2
    assert [("much", n) for n in range(20)] == [one for one in pushed.wire.said if one[0] == "much"]
    pushed.stream.gone()


async def test_a_slow_client_has_a_few_old_chunks_read_for_it(hub: Hub, source: Source) -> None:
    """Not one a topic: what it has not taken keeps the turn. Once it takes them, it gets all."""
    topics = names(40)
    for topic in topics:
        source.append(topic, Message(b"1"))
    pushed = Pushed(hub, topics, full=True)
    await pushed.placed()
    pushed.wire.full = False
    pushed.reader.piece()  # each is behind the ring, and wants to read
    pushed.wire.full = True
    await until(lambda: pushed.held() >= AT_ONCE, "what is read", 10)
    await asyncio.sleep(0.05)
    assert AT_ONCE == pushed.held()
    pushed.wire.full = False
    pushed.stream.room()
    await until(lambda: len(pushed.wire.said) == 40, "all", 10)
    pushed.stream.gone()


async def test_a_process_that_stops_ends_it_once(hub: Hub) -> None:
    """As a whole, at one time; every reader is given back."""
    pushed = Pushed(hub, names(20))
    stops: list[Any] = []
    pushed.reader.stop, stop = lambda: stops.append(stop()), pushed.reader.stop  # type: ignore[method-assign]
    await hub.drain(0.05)
    assert 1 == len(stops)
    assert pushed.wire.ended
    assert (0, 1) == (hub.streams, pushed.closed)


async def test_one_that_fails_is_alone_with_it(hub: Hub, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed, and another's goes on."""
    other = Pushed(hub, ["a"])
    pushed = Pushed(hub, ["a", "b"])
    await pushed.placed()

    def broken(*_: Any) -> bytes:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(several_reader, "frames_of", broken)
        hub.deliver("b", source.append("b", Message(b"1")))
        await until(lambda: pushed.wire.aborted, "the end of the one", 10)
    pushed.stream.gone()
    hub.deliver("a", source.append("a", Message(b"1")))
    await until(lambda: other.wire.said == [("a", 0)], "the other's message", 10)
    other.stream.gone()
    assert 0 == hub.streams
