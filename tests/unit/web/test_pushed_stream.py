"""A stream on a wire, over a hub on a log in memory: what is written, when nothing is, and what a failure costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.sse import end_frame, message_frame, place_frame
from restate_pubsub.web.beats import Beats
from restate_pubsub.web.opening import Opening
from restate_pubsub.web.pushed_stream import PushedStream
from restate_pubsub.web.sse_reader import SseReader
from support.waiting import until

OPENING = rb": open\nretry: (1\d\d\d|2000)\n"
BEAT = b"beat\n\n"


class Wire:
    """Notes what is written; full when it is told to be."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.full = False
        self.fails = False
        self.ended = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self.fails:
            raise RuntimeError
        assert not self.ended
        self.parts.append(data)

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    @property
    def said(self) -> bytes:
        """All of it after the opening."""
        whole = b"".join(self.parts)
        opening = re.match(OPENING, whole)
        return whole[opening.end() :] if opening else b"no opening: " + whole


class Pushed:
    """One stream and its wire."""

    def __init__(self, hub: Hub, start: Start | None = None, *, beat: bytes = b"", seconds: float = 60.0) -> None:
        self.reader = hub.open("t", start or Start())
        self.wire, self.slow, self.ends = Wire(), 0, 0
        self.stream = PushedStream(
            SseReader(self.reader),
            Opening(1.0, beat=beat, places=self.reader.start.kind != "offset"),
            beat=beat or BEAT,
            beats=Beats(seconds),
            lasts=None,
            on_slow=self._slow,
            on_end=self._end,
        )
        self.stream.taken(self.wire)

    def _slow(self) -> None:
        self.slow += 1

    def _end(self) -> None:
        self.ends += 1

    async def says(self, *parts: bytes) -> None:
        """Wait until exactly this was written after the opening."""
        await until(lambda: self.wire.said == b"".join(parts), f"{parts}, not {self.wire.said!r}", 5)


def numbers(start: int, stop: int) -> list[Message]:
    return [Message(b"%d" % at) for at in range(start, stop)]


def frames(start: int, stop: int) -> bytes:
    return b"".join(message_frame(at, Message(b"%d" % at)) for at in range(start, stop))


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
async def hub(source: MemorySource) -> AsyncIterator[Hub]:
    hub = Hub(source, "here", message_frame, FeedOptions(linger=60))
    yield hub
    await hub.close()


async def located(hub: Hub) -> None:
    """Have the topic's feed know where it is, and its pull wait."""
    reader = hub.open("t", Start("latest"))
    await reader.resolve_start()
    reader.close()


async def test_what_is_there_and_what_comes(hub: Hub, source: MemorySource) -> None:
    """The opening goes out at once; older messages, news, and then the end of topic and response."""
    source.append("t", *numbers(0, 3))
    pushed = Pushed(hub)
    assert re.fullmatch(OPENING, pushed.wire.parts[0])
    await pushed.says(frames(0, 3))
    source.append("t", *numbers(3, 4))
    await pushed.says(frames(0, 4))
    source.close("t")
    await until(lambda: pushed.wire.ended, "the end", 5)
    assert frames(0, 4) + end_frame(4) == pushed.wire.said
    assert (0, 0) == (hub.streams, pushed.ends)
    pushed.stream.gone()
    assert (0, 1) == (hub.streams, pushed.ends)


async def test_a_stream_that_waits_for_nothing_is_one_write_and_no_task(hub: Hub, source: MemorySource) -> None:
    """What it begins with comes with the opening; while nothing happens, nobody is there for it."""
    source.append("t", *numbers(0, 3))
    await located(hub)
    tasks = len(asyncio.all_tasks())
    pushed = Pushed(hub, Start("latest"))
    assert 1 == len(pushed.wire.parts)
    assert place_frame(3) == pushed.wire.said
    assert tasks == len(asyncio.all_tasks())
    pushed.stream.gone()


@pytest.mark.parametrize(
    ("start", "then"),
    [(Start("latest"), b"id: 3\n" + BEAT), (Start("offset", 3), BEAT), (Start("offset", 9), BEAT + b"*")],
)
async def test_a_visible_heartbeat_comes_at_once(hub: Hub, source: MemorySource, start: Start, then: bytes) -> None:
    """It carries the place, where the reader did not name one; or comes before what follows."""
    source.append("t", *numbers(0, 3))
    await located(hub)
    pushed = Pushed(hub, start, beat=BEAT)
    if then.endswith(b"*"):  # the log is asked first
        await until(lambda: b"event: reset" in pushed.wire.said, "the reset", 5)
        assert pushed.wire.said.startswith(BEAT + b"id: ")
    else:
        await pushed.says(then)
    pushed.stream.gone()


async def test_nothing_is_written_into_a_full_wire(hub: Hub, source: MemorySource) -> None:
    """Neither messages nor heartbeats; with room again, all of it goes out in one write."""
    await located(hub)
    pushed = Pushed(hub, seconds=0.01)
    await pushed.says(b"")
    pushed.wire.full, before = True, len(pushed.wire.parts)
    for at in range(5):
        hub.deliver("t", source.append("t", *numbers(at, at + 1)))
        await asyncio.sleep(0.01)
    assert before == len(pushed.wire.parts)
    pushed.wire.full = False
    pushed.stream.room()
    assert frames(0, 5) == pushed.wire.parts[before]
    await until(lambda: BEAT in pushed.wire.parts, "a heartbeat", 5)
    pushed.stream.gone()


@pytest.mark.parametrize("full", [False, True])
async def test_a_stream_that_is_stopped_ends(hub: Hub, full: bool) -> None:  # noqa: FBT001
    """Also while its client takes nothing: what waits for it is left to the connection."""
    await located(hub)
    pushed = Pushed(hub, Start("latest"))
    pushed.wire.full = full
    pushed.reader.stop()
    assert pushed.wire.ended
    assert 0 == hub.streams
    pushed.stream.gone()


async def test_a_stream_that_catches_up_waits_for_room_and_can_be_stopped(hub: Hub, source: MemorySource) -> None:
    """Its client takes nothing of what is read again for it."""
    source.append("t", *numbers(0, 3))
    pushed = Pushed(hub)
    pushed.wire.full = True
    await pushed.says(frames(0, 3))
    source.append("t", *numbers(3, 4))
    await asyncio.sleep(0.02)
    assert frames(0, 3) == pushed.wire.said
    pushed.reader.stop()
    await until(lambda: pushed.wire.ended, "the end", 5)
    pushed.stream.gone()


async def test_a_client_that_goes_while_it_catches_up_leaves_nothing(hub: Hub, source: MemorySource) -> None:
    """No task, no reader."""
    source.append("t", *numbers(0, 3))
    tasks = len(asyncio.all_tasks())
    pushed = Pushed(hub)
    pushed.stream.gone()
    assert (0, 1) == (hub.streams, pushed.ends)
    await hub.close()
    await until(lambda: len(asyncio.all_tasks()) <= tasks, "all tasks to end", 5)


async def test_a_stream_whose_write_raises_stops_no_other(hub: Hub, source: MemorySource) -> None:
    """It is cut, and the others are told, in every turn of the waker; the writer hears nothing of it."""
    await located(hub)
    streams = [Pushed(hub) for _ in range(20)]
    broken = streams[::3]
    for one in broken:
        one.wire.fails = True
    with structlog.testing.capture_logs() as logged:
        hub.deliver("t", source.append("t", *numbers(0, 1)))
        for one in streams:
            if one not in broken:
                await one.says(frames(0, 1))
    assert [True] * len(broken) == [one.wire.aborted for one in broken]
    assert len(broken) == len(logged)
    for one in streams:
        one.stream.gone()


async def test_what_follows_while_a_stream_catches_up_is_not_missed(source: MemorySource) -> None:
    """Whatever the moment at which it comes: before the task has ended, and after."""
    source.append("t", *numbers(0, 1))
    for turns in range(30):
        hub = Hub(source, "here", message_frame, FeedOptions())
        tail = len(source._topic("t").messages)
        pushed = Pushed(hub)
        for _ in range(turns):
            await asyncio.sleep(0)
        source.append("t", *numbers(tail, tail + 1))
        await pushed.says(frames(0, tail + 1))
        pushed.stream.gone()
        await hub.close()


async def test_a_slow_client_is_counted(hub: Hub) -> None:
    """By whom the stream belongs to."""
    await located(hub)
    pushed: Any = Pushed(hub)
    pushed.stream.slow()
    pushed.stream.gone()
    assert (1, 1) == (pushed.slow, pushed.ends)
