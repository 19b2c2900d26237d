"""One stream as a response: who is cut off, who is not, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from restate_pubsub.web.stream_response import StreamResponse

if TYPE_CHECKING:
    from starlette.types import Message

PATIENCE = 0.2


class Reader:
    """A reader of the hub, as the response knows it: chunks, until it is stopped."""

    def __init__(self) -> None:
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

    def __init__(self, *, heartbeat: float = 60.0) -> None:
        self.reader, self.client, self.slow = Reader(), Client(), 0
        response = StreamResponse(
            self.reader,  # type: ignore[arg-type]
            retry=1.0,
            heartbeat=heartbeat,
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
    assert sent + 3 == case.client.took.qsize()


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
