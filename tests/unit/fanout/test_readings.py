"""What is behind the ring is read of the whole topic where that is faster, and handed over where it is read here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout import catch_up
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.steps import End, Reset
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.limits import JOINED_READ, WHOLE_MAX_BYTES
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.topic.log import PAGE
from support.following import Following, encoded, lines, numbers
from support.waiting import until


class Log(MemorySource):
    """A log whose topics may be read as a whole. `silent`: it answers no such read; `refused` is one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = 100
        self.words: list[str] = []
        self.silent = False
        self.cut_off = 0
        self.refused: PubsubError | None = None

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        self.words.append(reading)
        if self.refused is not None:
            refused, self.refused = self.refused, None
            raise refused
        batch = await super().history(topic, offset, limit=limit, join=join, reading=reading)
        if self.silent:
            try:
                await asyncio.Event().wait()
            finally:
                self.cut_off += 1
        return batch


@pytest.fixture
async def log() -> Log:
    """Return a log with a hundred messages in `t`, which has ended."""
    source = Log()
    source.append("t", *numbers(0, 100))
    source.close("t")
    return source


@pytest.fixture
async def hub(log: Log) -> AsyncIterator[Hub]:
    """Return a hub that the log tells what it reads."""
    hub = Hub(log, "here", encoded, FeedOptions(linger=60))
    log.opened, log.read = hub.opened, hub.read
    yield hub
    await hub.close()


async def everything(hub: Hub, *, join: bool = True) -> None:
    async with Following(hub.open("t", Start(), join=join)) as reader:
        await reader.is_told(lines(0, 100), End(100))


@pytest.mark.parametrize("join", [True, False])
async def test_what_is_handed_over_needs_no_answer(hub: Hub, log: Log, join: bool) -> None:  # noqa: FBT001
    """The call is left to end by itself, and cut off only with the hub."""
    log.silent = True
    await everything(hub, join=join)
    assert (1, 0) == (len(log.words), log.cut_off)
    assert not hub.read(log.words[0], Batch(0, (), 0))
    await hub.close()
    assert 1 == log.cut_off


async def test_what_is_read_elsewhere_is_answered(hub: Hub, log: Log) -> None:
    log.read = lambda *_: False
    await everything(hub)
    assert 1 == log.histories


async def test_an_answer_that_fails_after_it_was_handed_over_is_of_no_interest(hub: Hub, log: Log) -> None:
    def handed_and_lost(word: str, batch: Batch) -> bool:
        assert hub.read(word, batch)
        raise Unavailable

    log.read = handed_and_lost
    await everything(hub)
    assert 1 == len(log.words)


@pytest.mark.parametrize("refused", [PullTimeout(), Unavailable("The object has no handler 'history'")], ids=repr)
async def test_where_it_gives_nothing_the_log_is_pulled(hub: Hub, log: Log, refused: PubsubError) -> None:
    """Not all of the topic came along, or the object was updated and is not registered anew yet."""
    log.refused = refused
    await everything(hub)
    assert 1 == len(log.words)


async def test_what_is_gone_is_gone(hub: Hub, log: Log) -> None:
    log.append("u", *numbers(0, 9))
    async with Following(hub.open("u", Start("latest"))) as first:
        await first.resolved()
        log.truncate("u", 6)
        log.refused = OffsetGone(0, 6)
        async with Following(hub.open("u", Start(), join=True)) as reader:
            await reader.is_told(Reset(0, 6, 9), lines(6, 9))


@pytest.mark.parametrize("whole", [None, WHOLE_MAX_BYTES + 1])
async def test_a_large_topic_is_pulled_and_one_of_which_nothing_is_known(hub: Hub, log: Log, whole: int | None) -> None:
    log.whole = whole
    await everything(hub)
    assert [] == log.words


@pytest.mark.parametrize(("most", "wholly"), [(1, False), (8, True)])
async def test_a_small_part_of_a_topic_is_pulled(
    hub: Hub,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
    wholly: bool,  # noqa: FBT001
) -> None:
    """A read may begin a page before its reader's place."""
    assert (JOINED_READ + PAGE) * catch_up.WHOLE_SHARE <= 400 <= 8 * JOINED_READ * catch_up.WHOLE_SHARE
    monkeypatch.setattr(catch_up, "READ_MESSAGES", most)
    log.append("u", *numbers(0, 400))
    async with Following(hub.open("u", Start(), join=True)) as reader:
        await reader.is_told(lines(0, 400))
    assert wholly == bool(log.words)


async def test_what_has_come_since_counts(hub: Hub, log: Log) -> None:
    """A topic that has grown too large since it was asked for its size is pulled."""
    log.whole = WHOLE_MAX_BYTES - 1
    log.append("u", *numbers(0, 3))
    async with Following(hub.open("u", Start("latest"))) as reader:
        await reader.resolved()
        window = reader.reader.feed.window
        assert WHOLE_MAX_BYTES - 1 == window.whole
        await until(lambda: log.waiting["u"], "the pull to wait")
        log.append("u", *numbers(3, 5))
        await until(lambda: window.tail == 5, "the news")
        assert (window.whole or 0) > WHOLE_MAX_BYTES
        async with Following(hub.open("u", Start(), join=True)) as late:
            await late.is_told(lines(0, 5))
    assert [] == log.words


async def test_a_reader_who_goes_takes_the_question_back(hub: Hub, log: Log) -> None:
    log.silent, log.read = True, lambda *_: False
    async with Following(hub.open("t", Start(), join=True)):
        await until(lambda: log.words, "the question")
    await until(lambda: log.cut_off, "it to be taken back")
    assert not hub.read(log.words[0], Batch(0, (), 0))
