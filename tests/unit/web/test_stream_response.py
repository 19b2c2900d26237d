"""One stream as a response: who is cut off, who is not, and what is left behind."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.messages import Message as Published
from restate_pubsub.protocol.sse import message_frame, place_frame
from restate_pubsub.web.stream_response import StreamResponse, come_back

if TYPE_CHECKING:
    from starlette.types import Message

PATIENCE = 0.2


class Reader:
    """A reader of the hub, as the response knows it: chunks, until it is stopped."""

    def __init__(self, start: Start | None = None) -> None:
        self.start = start or Start()
        self.chunk: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = False

    def stop(self) -> None:
        self.chunk.put_nowait(None)

    def close(self) -> None:
        self.closed = True

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self.chunk.get()) is not None:
            yield chunk


class Client:
    """The other end: it takes a message only as often as it is told to, and may leave."""

    def __init__(self) -> None:
        self.takes = asyncio.Semaphore(0)
        self.took: asyncio.Queue[bytes] = asyncio.Queue()
        self._left = asyncio.Event()

    def take(self, count: int) -> None:
        for _ in range(count):
            self.takes.release()

    def leave(self) -> None:
        self._left.set()

    async def send(self, message: Message) -> None:
        await self.takes.acquire()
        self.took.put_nowait(message.get("body", b""))

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}


class Case:
    """A response under way."""

    def __init__(
        self, *chunks: bytes, start: Start | None = None, heartbeat: float = 60.0, visible_heartbeats: bool = False
    ) -> None:
        """`chunks` are what the reader has at once."""
        self.reader, self.client, self.slow = Reader(start), Client(), 0
        for chunk in chunks:
            self.reader.chunk.put_nowait(chunk)
        response = StreamResponse(
            self.reader,  # type: ignore[arg-type]
            retry=1.0,
            heartbeat=heartbeat,
            visible_heartbeats=visible_heartbeats,
            send_timeout=PATIENCE,
            on_slow=self._was_slow,
        )
        scope: dict[str, Any] = {"type": "http", "method": "GET"}
        self.running = asyncio.create_task(response(scope, self.client.receive, self.client.send))

    def _was_slow(self) -> None:
        self.slow += 1

    async def took(self) -> bytes:
        return await asyncio.wait_for(self.client.took.get(), 5)

    async def over(self) -> None:
        await asyncio.wait_for(self.running, 5)
        assert self.reader.closed


async def test_a_client_that_takes_nothing_is_cut_off_and_counted() -> None:
    """Not at once: after the time that it is given."""
    case, began = Case(), asyncio.get_running_loop().time()
    await case.over()
    assert 1 == case.slow
    assert asyncio.get_running_loop().time() - began >= PATIENCE


async def test_a_client_that_takes_nothing_for_the_heartbeats_is_cut_off() -> None:
    """A stream in which nothing happens notices it, too."""
    case = Case(heartbeat=0.01)
    case.client.take(2)  # the head and the opening
    await case.over()
    assert 1 == case.slow


async def test_a_client_that_is_slow_but_takes_something_stays() -> None:
    """Each message has the whole time for itself, however long they take together."""
    case = Case()
    began = asyncio.get_running_loop().time()
    case.client.take(2)
    await case.took()
    await case.took()
    sent = 0
    while asyncio.get_running_loop().time() - began < 3 * PATIENCE:
        case.reader.chunk.put_nowait(b"data: %d\n\n" % sent)
        await asyncio.wait({case.running}, timeout=PATIENCE / 4)
        case.client.take(1)
        sent += 1
    case.reader.stop()
    case.client.take(1)
    await case.over()
    assert 0 == case.slow
    assert sent + 1 == case.client.took.qsize()


async def test_a_stream_in_which_nothing_is_sent_is_not_slow() -> None:
    """Only a send that does not end counts, not the time between two."""
    case = Case()
    case.client.take(100)
    await case.took()
    await case.took()
    await asyncio.wait({case.running}, timeout=2 * PATIENCE)
    assert not case.running.done()
    case.reader.chunk.put_nowait(b"data: 1\n\n")
    assert b"data: 1\n\n" == await case.took()
    case.reader.stop()
    await case.over()
    assert 0 == case.slow


async def test_a_client_that_leaves_ends_the_stream() -> None:
    """Whether it was being sent something or not."""
    for taking in (0, 100):
        case = Case()
        case.client.take(taking)
        case.client.leave()
        await case.over()
        assert 0 == case.slow


OPENING = rb": open\nretry: (1\d\d\d|2000)\n"
MESSAGE = message_frame(4, Published(b"1"))
BEAT = b'event: heartbeat\ndata: {"seconds":60}\n\n'
LATEST = Start("latest")


async def written(case: Case) -> bytes:
    """Return what is sent first after the head, all in one write, and end the stream."""
    case.client.take(10)
    await case.took()
    first = await case.took()
    case.reader.stop()
    await case.over()
    found = re.match(OPENING, first)
    assert found
    return first[found.end() :]


@pytest.mark.parametrize(
    ("start", "visible", "chunks", "then"),
    [
        (None, False, [], b""),
        (None, False, [MESSAGE], MESSAGE),
        (None, True, [], BEAT),
        (None, True, [MESSAGE], BEAT + MESSAGE),
        (LATEST, False, [], b""),
        (LATEST, False, [place_frame(4)], b"id: 4\n\n"),
        (LATEST, True, [], BEAT),
        (LATEST, True, [place_frame(4)], b"id: 4\n" + BEAT),
    ],
)
async def test_the_opening_goes_out_with_what_there_is(
    start: Start | None, *, visible: bool, chunks: list[bytes], then: bytes
) -> None:
    """In one write, so that no connection breaks between them; and at once, where there is nothing yet."""
    assert then == await written(Case(*chunks, start=start, visible_heartbeats=visible))


@pytest.mark.parametrize(("visible", "place"), [(False, b"id: 4\n\n"), (True, b"id: 4\n" + BEAT)])
async def test_where_the_stream_begins_may_come_later(*, visible: bool, place: bytes) -> None:
    """Restate was slow to say."""
    case = Case(start=LATEST, visible_heartbeats=visible)
    case.client.take(10)
    await case.took()
    await case.took()
    case.reader.chunk.put_nowait(place_frame(4))
    assert place == await case.took()
    case.reader.chunk.put_nowait(MESSAGE)
    assert MESSAGE == await case.took()
    case.reader.stop()
    await case.over()


@pytest.mark.parametrize(
    ("visible", "beat"), [(False, b":\n"), (True, b'event: heartbeat\ndata: {"seconds":0.01}\n\n')]
)
async def test_heartbeats(*, visible: bool, beat: bytes) -> None:
    """A comment without a blank line, or an event without an id."""
    case = Case(heartbeat=0.01, visible_heartbeats=visible)
    case.client.take(100)
    await case.took()
    await case.took()
    assert [beat, beat] == [await case.took(), await case.took()]
    case.reader.stop()
    await case.over()


async def test_a_stream_that_ends_at_once_says_when_to_come_back() -> None:
    """And nothing that a parser could take for a message."""
    answer = come_back(1.0)
    assert re.fullmatch(OPENING, bytes(answer.body))
    assert "no-store, no-transform" == answer.headers["cache-control"]
