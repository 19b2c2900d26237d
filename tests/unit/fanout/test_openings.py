"""A feed begins with one call, which says where the topic is and waits; and how that is made good where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.fanout import openings
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.openings import AT_ONCE, EACH_SECONDS, FIRST_SECONDS, MOST_SECONDS, Openings
from restate_pubsub.fanout.puller import Phase
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.steps import Began, End, Reset
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch, Place
from support.following import Following, encoded, lines, numbers
from support.waiting import until


class Log(MemorySource):
    """A log that notes its openings, and answers none of them while it is `silent`."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.silent = False

    async def open(self, topic: str, opening: str, *, wait: float) -> Batch:
        self.words.append(opening)
        if self.silent:
            await asyncio.Event().wait()
        return await super().open(topic, opening, wait=wait)


@pytest.fixture
async def log() -> Log:
    """Return a log with three messages in `t`."""
    source = Log()
    source.append("t", *numbers(0, 3))
    return source


@pytest.fixture
async def hub(log: Log) -> AsyncIterator[Hub]:
    """Return a hub that the log tells where its topics are."""
    hub = Hub(log, "here", encoded, FeedOptions(linger=60))
    log.opened = hub.opened
    yield hub
    await hub.close()


async def test_one_call_says_where_the_topic_is_and_brings_what_follows(hub: Hub, log: Log) -> None:
    async with Following(hub.open("t", Start("latest"))) as reader:
        await until(lambda: log.waiting["t"], "the pull to wait")
        assert 1 == log.pulls
        assert Phase.PULLING is reader.reader.feed.puller.phase
        log.append("t", *numbers(3, 5))
        await reader.is_told(Began(3), lines(3, 5))
        assert 1 == len(log.words)


async def test_where_it_runs_elsewhere_the_answer_says_where_the_topic_is(hub: Hub, log: Log) -> None:
    log.opened = lambda *_: False
    async with Following(hub.open("t", Start())) as reader:
        await reader.is_told(lines(0, 3))
        await until(lambda: log.waiting["t"], "a pull of its own")
        log.append("t", *numbers(3, 4))
        await reader.is_told(lines(0, 4))
        assert 1 == len(log.words)


async def test_a_closed_topic_is_not_waited_for(hub: Hub, log: Log) -> None:
    log.close("t")
    async with Following(hub.open("t", Start("offset", 1))) as reader:
        await reader.is_told(lines(1, 3), End(3))
        assert Phase.ENDED is reader.reader.feed.puller.phase


async def test_where_nobody_says_it_the_question_is_asked_by_itself(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica of the version before runs the opening: to it, it is a pull that waits."""
    monkeypatch.setattr(openings, "FIRST_SECONDS", 0.01)
    log.silent = True
    async with Following(hub.open("t", Start())) as reader:
        await reader.is_told(lines(0, 3))
        assert not hub.opened("t", log.words[0], Place(0, 3))
        log.append("t", *numbers(3, 4))
        await reader.is_told(lines(0, 4))
        assert 1 == len(log.words)


def test_with_many_under_way_each_is_waited_for_longer() -> None:
    """They are late, and not lost: asking once more for each would make all of them later."""
    under_way = Openings()
    assert FIRST_SECONDS == under_way.patience
    under_way.under_way = 100
    assert FIRST_SECONDS + 100 * EACH_SECONDS == under_way.patience
    under_way.under_way = 10_000
    assert MOST_SECONDS == under_way.patience


async def test_so_many_begin_at_a_time(hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others follow as one is answered, or is late."""
    monkeypatch.setattr(openings, "PLACE_SECONDS", 3600)
    log.silent = True
    readers = [hub.open(f"t{at}", Start()) for at in range(AT_ONCE + 3)]
    await until(lambda: len(log.words) == AT_ONCE, "those that have a place")
    for done in (1, 2):
        begun = len(log.words)
        assert hub.opened(f"t{done}", log.words[done], Place(0, 0))
        await until(lambda begun=begun: len(log.words) == begun + 1, "the next one")  # type: ignore[misc]
    hub._openings.leave()  # a late one, while others are answered
    await until(lambda: len(log.words) == AT_ONCE + 3, "the last one")
    for reader in readers:
        reader.close()
    await hub.close()
    assert 0 == hub._openings.under_way


async def test_those_that_hang_hold_up_nobody(hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is answered at all, who waits goes on, and leaves its place as soon."""
    monkeypatch.setattr(openings, "PLACE_SECONDS", 0.2)
    log.silent = True
    for at in range(5 * AT_ONCE):
        hub.open(f"hangs{at}", Start())
    await until(lambda: len(log.words) == AT_ONCE, "those that have a place")
    began = asyncio.get_running_loop().time()
    await until(lambda: len(log.words) == 5 * AT_ONCE, "all of them")
    log.silent = False
    async with Following(hub.open("t", Start())) as reader:
        await reader.is_told(lines(0, 3))
    assert asyncio.get_running_loop().time() - began < 1
    await hub.close()
    assert (0, AT_ONCE) == (hub._openings.under_way, hub._openings.free)


async def test_neither_do_readers_who_leave_those_that_hang(
    hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening that nobody wants any more is not one that was answered."""
    monkeypatch.setattr(openings, "PLACE_SECONDS", 0.2)
    log.silent = True
    hanging = [hub.open(f"hangs{at}", Start()) for at in range(10 * AT_ONCE)]
    began = asyncio.get_running_loop().time()
    await until(lambda: len(log.words) == AT_ONCE, "those that have a place")
    while len(log.words) < 10 * AT_ONCE and asyncio.get_running_loop().time() - began < 1:
        await asyncio.sleep(0.02)
        leaving = hanging.pop(0)
        leaving.close()
        hub._retire(leaving.feed)
    assert 10 * AT_ONCE == len(log.words)


async def test_one_that_is_late_is_an_answer_nevertheless(hub: Hub, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Restate takes its time, there are no more at a time than places, and late ones."""
    monkeypatch.setattr(openings, "PLACE_SECONDS", 0.1)
    log.silent = True
    for at in range(10 * AT_ONCE):
        hub.open(f"t{at}", Start())
    await until(lambda: len(log.words) == AT_ONCE, "those that have a place")
    for at in range(3):  # what was let go meanwhile is late as well: it began before an answer
        await asyncio.sleep(0.05)
        assert hub.opened(f"t{at}", log.words[at], Place(0, 0))
    await asyncio.sleep(0.05)
    assert len(log.words) <= 4 * AT_ONCE


async def test_who_goes_while_there_is_no_place_takes_none(hub: Hub, log: Log) -> None:
    log.silent = True
    for at in range(AT_ONCE + 1):
        hub.open(f"t{at}", Start()).close()
    await until(lambda: len(log.words) == AT_ONCE, "those that have a place")
    await hub.close()
    assert (AT_ONCE, AT_ONCE) == (len(log.words), hub._openings.free)


async def test_none_is_left_under_way(hub: Hub, log: Log) -> None:
    """Whether it was answered, failed, or its feed has gone."""
    for at in range(3):
        async with Following(hub.open(f"t{at}", Start())) as reader:
            await reader.resolved()
    log.silent = True
    hub.open("other", Start()).close()
    await until(lambda: 4 == len(log.words), "the opening")
    assert 1 == hub._openings.under_way
    await hub.close()
    assert 0 == hub._openings.under_way


async def test_a_position_is_taken_from_the_opening_of_this_feed_alone(hub: Hub, log: Log) -> None:
    """Another one may be of a feed that has gone, and the position that it had read is old."""
    log.silent = True
    reader = hub.open("t", Start("latest"))
    await until(lambda: bool(log.words), "the opening")
    assert not hub.opened("t", "another", Place(0, 1))
    assert not hub.opened("elsewhere", log.words[0], Place(0, 1))
    assert not reader.feed.window.located
    assert hub.opened("t", log.words[0], Place(0, 3))
    assert 3 == reader.feed.window.tail
    reader.close()


async def test_a_pull_from_beyond_what_the_feed_has_is_not_to_wait(hub: Hub, log: Log) -> None:
    """The feed has learnt an older position meanwhile: what lies between has to be pulled."""
    log.silent = True
    async with Following(hub.open("t", Start("latest"))) as reader:
        await until(lambda: bool(log.words), "the opening")
        await reader.reader.feed.locate()
        log.append("t", *numbers(3, 5))
        assert not hub.opened("t", log.words[0], Place(0, 5))
        reader.reader.feed.puller.pull_now()
        await reader.is_told(Began(3), lines(3, 5))


async def test_a_wait_that_ended_empty_notices_that_the_counter_was_lost(hub: Hub, log: Log) -> None:
    """The next opening says so, in the one call that goes on to wait."""
    async with Following(hub.open("t", Start())) as reader:
        await reader.is_told(lines(0, 3))
        await until(lambda: log.waiting["t"], "the pull to wait")
        log._topics.pop("t")
        log.append("t", *numbers(0, 1))
        reader.reader.feed.puller._wait = 0.01
        reader.reader.feed.puller.pull_now()
        await reader.is_told(lines(0, 3), Reset(3, 0, 1))
        assert 2 == len(log.words)
