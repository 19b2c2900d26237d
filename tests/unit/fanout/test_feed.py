"""Every way in which a feed can learn something wakes who waits for it, and none needs another one to come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from restate_pubsub.errors import OffsetGone, PullTimeout, Unavailable
from restate_pubsub.fanout import puller as puller_module
from restate_pubsub.fanout.feed import Feed
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource, Position
from restate_pubsub.fanout.steps import Began, End, Reset, Step
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Batch
from support.following import Following, encoded, lines, numbers
from support.waiting import until


class Scripted:
    """A log whose answers a test gives, one by one."""

    def __init__(self) -> None:
        self.head, self.tail, self.closed = 0, 3, False
        self.pulled: asyncio.Queue[tuple[int, asyncio.Future[Batch]]] = asyncio.Queue()
        self.read: asyncio.Queue[tuple[int, asyncio.Future[Batch]]] = asyncio.Queue()

    async def position(self, _topic: str) -> Position:
        return Position(self.head, self.tail, self.closed)

    async def open(self, _topic: str, _opening: str, *, wait: float) -> Batch:
        del wait
        return Batch(self.tail, (), self.tail, self.closed, self.head)

    async def pull(
        self, _topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        del join
        answer: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        (self.pulled if limit is None and wait else self.read).put_nowait((offset, answer))
        return await answer

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        del reading
        return await self.pull(topic, offset, limit=limit, join=join)

    async def release(self, _topic: str) -> None:
        pass


@dataclass
class Case:
    """A feed at `[0, 3)` that waits for news, and what a way of learning needs."""

    source: Scripted
    hub: Hub
    feed: Feed
    pull: asyncio.Future[Batch]
    read: asyncio.Future[Batch]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def ask(self) -> None:
        """Have the feed ask for the position, as another reader's question does."""
        task = asyncio.create_task(self.feed.locate())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def position_says(self, head: int, tail: int, *, closed: bool = False) -> None:
        self.source.head, self.source.tail, self.source.closed = head, tail, closed
        self.ask()


def batch(start: int, stop: int, *, closed: bool = False, head: int | None = None) -> Batch:
    return Batch(start, numbers(start, stop), stop, closed, head)


def fail(answer: asyncio.Future[Batch], error: Exception, case: Case, position: Position) -> None:
    case.source.head, case.source.tail, case.source.closed, *_ = position
    answer.set_exception(error)


AT_THE_TAIL: dict[str, tuple[Callable[[Case], None], tuple[bytes | Step, ...]]] = {
    "the position says that it is closed": (lambda case: case.position_says(0, 3, closed=True), (End(3),)),
    "the position says that the counter was lost": (lambda case: case.position_says(0, 1), (Reset(3, 0, 1),)),
    "the position says that all is gone": (lambda case: case.position_says(5, 5), (Reset(3, 5, 5),)),
    "a pull brings messages": (lambda case: case.pull.set_result(batch(3, 5)), (lines(3, 5),)),
    "a pull brings the end": (lambda case: case.pull.set_result(batch(3, 3, closed=True)), (End(3),)),
    "a pull brings both": (lambda case: case.pull.set_result(batch(3, 4, closed=True)), (lines(3, 4), End(4))),
    "a pull says that all is gone": (lambda case: case.pull.set_exception(OffsetGone(3, 6)), (Reset(3, 6, 6),)),
    "a pull has waited in vain, and the topic is closed": (
        lambda case: fail(case.pull, PullTimeout(), case, Position(0, 3, closed=True)),
        (End(3),),
    ),
    "a pull has waited in vain, and the counter was lost": (
        lambda case: fail(case.pull, PullTimeout(), case, Position(0, 2)),
        (Reset(3, 0, 2),),
    ),
    "a pull fails, and the topic is closed when the log is back": (
        lambda case: fail(case.pull, Unavailable(), case, Position(0, 3, closed=True)),
        (End(3),),
    ),
    "a write here brings messages": (lambda case: case.hub.deliver("t", batch(3, 5)), (lines(3, 5),)),
    "a write here closes": (lambda case: case.hub.deliver("t", batch(3, 3, closed=True)), (End(3),)),
    "a write here brings messages after some that are gone": (
        lambda case: case.hub.deliver("t", batch(5, 6, head=5)),
        (Reset(3, 5, 6), lines(5, 6)),
    ),
    "a catch-up read comes to the end": (
        lambda case: case.read.set_result(batch(0, 3, closed=True)),
        (End(3),),
    ),
    "a catch-up read says what is gone": (
        lambda case: case.read.set_exception(OffsetGone(0, 4)),
        (Reset(3, 4, 4),),
    ),
    "a catch-up read finds nothing, as the counter was lost": (
        lambda case: fail(case.read, PullTimeout(), case, Position(0, 1)),
        (Reset(3, 0, 1),),
    ),
}


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are tried again at once."""
    monkeypatch.setattr(puller_module, "BACKOFF_FIRST", 0.001)


@pytest.fixture
async def case() -> AsyncIterator[Case]:
    """Return a feed whose pull waits, and whose catch-up read is under way for a reader from 0."""
    source = Scripted()
    hub = Hub(source, "here", encoded)
    behind = Following(hub.open("t", Start()))
    _, pull = await asyncio.wait_for(source.pulled.get(), 5)
    _, read = await asyncio.wait_for(source.read.get(), 5)
    yield Case(source, hub, behind.reader.feed, pull, read)
    await behind.close()
    await hub.close()


@pytest.mark.parametrize("way", AT_THE_TAIL)
async def test_whatever_a_feed_learns_wakes_who_waits(case: Case, way: str) -> None:
    """Nothing else happens than this one thing, and the reader is told."""
    learn, told = AT_THE_TAIL[way]
    async with Following(case.hub.open("t", Start("offset", 3))) as reader:
        await reader.resolved()
        await until(lambda: (wake := reader.reader._wake) is not None and not wake.is_set(), "the reader to wait")
        learn(case)
        await reader.is_told(*told)


async def test_messages_that_are_only_known_to_be_there_are_asked_for(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position is past the tail, and no pull brings them: theirs may wait on a node that is gone."""
    monkeypatch.setattr(puller_module, "EXPECT_SECONDS", 0.01)
    case.position_says(0, 5)
    offset, pull = await asyncio.wait_for(case.source.pulled.get(), 5)
    assert (3, True) == (offset, case.pull.cancelled())
    pull.set_result(batch(3, 5))
    async with Following(case.hub.open("t", Start("offset", 3))) as reader:
        await reader.is_told(lines(3, 5))


async def test_a_pull_from_a_tail_that_is_none_any_more_is_not_left_waiting(case: Case) -> None:
    """After the counter was lost it would wait until the topic has that many messages again."""
    case.position_says(0, 1)
    offset, _ = await asyncio.wait_for(case.source.pulled.get(), 5)
    assert (1, True) == (offset, case.pull.cancelled())


async def test_a_reader_that_waits_to_ask_again_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain does not wait for the pause between two attempts."""
    monkeypatch.setattr(puller_module, "BACKOFF_FIRST", 60.0)
    source = MemorySource()
    source.failing = Unavailable()
    hub = Hub(source, "here", encoded)
    reader = Following(hub.open("t", Start("latest")))
    await asyncio.sleep(0.01)
    reader.reader.stop()
    assert [] == await reader.ended()
    await reader.close()
    await hub.close()


async def test_what_one_readers_catch_up_finds_gone_is_hidden_from_all() -> None:
    """A read below the ring says that the head has moved into the ring: nobody is shown what lies below it."""
    source = MemorySource()
    hub = Hub(source, "here", encoded)
    source.append("t", *numbers(0, 3))
    async with Following(hub.open("t", Start("latest"))) as first:
        await first.resolved()
        source.append("t", *numbers(3, 6))
        await first.is_told(Began(3), lines(3, 6))
        idle = hub.open("t", Start("offset", 3))
        await idle.resolve_start()
        early = hub.open("t", Start("offset", 1))
        await early.resolve_start()
        source.truncate("t", 5)
        async with Following(early) as told:
            await told.is_told(Reset(1, 5, 6), lines(5, 6))
        async with Following(idle) as told:
            await told.is_told(Reset(3, 5, 6), lines(5, 6))
    await hub.close()
