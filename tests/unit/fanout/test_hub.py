"""Feeds and readers on a log in memory: what each reader is told, and what it costs."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.errors import Unavailable
from restate_pubsub.fanout import hub as hub_module
from restate_pubsub.fanout import puller as puller_module
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.observer import NullObserver
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.steps import Began, End, Reset
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch
from support.following import Following, encoded, lines, numbers
from support.waiting import until


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again at once."""
    monkeypatch.setattr(puller_module, "BACKOFF_FIRST", 0.001)
    monkeypatch.setattr(puller_module, "HOT_PAUSE", 0.0)


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
async def hub(source: MemorySource) -> AsyncIterator[Hub]:
    hub = Hub(source, "here", encoded, FeedOptions(linger=60))
    yield hub
    await hub.close()


async def test_a_reader_gets_what_is_there_and_what_comes(hub: Hub, source: MemorySource) -> None:
    """From offset 0, in order."""
    source.append("t", *numbers(0, 3))
    reader = Following(hub.open("t", Start()))
    await reader.is_told(lines(0, 3))
    source.append("t", *numbers(3, 5))
    await reader.is_told(lines(0, 5))
    await reader.close()


async def test_many_readers_cost_one_pull(hub: Hub, source: MemorySource) -> None:
    """One pull per topic and process, however many read."""
    first = Following(hub.open("t", Start()))
    await first.resolved()
    readers = [Following(hub.open("t", Start())) for _ in range(50)]
    source.append("t", *numbers(0, 1))
    await asyncio.gather(*(reader.is_told(lines(0, 1)) for reader in readers))
    assert source.pulls <= 2  # the one that was answered, and the one that waits now
    for reader in (first, *readers):
        await reader.close()


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (Start("offset", 2), 2),
        (Start("offset", 5), 5),
        (Start("latest"), 5),
        (Start("last", 2), 3),
        (Start("last", 99), 0),
    ],
)
async def test_a_reader_begins_where_it_asks_to(hub: Hub, source: MemorySource, start: Start, first: int) -> None:
    """At an offset, at the latest, at the last K."""
    source.append("t", *numbers(0, 5))
    reader = Following(hub.open("t", start))
    await reader.resolved()
    began = [] if start.kind == "offset" else [Began(first)]  # so that it can come back to it
    await reader.is_told(*began, lines(first, 5))
    source.append("t", *numbers(5, 6))
    await reader.is_told(*began, lines(first, 6))
    await reader.close()


async def test_a_closed_topic_ends_its_readers_at_the_tail(hub: Hub, source: MemorySource) -> None:
    """Those that wait, and those that come later."""
    reader = Following(hub.open("t", Start()))
    source.append("t", *numbers(0, 2))
    source.close("t")
    assert [lines(0, 2), End(2)] == await reader.ended()
    late = Following(hub.open("t", Start("offset", 1)))
    assert [lines(1, 2), End(2)] == await late.ended()
    back = hub.open("t", Start("offset", 2, resumes=True))
    await back.resolve_start()
    assert back.finished
    for one in (reader.reader, late.reader, back):
        one.close()


async def test_a_topic_that_is_open_again_is_followed_again(hub: Hub, source: MemorySource) -> None:
    """A feed that saw the end asks once more when somebody comes."""
    source.append("t", *numbers(0, 1))
    source.close("t")
    reader = Following(hub.open("t", Start()))
    await reader.ended()
    source._topic("t").closed = False
    again = Following(hub.open("t", Start("offset", 1)))
    await again.resolved()
    source.append("t", *numbers(1, 2))
    await again.is_told(lines(1, 2))
    await again.close()
    reader.reader.close()


async def test_an_ended_topic_that_is_deleted_is_not_pulled_for_readers_that_have_gone(
    hub: Hub, source: MemorySource
) -> None:
    """Such a pull would leave its subscription where nothing else is left."""
    source.append("t", *numbers(0, 1))
    source.close("t")
    reader = Following(hub.open("t", Start()))
    await reader.ended()
    reader.reader.close()
    pulls = source.pulls
    source.truncate("t", 1)
    source._topic("t").closed = False
    hub.deliver("t", Batch(1, (), 1, head=1))
    await until(lambda: not hub._feeds and not hub._retiring, "the feed to go")
    assert pulls == source.pulls
    again = Following(hub.open("t", Start("offset", 0)))
    await again.is_told(Reset(0, 1, 1))
    await again.close()


async def test_a_place_that_is_gone_is_reset_and_goes_on(hub: Hub, source: MemorySource) -> None:
    """Truncated messages are said to be gone, then comes what there is."""
    source.append("t", *numbers(0, 5))
    source.truncate("t", 3)
    reader = Following(hub.open("t", Start("offset", 1)))
    await reader.is_told(Reset(1, 3, 5), lines(3, 5))
    await reader.close()


async def test_an_offset_past_the_tail_is_reset(hub: Hub, source: MemorySource) -> None:
    """The counter was lost: never a silent stall."""
    source.append("t", *numbers(0, 2))
    reader = Following(hub.open("t", Start("offset", 50)))
    await reader.is_told(Reset(50, 0, 2), lines(0, 2))
    await reader.close()


async def test_an_offset_past_what_this_process_knows_is_not_reset(hub: Hub, source: MemorySource) -> None:
    """A reader may come from a replica that is ahead."""
    source.append("t", *numbers(0, 2))
    first = Following(hub.open("t", Start()))
    await first.is_told(lines(0, 2))
    log = source._topic("t")
    log.messages += numbers(2, 4)  # written, but nobody was woken yet
    ahead = Following(hub.open("t", Start("offset", 4)))
    await ahead.resolved()
    source.append("t", *numbers(4, 5))
    await ahead.is_told(lines(4, 5))
    await first.is_told(lines(0, 5))
    for reader in (first, ahead):
        await reader.close()


class Outcomes(NullObserver):
    """Remembers how pulls ended."""

    def __init__(self) -> None:
        self.pulls: list[str] = []

    def pulled(self, outcome: str) -> None:
        self.pulls.append(outcome)


async def test_a_lost_counter_resets_open_readers(source: MemorySource) -> None:
    """Noticed when the pull fails and the feed asks where the topic is."""
    outcomes = Outcomes()
    hub = Hub(source, "here", encoded, observer=outcomes)
    source.append("t", *numbers(0, 9))
    reader = Following(hub.open("t", Start()))
    await reader.is_told(lines(0, 9))
    source.failing = Unavailable()
    source.forget("t")
    source.append("t", *numbers(0, 1))
    await until(lambda: "unavailable" in outcomes.pulls, "the pull to fail")
    source.failing = None
    await reader.is_told(lines(0, 9), Reset(9, 0, 1), lines(0, 1))
    await reader.close()
    await hub.close()


async def test_a_reader_behind_the_ring_reads_the_log_again(source: MemorySource) -> None:
    """A slow one loses nothing, and the others go on."""
    hub = Hub(source, "here", encoded, FeedOptions(ring_bytes=64))
    source.append("t", *numbers(0, 3000))
    fast = Following(hub.open("t", Start("latest")))
    await fast.resolved()
    slow = hub.open("t", Start("offset", 0))
    for at in range(3000, 3010):
        source.append("t", *numbers(at, at + 1))
    await fast.is_told(Began(3000), lines(3000, 3010))
    late = Following(slow)
    await late.is_told(lines(0, 3010))
    for reader in (fast, late):
        await reader.close()
    await hub.close()


async def test_readers_that_start_together_share_the_reads(source: MemorySource) -> None:
    """A herd after a restart costs Restate what one reader costs."""
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 2000))
    readers = [Following(hub.open("t", Start("offset", at % 30))) for at in range(100)]
    await asyncio.gather(*(reader.is_told(lines(at % 30, 2000)) for at, reader in enumerate(readers)))
    assert source.pulls < 10
    for reader in readers:
        await reader.close()
    await hub.close()


async def test_readers_not_woken_yet_take_what_came_meanwhile_too(hub: Hub, source: MemorySource) -> None:
    """Thousands are woken in parts: who is late takes two messages in one write, and all get everything."""
    readers = [Following(hub.open("t", Start())) for _ in range(200)]
    await asyncio.gather(*(reader.resolved() for reader in readers))
    hub.deliver("t", source.append("t", *numbers(0, 1)))
    await readers[0].is_told(lines(0, 1))
    hub.deliver("t", source.append("t", *numbers(1, 2)))
    await asyncio.gather(*(reader.is_told(lines(0, 2)) for reader in readers))
    assert {1, 2} == {reader.chunks for reader in readers}
    for reader in readers:
        await reader.close()


async def test_news_of_a_write_in_this_process_needs_no_pull(hub: Hub, source: MemorySource) -> None:
    """They are taken in order, what is known is passed over, what is missing is pulled."""
    reader = Following(hub.open("t", Start()))
    await until(lambda: source.pulls, "the first pull")
    pulls = source.pulls
    log = source._topic("t")
    for at in range(3):
        log.messages += numbers(at, at + 1)
        hub.deliver("t", Batch(at, numbers(at, at + 1), at + 1))
        hub.deliver("t", Batch(at, numbers(at, at + 1), at + 1))
    await reader.is_told(lines(0, 3))
    assert pulls == source.pulls
    log.messages += numbers(3, 6)
    hub.deliver("t", Batch(5, numbers(5, 6), 6))  # 3 and 4 were written elsewhere
    await reader.is_told(lines(0, 6))
    assert source.pulls > pulls
    await reader.close()


async def test_a_suspected_write_is_pulled_at_once(hub: Hub, source: MemorySource) -> None:
    """A write that was cut off before its delivery does not wait for the long poll."""
    reader = Following(hub.open("t", Start()))
    await until(lambda: source.pulls, "the first pull")
    source._topic("t").messages += numbers(0, 1)  # nobody was woken
    hub.delivery_uncertain("t")
    await reader.is_told(lines(0, 1))
    await reader.close()


async def test_a_feed_survives_what_nobody_foresaw(hub: Hub, source: MemorySource) -> None:
    """An error of any kind is logged and tried again, as readers wait on it."""
    reader = Following(hub.open("t", Start()))
    await until(lambda: source.pulls, "the first pull")
    source.failing = RuntimeError("a bug")
    source.append("t", *numbers(0, 1))
    await until(lambda: source.pulls > 1 or hub._feeds["t"].puller._failures.count, "the failure")
    source.failing = None
    await reader.is_told(lines(0, 1))
    await reader.close()


async def test_a_write_here_that_no_pull_brings_is_asked_for(
    hub: Hub, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pull may wait on a node of Restate that is gone."""
    monkeypatch.setattr(puller_module, "EXPECT_SECONDS", 0.01)
    reader = Following(hub.open("t", Start()))
    await until(lambda: source.pulls, "the first pull")
    source._topic("t").messages += numbers(0, 1)  # nobody was woken
    hub.expect_tail("t", 1)
    await reader.is_told(lines(0, 1))
    await reader.close()


async def test_streams_stay_open_while_restate_is_away(hub: Hub, source: MemorySource) -> None:
    """They wait and recover; they do not fail."""
    source.failing = Unavailable()
    source.append("t", *numbers(0, 2))
    reader = Following(hub.open("t", Start()))
    await asyncio.sleep(0.02)
    assert not reader.task.done()
    source.failing = None
    await reader.is_told(lines(0, 2))
    source.failing = Unavailable()
    source.append("t", *numbers(2, 3))
    await asyncio.sleep(0.02)
    source.failing = None
    await reader.is_told(lines(0, 3))
    await reader.close()


async def test_truncated_messages_are_not_shown_from_memory(hub: Hub, source: MemorySource) -> None:
    """The news that the head moved empties the ring below it."""
    source.append("t", *numbers(0, 3))
    first = Following(hub.open("t", Start()))
    await first.is_told(lines(0, 3))
    hub.deliver("t", source.append("t", *numbers(3, 5)))
    await first.is_told(lines(0, 5))
    source.truncate("t", 4)
    hub.deliver("t", Batch(5, (), 5, head=4))
    reader = Following(hub.open("t", Start("offset", 3)))
    await reader.is_told(Reset(3, 4, 5), lines(4, 5))
    for one in (first, reader):
        await one.close()


async def test_a_drain_ends_every_stream(hub: Hub, source: MemorySource) -> None:
    """Also those that wait for Restate."""
    source.append("t", *numbers(0, 1))
    readers = [Following(hub.open("t", Start())) for _ in range(5)]
    await readers[0].is_told(lines(0, 1))
    source.failing = Unavailable()
    readers.append(Following(hub.open("other", Start())))
    for reader in readers:
        reader.task.add_done_callback(lambda _task, reader=reader: reader.reader.close())  # type: ignore[misc]
    await hub.drain(0.05)
    assert hub.streams == 0
    assert all(reader.task.done() for reader in readers)


async def test_a_feed_outlives_its_last_reader_a_while_and_then_goes(source: MemorySource) -> None:
    """Nothing is left behind."""
    hub = Hub(source, "here", encoded, FeedOptions(linger=0.01))
    reader = hub.open("t", Start())
    reader.close()
    reader.close()
    assert "t" in hub._feeds
    await until(lambda: not hub._feeds and not hub._retiring, "the feed to go")
    await hub.close()


async def closing_time(topics: int) -> float:
    """Return the CPU seconds for a hundred readers that leave, each the only one of its topic."""
    hub = Hub(MemorySource(), "here", encoded)
    readers = [hub.open(f"t{at}", Start()) for at in range(topics)]
    began = time.process_time()
    for reader in readers[:100]:
        reader.close()
    seconds = time.process_time() - began
    await hub.close()
    return seconds


async def test_a_reader_that_leaves_costs_the_same_at_any_number_of_topics() -> None:
    """Thousands that leave at the same moment must not stop the loop."""
    few, many = [min([await closing_time(topics) for _ in range(3)]) for topics in (100, 4000)]
    assert many < 10 * few


class Slow(MemorySource):
    """A log that takes its time for a release, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.released: list[str] = []
        self.under_way = self.most = 0
        self.goes_on = asyncio.Event()

    async def release(self, topic: str) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.goes_on.wait()
            await super().release(topic)
            self.released.append(topic)
        finally:
            self.under_way -= 1


async def test_a_feed_that_goes_takes_its_waiting_pull_along(source: MemorySource) -> None:
    """Once nobody reads the topic any more, the log has nobody waiting for it."""
    hub = Hub(source, "here", encoded, FeedOptions(linger=0.0))
    async with Following(hub.open("t", Start())):
        await until(lambda: source.waiting["t"], "the pull to wait")
    await until(lambda: "t" not in source.waiting, "the release")
    await hub.close()


@pytest.mark.parametrize("closed", [True, False])
async def test_only_feeds_that_may_be_waited_for_are_released(closed: bool) -> None:  # noqa: FBT001
    """Not one that has ended, nor one that never found its topic."""
    source = Slow()
    source.goes_on.set()
    hub = Hub(source, "here", encoded, FeedOptions(linger=0.0))
    source.append("t", *numbers(0, 1))
    if closed:
        source.close("t")
    else:
        source.failing = Unavailable()
    async with Following(hub.open("t", Start())) as reader:
        if closed:
            await reader.ended()
    await until(lambda: not hub._feeds and not hub._retiring, "the feed to go")
    await hub.close()
    assert [] == source.released


class Stubborn(Slow):
    """A log whose pulls take their time to end when they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.lets_go = asyncio.Event()

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        try:
            return await super().pull(topic, offset, limit=limit, wait=wait, join=join)
        finally:
            await self.lets_go.wait()


async def test_a_topic_that_is_read_again_while_its_feed_ends_is_not_released() -> None:
    """The pull of its next feed would be ended at once."""
    source = Stubborn()
    source.goes_on.set()
    hub = Hub(source, "here", encoded, FeedOptions(linger=0.0))
    async with Following(hub.open("t", Start())):
        await until(lambda: source.waiting["t"], "the pull to wait")
    await until(lambda: not hub._feeds, "the feed to be taken out")
    async with Following(hub.open("t", Start())) as again:
        await again.resolved()
        source.lets_go.set()
        await until(lambda: not hub._retiring, "the first feed to end")
        source.append("t", *numbers(0, 1))
        await again.is_told(lines(0, 1))
        assert [] == source.released
    await hub.close()


async def test_at_the_end_all_topics_are_released_at_once_but_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """During the drain as soon as their readers have gone; those that fail, or are late, hold nothing up."""
    monkeypatch.setattr(hub_module, "RELEASE_SECONDS", 0.2)
    source = Slow()
    hub = Hub(source, "here", encoded, FeedOptions(linger=60.0))
    topics = [f"t{at}" for at in range(100)]
    readers = [Following(hub.open(topic, Start())) for topic in topics]
    await until(lambda: source.waiting.total() == 100, "all to wait")
    for reader in readers[:10]:
        await reader.close()  # these linger
    for reader in readers[10:]:
        reader.task.add_done_callback(lambda _task, reader=reader: reader.reader.close())  # type: ignore[misc]
    await hub.drain(0.01)
    assert 0 == hub.topics
    await until(lambda: source.most, "the first releases")
    source.goes_on.set()
    await until(lambda: len(source.released) == 100, "all to be released")
    assert source.most <= 32
    source.goes_on.clear()
    late = Following(hub.open("late", Start()))
    await late.resolved()
    await asyncio.wait_for(hub.close(), 5)
    assert 0 == source.under_way
    await late.close()


async def test_every_reader_gets_everything_once_whatever_happens(source: MemorySource) -> None:
    """Writes here and elsewhere, doubled and cut-off deliveries, outages, small rings, readers at any place."""
    rng = random.Random(7)
    hub = Hub(source, "here", encoded, FeedOptions(ring_bytes=200))
    readers: list[tuple[int, Following]] = []
    written = 0
    for _ in range(300):
        if rng.random() < 0.1:
            first = rng.randint(0, written)
            readers.append((first, Following(hub.open("t", Start("offset", first)))))
        source.failing = Unavailable() if rng.random() < 0.1 else None
        count = rng.randint(1, 4)
        way = rng.random()
        if way < 0.4:
            hub.deliver("t", source.append("t", *numbers(written, written + count)))
        elif way < 0.6:
            source._topic("t").messages += numbers(written, written + count)
            hub.delivery_uncertain("t")
        else:
            source.append("t", *numbers(written, written + count))
        written += count
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    source.failing = None
    source.append("t", *numbers(written, written + 1))
    await asyncio.gather(*(reader.is_told(lines(first, written + 1)) for first, reader in readers))
    for _, reader in readers:
        await reader.close()
    await hub.close()


async def test_what_was_there_before_a_reader_has_no_lag(source: MemorySource) -> None:
    """A reader that comes an hour later is not an hour behind; what comes while it reads is measured."""
    lags: list[float | None] = []

    class Lags(NullObserver):
        def delivered(self, messages: int, size: int, lag: float | None) -> None:  # noqa: ARG002
            lags.append(lag)

    hub = Hub(source, "here", encoded, observer=Lags())
    first = Following(hub.open("t", Start()))
    await first.resolved()
    source.append("t", *numbers(0, 1))
    await first.is_told(lines(0, 1))
    late = Following(hub.open("t", Start()))
    await late.is_told(lines(0, 1))
    source.append("t", *numbers(1, 2))
    await asyncio.gather(first.is_told(lines(0, 2)), late.is_told(lines(0, 2)))
    await until(lambda: len(lags) == 4, "every delivery to be told")
    assert [lag is None for lag in lags] == [False, True, False, False]
    for reader in (first, late):
        await reader.close()
    await hub.close()


async def test_the_busiest_topics_are_described(hub: Hub, source: MemorySource) -> None:
    """Those with the most readers, with their bounds, and how far the slowest of them is behind."""
    source.append("busy", *numbers(0, 4))
    source.append("quiet", *numbers(0, 1))
    reading = [Following(hub.open("busy", Start())), Following(hub.open("quiet", Start()))]
    await reading[0].is_told(lines(0, 4))
    await reading[1].is_told(lines(0, 1))
    slow = hub.open("busy", Start("last", 3))
    await slow.resolve_start()
    busy, quiet = hub.busiest(10)
    assert (busy.topic, busy.streams, busy.head, busy.tail, busy.closed, busy.behind) == ("busy", 2, 0, 4, False, 3)
    assert (quiet.topic, quiet.streams, quiet.behind) == ("quiet", 1, 0)
    assert [busy] == hub.busiest(1)
    slow.close()
    for reader in reading:
        await reader.close()


class Hot(MemorySource):
    """A topic that has news for every pull, and notes when they come."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        self.append(topic, *numbers(len(self.times), len(self.times) + 1))
        self.times.append(asyncio.get_running_loop().time())
        return await super().pull(topic, offset, limit=limit, wait=wait, join=join)


async def test_a_feed_of_a_hot_topic_now_and_then_pulls_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """That pull may find nothing and wait, which is what brings a topic that is written here back to its writes."""
    pause = 0.02
    monkeypatch.setattr(puller_module, "HOT_PAUSE", pause)
    monkeypatch.setattr(puller_module, "HOT_RUN", 4)
    source = Hot()
    hub = Hub(source, "here", encoded, FeedOptions(linger=60))
    reader = Following(hub.open("hot", Start()))
    await reader.is_told(lines(0, 24))
    gaps = [after - before for before, after in itertools.pairwise(source.times[1:])]
    at_once = [at for at, gap in enumerate(gaps) if gap < pause]
    assert {4} == {after - before for before, after in itertools.pairwise(at_once)}
    await reader.close()
    await hub.close()
