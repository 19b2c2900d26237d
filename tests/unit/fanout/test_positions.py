"""Where a topic is, for who asks while somebody else's question is under way: that may have been answered already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.errors import Unavailable
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.positions import Positions
from restate_pubsub.fanout.source import MemorySource, Position
from restate_pubsub.fanout.steps import Reset
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Message
from support.following import Following, encoded, lines, numbers
from support.waiting import until


class Slow(MemorySource):
    """A log whose answers are under way until `arrive` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.arrive = asyncio.Event()
        self.answered: list[Position] = []
        self.refused: Exception | None = None

    def append_unheard(self, topic: str, *messages: Message) -> None:
        """Append, and tell nobody yet."""
        self._topic(topic).messages.extend(messages)

    async def position(self, topic: str) -> Position:
        found = await super().position(topic)
        self.answered.append(found)
        refused = self.refused
        await self.arrive.wait()
        if refused is not None:
            raise refused
        return found


@pytest.fixture
async def log() -> Slow:
    """Return a log with three messages in `t`."""
    source = Slow()
    source.append("t", *numbers(0, 3))
    return source


@pytest.fixture
async def hub(log: Slow) -> AsyncIterator[Hub]:
    """Return a hub that the log tells where its topics are."""
    hub = Hub(log, "here", encoded, FeedOptions(linger=60))
    log.opened = hub.opened
    yield hub
    await hub.close()


@pytest.mark.parametrize("refused", [None, Unavailable()])
async def test_who_asks_is_told_of_what_was_written_before(log: Slow, refused: Exception | None) -> None:
    """Those who came meanwhile share one question, whatever becomes of the one before."""
    positions = Positions(log)
    log.refused = refused
    first = asyncio.create_task(positions.ask("t"))
    await until(lambda: log.answered, "the first answer")
    log.refused = None
    log.append("t", *numbers(3, 5))
    later = [asyncio.create_task(positions.ask("t")) for _ in range(3)]
    await asyncio.sleep(0)
    log.arrive.set()
    assert [5, 5, 5] == [position.tail for position in await asyncio.gather(*later)]
    assert 2 == len(log.answered)
    if refused is None:
        assert 3 == (await first).tail
    else:
        with pytest.raises(Unavailable):
            await first
    await positions.close()


async def test_a_place_that_is_newer_than_another_reader_s_question_is_no_lost_one(hub: Hub, log: Slow) -> None:
    """It comes from a replica that knows more; the log is asked once more, and knows it."""
    log.arrive.set()
    async with Following(hub.open("t", Start("latest"))) as located:
        await located.resolved()
        await until(lambda: log.waiting["t"], "the pull to wait")
        log.arrive.clear()
        asked = len(log.answered)
        async with Following(hub.open("t", Start("offset", 4))) as early:
            await until(lambda: len(log.answered) > asked, "its question")
            log.append_unheard("t", *numbers(3, 6))
            async with Following(hub.open("t", Start("offset", 5))) as late:
                await asyncio.sleep(0)
                log.arrive.set()
                await early.is_told(Reset(4, 0, 3), lines(0, 3))
                await late.resolved()
                assert [] == late.told
                assert 2 == len(log.answered) - asked
