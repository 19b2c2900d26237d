"""How often a topic's log is asked, and what is made of its answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from restate_pubsub.errors import PullTimeout, Unavailable
from restate_pubsub.fanout import puller as puller_module
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.puller import HOT_PAUSE, HOT_RUN, HOT_SECONDS, Failures, Heat, Phase
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.steps import End
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch
from support.following import Following, encoded, lines, numbers
from support.waiting import until


@contextlib.asynccontextmanager
async def following(source: MemorySource, options: FeedOptions | None = None) -> AsyncIterator[tuple[Hub, Following]]:
    """Follow the topic `t` on a hub of its own."""
    hub = Hub(source, "here", encoded, options or FeedOptions(linger=60))
    async with Following(hub.open("t", Start())) as reader:
        yield hub, reader
    await hub.close()


class Noted(MemorySource):
    """A log that notes when it is pulled, and answers each pull at once with what `answers` gives."""

    def __init__(self, answers: Iterator[Batch | Exception]) -> None:
        super().__init__()
        self.times: list[float] = []
        self.answers = answers

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        del topic, offset, limit, wait, join
        self.times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


def endless(answer: Batch | Exception) -> Iterator[Batch | Exception]:
    while True:
        yield answer


@pytest.mark.parametrize("answer", [PullTimeout(), Batch(0, (), 0, head=0)])
async def test_a_pull_that_ends_at_once_is_asked_again_after_pauses_that_grow(answer: Batch | Exception) -> None:
    """A 408 far earlier than the wait, or an answer with nothing: two clocks that differ must not make a loop."""
    source = Noted(endless(answer))
    async with following(source):
        await until(lambda: len(source.times) >= 5, "five pulls")
        pauses = source.pauses()
        assert pauses[0] >= 0.025
        assert pauses[3] >= 0.2  # 0.05, 0.1, 0.2, 0.4, each shortened by up to half
        assert sum(pauses[:4]) >= 0.375


async def test_a_log_whose_clock_is_wrong_loses_nothing() -> None:
    """Each wait is over when it begins; messages come with the next pull."""
    source = MemorySource()
    source.clock_behind = 1e9
    async with following(source) as (_, reader):
        await until(lambda: source.pulls >= 3, "pulls that wait for nothing")
        source.append("t", *numbers(0, 3))
        await reader.is_told(lines(0, 3))
        source.close("t")
        await reader.is_told(lines(0, 3), End(3))
        assert source.pulls < 30


async def test_a_pull_that_has_waited_is_asked_again_at_once() -> None:
    """Only what ends too early costs a pause."""
    source = MemorySource()
    async with following(source, FeedOptions(pull_wait=0.002)):
        began = asyncio.get_running_loop().time()
        await until(lambda: source.pulls > 20, "many pulls")
        assert asyncio.get_running_loop().time() - began < 5


def test_a_hot_topic_is_given_time_to_gather() -> None:
    """Answers one right after the other; now and then a pull goes at once, and after a quiet time all do."""
    heat, now = Heat(), 0.0
    assert 0.0 == heat.pause(now, handed=False)
    for run in range(1, 3 * HOT_RUN):
        now += HOT_SECONDS / 2 + (HOT_PAUSE if run > 1 else 0.0)
        assert (0.0 if run % HOT_RUN == 0 else HOT_PAUSE) == heat.pause(now, handed=False)
    assert 0.0 == heat.pause(now + HOT_PAUSE + HOT_SECONDS, handed=False)


def test_failures_are_waited_for_longer_each_time_until_one_pull_is_answered() -> None:
    """From a tenth of a second up to five, shortened by up to half."""
    failures = Failures("t")
    waits = [failures.more(Unavailable()) for _ in range(10)]
    assert waits[0] <= 0.1
    assert 2.5 <= waits[-1] <= 5.0
    failures.none()
    assert failures.more(Unavailable()) <= 0.1


async def test_the_phases_of_a_puller() -> None:
    """It rests after a failure, pulls, and has ended when the topic has; it goes on where that is open again."""
    source = MemorySource()
    source.failing = Unavailable()
    async with following(source) as (hub, reader):
        puller = reader.reader.feed.puller
        await until(lambda: puller.phase is Phase.RESTING, "the failure")
        source.failing = None
        await until(lambda: puller.phase is Phase.PULLING, "the first pull")
        hub.deliver("t", source.append("t", *numbers(0, 1)))
        source.close("t")
        await reader.ended()
        await until(lambda: puller.phase is Phase.ENDED, "the end of the topic")
        source._topic("t").closed = False
        async with Following(hub.open("t", Start("offset", 1))) as again:
            await again.resolved()
            await until(lambda: puller.phase is Phase.PULLING, "the topic to be followed again")


async def test_pulling_now_ends_the_pull_that_waits_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither an answer nor a failure."""
    monkeypatch.setattr(puller_module, "BACKOFF_FIRST", 60.0)
    source = MemorySource()
    async with following(source) as (_, reader):
        puller = reader.reader.feed.puller
        await until(lambda: source.pulls == 1, "the first pull")
        for pulls in (2, 3):
            puller.pull_now()
            puller.pull_now()
            await until(lambda pulls=pulls: source.pulls == pulls, "the next pull")  # type: ignore[misc]
        assert 0 == puller._failures.count
        source.append("t", *numbers(0, 1))
        await reader.is_told(lines(0, 1))
