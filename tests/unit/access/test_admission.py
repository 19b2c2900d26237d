"""How much: places, rates, and that they are given back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from restate_pubsub.access.admission import BUCKETS_SWEPT_AT, Admission, Quota
from restate_pubsub.errors import Busy, OverLimit, TooMany

ROOMY = Quota(
    streams=10_000,
    streams_per_client=1000,
    streams_per_topic=5000,
    topics=10_000,
    topic_rate_per_client=20,
    stream_rate=500,
    stream_rate_per_client=200,
    publish_rate_per_client=100,
    message_rate_per_client=20_000,
    byte_rate_per_client=16 * 1024**2,
)


class Time:
    """A clock, and a sleep that only notes how long."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@contextlib.asynccontextmanager
async def stream(let: Admission, client: str, topic: str) -> AsyncIterator[None]:
    """Hold a place while the block runs."""
    place = await let.enter(client, topic)
    try:
        yield
    finally:
        place.leave()
        place.leave()  # once is enough, and a second time takes nothing from others


def admission(time: Time, **quota: float) -> Admission:
    return Admission(replace(ROOMY, **quota), clock=time, sleep=time.sleep)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quota", "kind", "code"),
    [
        ({"streams": 2}, Busy, "too-many-streams"),
        ({"streams_per_client": 2}, TooMany, "too-many-streams-of-client"),
        ({"streams_per_topic": 2}, Busy, "too-many-streams-of-topic"),
    ],
)
async def test_no_more_places_than_there_are(quota: dict[str, float], kind: type[OverLimit], code: str) -> None:
    """The third is refused with the limit's code and when to try again; a place that is left is free."""
    let = admission(Time(), **quota)
    async with contextlib.AsyncExitStack() as last:
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(stream(let, "a", "t"))
            await last.enter_async_context(stream(let, "a", "t"))
            with pytest.raises(kind) as caught:
                await last.enter_async_context(stream(let, "a", "t"))
            assert code == caught.value.code
            assert caught.value.retry_after > 0
        await last.enter_async_context(stream(let, "a", "t"))
    assert (let.streams, len(let._clients), len(let._topics)) == (0, 0, 0)


async def test_one_client_over_its_limit_costs_others_nothing() -> None:
    """Refused streams take neither a place nor a turn."""
    time = Time()
    let = admission(time, streams=10, streams_per_client=1, stream_rate=5)
    async with stream(let, "greedy", "t"):
        for _ in range(100):
            with pytest.raises(TooMany):
                await stream(let, "greedy", "t").__aenter__()
        async with stream(let, "modest", "t"):
            assert not time.slept


async def test_streams_over_the_rate_wait_for_their_turn() -> None:
    """A second's worth at once, then one after the other, up to five seconds; after that they are told when."""
    time = Time()
    let = admission(time, stream_rate=2)
    async with contextlib.AsyncExitStack() as open_:
        for _ in range(12):
            await open_.enter_async_context(stream(let, "a", "t"))
        assert time.slept == [at * 0.5 for at in range(1, 11)]
        with pytest.raises(Busy) as caught:
            await open_.enter_async_context(stream(let, "a", "t"))
        assert (caught.value.code, caught.value.retry_after) == ("stream-rate", 5.5)
        time.now = 1.0
        await open_.enter_async_context(stream(let, "a", "t"))


async def test_a_client_over_its_rate_takes_no_turn_of_others() -> None:
    """Its own rate comes first."""
    time = Time()
    let = admission(time, stream_rate=1000, stream_rate_per_client=1)
    async with contextlib.AsyncExitStack() as open_:
        for _ in range(6):
            await open_.enter_async_context(stream(let, "greedy", "t"))
        for _ in range(100):
            with pytest.raises(TooMany, match="Your address"):
                await open_.enter_async_context(stream(let, "greedy", "t"))
        time.slept.clear()
        await open_.enter_async_context(stream(let, "modest", "t"))
        assert not time.slept


async def test_a_reader_that_goes_while_it_waits_gives_its_place_back() -> None:
    """Cancelled before it was let in."""
    let = Admission(replace(ROOMY, stream_rate=1))
    async with stream(let, "a", "t"):
        waiting = asyncio.ensure_future(stream(let, "a", "t").__aenter__())
        await asyncio.sleep(0)
        assert let.streams == 2
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert let.streams == 1


def test_publishes_over_the_rate_are_refused() -> None:
    """Twice the rate at once, then the rate; each client for itself."""
    time = Time()
    let = admission(time, publish_rate_per_client=2)
    for _ in range(4):
        with let.publish("a"):
            pass
    with pytest.raises(TooMany) as caught, let.publish("a"):
        pass
    assert (caught.value.code, caught.value.retry_after) == ("publish-rate-of-client", 0.5)
    with let.publish("b"):
        pass
    time.now = 0.5
    with let.publish("a"):
        pass


def test_publishes_under_way_are_bounded() -> None:
    """Bodies that never end hold a place each."""
    let = admission(Time(), streams=2, streams_per_client=1)
    with let.publish("a"):
        with pytest.raises(TooMany, match="under way"), let.publish("a"):
            pass
        with let.publish("b"), pytest.raises(Busy, match="under way"), let.publish("c"):
            pass
    assert not let._publishing


def test_clients_that_are_quiet_are_forgotten() -> None:
    """A million addresses do not take memory for a million."""
    time = Time()
    let = admission(time, publish_rate_per_client=1)
    for at in range(4 * BUCKETS_SWEPT_AT):
        time.now += 1.0
        with let.publish(f"client-{at}"):
            pass
    assert len(let._publish_rate._of) <= BUCKETS_SWEPT_AT


async def test_a_body_under_way_is_slowed_down_to_its_client_s_rate() -> None:
    """A second's worth at once; after that each chunk waits until it is paid for."""
    time = Time()
    let = admission(time, byte_rate_per_client=1000, message_rate_per_client=10)
    with let.publish("a") as meter:
        meter.take(size=1000, messages=10)
        await meter.pay()
        assert time.slept == []
        meter.take(size=500)
        await meter.pay()
        meter.take(messages=20)
        await meter.pay()
        assert time.slept == [0.5, 2.0]


@pytest.mark.parametrize(
    ("taken", "code", "after"),
    [
        ({"size": 3000}, "byte-rate-of-client", 2.0),
        ({"messages": 30}, "message-rate-of-client", 2.0),
    ],
)
async def test_a_client_in_debt_is_told_when_to_come_back(taken: dict[str, int], code: str, after: float) -> None:
    """And only that client."""
    time = Time()
    let = admission(time, byte_rate_per_client=1000, message_rate_per_client=10)
    with let.publish("a") as meter:
        meter.take(**taken)
    with pytest.raises(TooMany) as caught, let.publish("a"):
        pass
    assert (caught.value.code, caught.value.retry_after) == (code, after)
    with let.publish("b"):
        pass
    time.now = after
    with let.publish("a"):
        pass


async def test_requests_of_one_client_share_its_rate() -> None:
    """Ten at once are no faster than one."""
    time = Time()
    let = admission(time, byte_rate_per_client=1000)
    with let.publish("a") as one, let.publish("a") as other:
        one.take(size=1000)
        other.take(size=1000)
        await one.pay()
        await other.pay()
    assert time.slept == [1.0, 1.0]


async def test_new_topics_of_a_client_wait_for_their_turn() -> None:
    """Twenty seconds' worth at once, then one after the other, up to five seconds; others wait for nothing."""
    time = Time()
    let = admission(time, topic_rate_per_client=2)
    for _ in range(50):
        await let.new_topics("a", lambda: 0)
    assert time.slept == [at * 0.5 for at in range(1, 11)]
    with pytest.raises(TooMany) as caught:
        await let.new_topics("a", lambda: 0)
    assert (caught.value.code, caught.value.retry_after) == ("topic-rate-of-client", 5.5)
    time.slept.clear()
    await let.new_topics("b", lambda: 0)
    assert not time.slept


async def test_no_more_topics_than_the_process_follows() -> None:
    """Counted when its turn has come: others may have opened theirs meanwhile."""
    time = Time()
    let = admission(time, topics=3, topic_rate_per_client=1)
    topics = iter([2, 3])
    await let.new_topics("a", lambda: next(topics))
    with pytest.raises(Busy) as caught:
        await let.new_topics("b", lambda: next(topics))
    assert (caught.value.code, caught.value.status) == ("too-many-topics", 503)
    assert caught.value.retry_after > 0
