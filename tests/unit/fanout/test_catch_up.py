"""Readers behind the ring: what they read again, what that costs, and what they hold meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from restate_pubsub.errors import CallFailed, OffsetGone, PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout import puller as puller_module
from restate_pubsub.fanout.catch_up import READ_MESSAGES, Appetite
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.frames import Frames
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.observer import NullObserver
from restate_pubsub.fanout.pages import READ_BYTES, SHARE, Page, Pages
from restate_pubsub.fanout.reader import Reader
from restate_pubsub.fanout.ring import TAKE_MAX_BYTES
from restate_pubsub.fanout.ring_memory import RingMemory
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.steps import Began, Chunk, End, Step
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch, Message
from support.following import Following, encoded, lines, numbers
from support.waiting import until

PULL_BYTES = 4 * 1024 * 1024


class Pulled(MemorySource):
    """A log whose answers are bounded in bytes, as the object's are, and that notes its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []
        self.under_way = self.most_under_way = 0
        self.held: asyncio.Event | None = None
        """While set to an event that is not: reads wait for it."""

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        if wait:
            return await super().pull(topic, offset, limit=limit, wait=wait, join=join)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.held is not None:
                await self.held.wait()
            batch = await super().pull(topic, offset, limit=limit, join=join)
        finally:
            self.under_way -= 1
        total, count = 0, 0
        for message in batch.messages:
            total += len(message.data)
            if count and total > PULL_BYTES:
                break
            count += 1
        self.reads.append((offset, count))
        if count == len(batch.messages):
            return batch
        return Batch(offset, batch.messages[:count], offset + count, head=batch.head)


def large(count: int, size: int) -> list[Message]:
    return [Message(b"x" * size)] * count


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again at once."""
    monkeypatch.setattr(puller_module, "BACKOFF_FIRST", 0.001)


async def at_the_tail(hub: Hub, topic: str = "t") -> Reader:
    """Return a reader that keeps the feed, whose ring is empty: all others are behind it."""
    reader = hub.open(topic, Start("latest"))
    await reader.resolve_start()
    return reader


async def take(steps: AsyncGenerator[Step, None], count: int = 1) -> Chunk:
    """Take so many chunks, as a client does that then takes nothing more; return the last."""
    chunks = [await anext(steps) for _ in range(count)]
    assert isinstance(chunks[-1], Chunk)
    return chunks[-1]


async def test_readers_that_start_together_share_the_reads() -> None:
    """A herd after a restart costs the log what one reader costs."""
    source = Pulled()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, READ_MESSAGES + 1000))
    readers = [Following(hub.open("t", Start("offset", at % 30))) for at in range(100)]
    await asyncio.gather(*(reader.is_told(lines(at % 30, READ_MESSAGES + 1000)) for at, reader in enumerate(readers)))
    assert [(0, READ_MESSAGES), (READ_MESSAGES, 1000)] == source.reads
    for reader in readers:
        await reader.close()
    await hub.close()


@pytest.mark.parametrize("size", [60_000, 300_000])
async def test_nothing_of_large_messages_is_read_twice(size: int) -> None:
    """Apart from the first read, which is made before their size is known; it is the object's page up to the reader."""
    source = Pulled()
    hub = Hub(source, "here", encoded)
    source.append("t", *large(400, size))
    stays = await at_the_tail(hub)
    reader = hub.open("t", Start("offset", 63))
    got = 63
    async for step in reader.steps():
        assert isinstance(step, Chunk)
        assert step.offset == got
        got = step.next_offset
        if got == 400:
            break
    (start, reached), *others = source.reads
    assert 0 == start
    assert 400 - max(reached, 63) == sum(count for _, count in others)
    for one in (reader, stays):
        one.close()
    await hub.close()


async def test_readers_of_large_messages_at_the_same_place_share_the_reads() -> None:
    """Also where a read does not begin with the object's page."""
    source = Pulled()
    hub = Hub(source, "here", encoded)
    source.append("t", *large(200, 100_000))
    stays = await at_the_tail(hub)
    knows = hub.open("t", Start("offset", 150))  # from here on the size is known
    await take(knows.steps())
    source.reads.clear()
    readers = [hub.open("t", Start("offset", 50 + at % 3)) for at in range(12)]
    await asyncio.gather(*(take(reader.steps(), 3) for reader in readers))
    assert len(source.reads) <= 4
    for one in (*readers, knows, stays):
        one.close()
    await hub.close()


async def test_readers_that_take_nothing_hold_little() -> None:
    """A hundred at places of their own, of messages of which a page is 4 MiB: what they share is bounded."""
    budget = 64 * 1024 * 1024
    source = Pulled()
    watcher = Watcher()
    hub = Hub(source, "here", encoded, FeedOptions(rings_bytes=budget), watcher)
    source.append("t", *large(20_000, 16_000))
    stays = await at_the_tail(hub)
    stuck = [hub.open("t", Start("offset", at * 190)) for at in range(100)]
    steps = [reader.steps() for reader in stuck]
    held = [await take(one, 2) for one in steps]
    assert max(len(chunk.data) for chunk in held) <= TAKE_MAX_BYTES
    assert watcher.most <= budget // SHARE
    assert watcher.total == hub._pages.size
    for one, chunk in zip(steps, held, strict=True):
        assert chunk.next_offset == (await take(one)).offset  # and they go on
        await one.aclose()
    for reader in (*stuck, stays):
        reader.close()
    await hub.close()
    assert 0 == watcher.total


class Watcher(NullObserver):
    """Adds up what is kept."""

    def __init__(self) -> None:
        self.total = self.most = 0

    def ring_bytes(self, change: int) -> None:
        self.total += change
        self.most = max(self.most, self.total)


async def test_reads_beyond_the_budget_wait_for_their_turn() -> None:
    """All are made, a bounded number at the same time; none fails."""
    source = Pulled()
    source.held = asyncio.Event()
    hub = Hub(source, "here", encoded, FeedOptions(rings_bytes=SHARE * 2 * READ_BYTES))
    topics = [f"t{at}" for at in range(12)]
    stay = []
    for topic in topics:
        source.append(topic, *numbers(0, 10))
        stay.append(await at_the_tail(hub, topic))
    readers = [Following(hub.open(topic, Start())) for topic in topics]
    await until(lambda: source.under_way, "the first reads")
    assert 2 == source.under_way
    source.held.set()
    await asyncio.gather(*(reader.is_told(lines(0, 10)) for reader in readers))
    assert 2 == source.most_under_way
    for reader in readers:
        await reader.close()
    for one in stay:
        one.close()
    await hub.close()


async def test_a_read_for_which_nobody_waits_any_more_is_ended() -> None:
    """Its turn goes to those who are still there; as long as one waits, it goes on."""
    source = Pulled()
    source.held = asyncio.Event()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 10))
    stays = await at_the_tail(hub)
    first, second = (Following(hub.open("t", Start())) for _ in range(2))
    await until(lambda: source.under_way, "the read")
    await first.close()
    assert 1 == source.under_way
    await second.close()
    await until(lambda: not source.under_way, "the read to end")
    assert not source.reads
    stays.close()
    await hub.close()


async def test_a_reader_that_is_stopped_does_not_wait_for_its_read() -> None:
    """A drain need not wait for the log."""
    source = Pulled()
    source.held = asyncio.Event()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 10))
    stays = await at_the_tail(hub)
    async with Following(hub.open("t", Start())) as reader:
        await until(lambda: source.under_way, "the read")
        reader.reader.stop()
        assert [] == await reader.ended()
    stays.close()
    await hub.close()


@pytest.mark.parametrize(
    ("trouble", "warnings"), [(Unavailable(), 0), (PullTimeout(), 0), (CallFailed("another version wrote it", 500), 1)]
)
async def test_a_read_that_fails_is_tried_again(trouble: PubsubError, warnings: int) -> None:
    """The reader waits, and loses nothing; the log says why once, where it will not pass by itself."""
    source = Pulled()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 10))
    stays = await at_the_tail(hub)
    source.failing = trouble
    async with Following(hub.open("t", Start())) as reader:
        with capture_logs() as logs:
            await until(lambda: source.pulls > 3, "some attempts")
        said = [line for line in logs if line["event"] == "reader cannot catch up; it keeps trying"]
        assert [str(trouble)] * warnings == [line["error"] for line in said if line["log_level"] == "warning"]
        assert [] == reader.told
        source.failing = None
        await reader.is_told(lines(0, 10))
    stays.close()
    await hub.close()


async def test_a_page_whose_beginning_is_gone_is_read_from_the_readers_offset() -> None:
    """The head has moved into the object's page, where this process has not heard of that."""

    class Cut(Pulled):
        async def pull(
            self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
        ) -> Batch:
            if not wait and offset < 5:
                raise OffsetGone(offset, 5)
            return await super().pull(topic, offset, limit=limit, wait=wait, join=join)

    source = Cut()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 10))
    stays = await at_the_tail(hub)
    async with Following(hub.open("t", Start("offset", 7))) as reader:
        await reader.is_told(lines(7, 10))
    stays.close()
    await hub.close()


def test_a_reader_that_is_too_slow_for_its_pages_asks_for_less() -> None:
    """Down to what it takes in one write; one that takes all of them asks for more again."""
    appetite = Appetite()
    appetite.stop = 100
    sizes = []
    for _ in range(10):
        appetite.change(50)
        sizes.append(appetite.size)
    assert [READ_BYTES // 2, READ_BYTES // 4, TAKE_MAX_BYTES] == [*sizes[:2], sizes[-1]]
    for _ in range(10):
        appetite.change(100)
    assert READ_BYTES == appetite.size


async def test_a_slow_reader_does_not_have_the_same_read_again_and_again() -> None:
    """Its pages are forgotten between any two writes: it reads little more than it takes."""
    source = Pulled()
    hub = Hub(source, "here", encoded)
    source.append("t", *large(2000, 16_000))
    stays = await at_the_tail(hub)
    reader = hub.open("t", Start())
    steps = reader.steps()
    taken = 0
    for _ in range(40):
        taken = (await take(steps)).next_offset
        hub._pages.give_up(READ_BYTES * 100)
    read = sum(count for _, count in source.reads)
    assert read < 2 * taken + 3 * READ_BYTES // 16_000
    for one in (reader, stays):
        one.close()
    await hub.close()


class Kept:
    """A page, and whether it is still kept."""

    def __init__(self, size: int, gone: list[Kept] | None = None) -> None:
        self.here = True
        self.gone = gone
        self.page = Page(Frames([0], [b"x" * size], 0, 1), join=False, forget=self.forget)

    def forget(self, _page: Page) -> None:
        self.here = False
        if self.gone is not None:
            self.gone.append(self)


async def test_pages_that_were_used_least_recently_go_first() -> None:
    """Where the pages' own share is full, where everything is, and where one is too large by itself."""
    memory = RingMemory(400, NullObserver())
    pages = Pages(400, memory)
    one, two, three, huge = Kept(40), Kept(40), Kept(40), Kept(101)
    for kept in (one, two):
        pages.add(kept.page)
    pages.used(one.page)
    pages.add(three.page)
    assert (True, False, True) == (one.here, two.here, three.here)
    assert 80 == pages.size == memory.total
    pages.give_up(1)
    assert (False, True) == (one.here, three.here)
    pages.add(huge.page)
    assert (False, False, 0, 0) == (huge.here, three.here, pages.size, memory.total)
    pages.close()


async def test_pages_that_nobody_uses_go_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that somebody uses stay longer."""
    monkeypatch.setattr("restate_pubsub.fanout.pages.UNUSED_SECONDS", 0.05)
    memory = RingMemory(4000, NullObserver())
    pages = Pages(4000, memory)
    gone: list[Kept] = []
    busy, idle = Kept(40, gone), Kept(40, gone)
    pages.add(busy.page)
    pages.add(idle.page)
    pages.used(busy.page)
    await until(lambda: len(gone) == 2, "both to go")
    assert [idle, busy] == gone
    assert (0, 0) == (pages.size, memory.total)


@given(st.lists(st.tuples(st.sampled_from(["add", "use", "drop", "give"]), st.integers(0, 120)), max_size=40))
async def test_the_sum_of_the_pages_is_known(steps: list[tuple[str, int]]) -> None:
    """Whatever happens to them."""
    memory = RingMemory(400, NullObserver())
    pages = Pages(400, memory)
    all_kept: list[Kept] = []
    for what, number in steps:
        if what == "add":
            all_kept.append(Kept(number))
            pages.add(all_kept[-1].page)
        elif what == "give":
            pages.give_up(number)
            memory.holds(pages, pages.size)
        elif all_kept and what == "use":
            pages.used(all_kept[number % len(all_kept)].page)
        elif all_kept:
            kept = all_kept[number % len(all_kept)]
            pages.drop(kept.page)
            kept.here = False
        assert sum(kept.page.frames.size for kept in all_kept if kept.here) == pages.size == memory.total <= 100
    pages.close()


def texts(start: int, stop: int) -> list[Message]:
    return [Message(b'{"text":"%d "}' % at) for at in range(start, stop)]


def framed(offset: int, message: Message) -> bytes:
    return b"%d %b\n" % (offset + 1, message.data)


async def frames(hub: Hub, start: Start, count: int, *, join: bool) -> list[tuple[int, str]]:
    """Read up to an offset; return each frame's id and text."""
    reader = hub.open("t", start, join=join)
    data, at = b"", 0
    async for step in reader.steps():
        if isinstance(step, Chunk):
            data, at = data + step.data, step.next_offset
        if at >= count:
            break
    reader.close()
    lines = [line.partition(b" ") for line in data.splitlines()]
    return [(int(number), json.loads(message)["text"]) for number, _, message in lines]


@pytest.mark.parametrize("hot", [False, True])
async def test_who_comes_late_gets_what_is_behind_as_one_and_then_tokens(hot: bool) -> None:  # noqa: FBT001
    """Also where the single messages are still at hand; and from any place on exactly what follows it."""
    source, hub = Pulled(), None
    if hot:
        hub = Hub(source, "here", framed)
        first = hub.open("t", Start())
        await first.resolve_start()
    source.append("t", *texts(0, 200))
    if hub is None:
        hub = Hub(source, "here", framed)
    else:
        assert len(await frames(hub, Start(), 200, join=False)) == 200
    whole = await frames(hub, Start(), 200, join=True)
    assert [(200, "".join(f"{at} " for at in range(200)))] == whole
    for place in (1, 63, 64, 135):
        rest = await frames(hub, Start("offset", place, resumes=True), 200, join=True)
        assert "".join(f"{at} " for at in range(place, 200)) == "".join(text for _, text in rest)
        assert rest[-1][0] == 200
        assert len(rest) == 1
    assert len(await frames(hub, Start(), 200, join=False)) == 200
    follower = hub.open("t", Start(), join=True)
    steps = follower.steps()
    await anext(steps)
    source.append("t", *texts(200, 202))
    chunk = await anext(steps)
    assert isinstance(chunk, Chunk)
    assert b'201 {"text":"200 "}\n202 {"text":"201 "}\n'.startswith(chunk.data)
    await hub.close()


class Behind(MemorySource):
    """A log that tells who waits nothing for a while; before the first joined read, `meanwhile` happens."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()
        self.meanwhile: Callable[[], None] = lambda: None
        self.most = 10_000
        """The first answer has no more messages."""

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        if wait:
            batch = await super().pull(topic, offset, limit=limit, wait=wait)
            await self.told.wait()
            return batch
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        most, self.most = self.most, 10_000
        return await super().pull(topic, offset, limit=min(limit or most, most), join=join)


@pytest.mark.parametrize("way", ["truncated", "cut short"])
async def test_a_joined_read_that_meets_the_end_of_the_topic_brings_no_news(way: str) -> None:
    """Its second question, where the first one had no answer for its reader, does not go past what was there either."""
    log = Behind()
    log.append("t", *[Message(b'{"text":"a"}')] * 113, *numbers(113, 200))

    def meanwhile() -> None:
        if way == "truncated":
            log.truncate("t", 100)
        log.append("t", *numbers(200, 230))
        log.close("t")

    log.meanwhile, log.most = meanwhile, 10_000 if way == "truncated" else 14
    hub = Hub(log, "here", encoded, FeedOptions(linger=60))
    log.opened = hub.opened
    joined = encoded(112, Message(b'{"text":"aaa"}'))
    async with (
        Following(hub.open("t", Start("latest"))) as live,
        Following(hub.open("t", Start("offset", 110), join=True)) as late,
    ):
        await until(
            lambda: any(b"=199" in one for one in late.told if isinstance(one, bytes)),
            "the joined reader to have what was there",
        )
        assert 200 == late.reader.feed.window.tail
        log.told.set()
        await live.is_told(Began(200), lines(200, 230), End(230))
        await late.is_told(joined + lines(113, 230), End(230))
    await hub.close()


class Told(MemorySource):
    """A log whose answers have four messages; `then` is called when one has come, before anybody hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] = lambda: None

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        batch = await super().pull(topic, offset, limit=limit if wait else 4, wait=wait, join=join)
        if not wait:
            asyncio.get_running_loop().call_soon(self.then)
        return batch


async def test_a_read_that_is_over_is_nothing_to_wait_for() -> None:
    """It was to bring more: who wants what is missing would look at it again and again, and nobody else had a turn."""
    log = Told()
    log.append("t", *numbers(0, 100))
    hub = Hub(log, "here", encoded, FeedOptions(linger=60))
    log.opened = hub.opened
    found = []
    async with Following(hub.open("t", Start("latest"))) as reader:
        await reader.resolved()
        catch_up = reader.reader.feed.catch_up
        read = catch_up.read(0, READ_BYTES, join=False)
        log.then = lambda: found.append((read.task.done(), catch_up.read(50, READ_BYTES, join=False) is read))
        await read.task
        await until(lambda: found, "the look")
    assert (True, False) == found[0]
    await hub.close()
