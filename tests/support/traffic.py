"""Traffic for fault tests: keyed writers, readers that resume as a browser does, and what both must agree on.

A message is `{"writer", "at"}`, so that a reader's messages tell by themselves whether one is missing or doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import aiohttp

from restate_pubsub import PubsubClient, RetryPolicy, create_pubsub_client
from support.harness import Event, Stream
from support.waiting import until

FULL = os.environ.get("FAULTS") == "full"
"""`make test-faults`: faults last as long as those that people meet. Otherwise they are short."""
UNLIMITED = {
    "PUBSUB_MAX_STREAMS": "100000",
    "PUBSUB_MAX_STREAMS_PER_CLIENT": "100000",
    "PUBSUB_STREAM_RATE": "100000",
    "PUBSUB_STREAM_RATE_PER_CLIENT": "100000",
    "PUBSUB_MAX_TOPICS": "100000",
    "PUBSUB_TOPIC_RATE_PER_CLIENT": "100000",
}
"""All readers of a test come from one address."""
PATIENT = RetryPolicy(longest=1.0, seconds=600.0)
BATCH = 3
SETTLE_SECONDS = 60.0


class Sent(NamedTuple):
    """When a message was first tried, and when its write was acknowledged."""

    tried: float
    acknowledged: float


class Writers:
    """One program that publishes, one that appends, one that streams tokens, all with keys, until stopped.

    Each has the next message ready as soon as the last is acknowledged, and `pause` seconds have passed.
    """

    def __init__(self, ingress_url: str, topic: str, *, pause: float = 0.05, padding: int = 0) -> None:
        """`padding` bytes make each message larger."""
        self.topic = topic
        self.sent: dict[tuple[str, int], Sent] = {}
        self._url = ingress_url.replace("localhost", "127.0.0.1")
        self._pause = pause
        self._padding = {"padding": "x" * padding} if padding else {}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._tasks = [asyncio.create_task(write()) for write in (self._publish, self._append, self._stream)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Stop; after an error, at once."""
        if kind is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            return
        await self.stop()

    async def stop(self) -> None:
        """Stop once what is under way is acknowledged."""
        self._stop.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), SETTLE_SECONDS)

    @property
    def acknowledged(self) -> int:
        """How many messages are known to be in the topic."""
        return len(self.sent)

    async def some(self, count: int = 30, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until `count` more messages are acknowledged."""
        wanted = self.acknowledged + count
        await until(lambda: self.acknowledged >= wanted or self._failed(), f"{count} acknowledged messages", seconds)

    def _failed(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return False

    def _message(self, writer: str, at: int) -> dict[str, Any]:
        return {"writer": writer, "at": at, **self._padding}

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._pause)

    def _client(self) -> PubsubClient:
        return create_pubsub_client(self._url, retry=PATIENT)

    async def _publish(self) -> None:
        async with self._client() as client:
            for at in itertools.count():
                tried = time.monotonic()
                await client.publish(
                    self.topic, self._message("publish", at), idempotency_key=f"{self.topic}-publish-{at}"
                )
                self.sent["publish", at] = Sent(tried, time.monotonic())
                await self._rest()
                if self._stop.is_set():
                    return

    async def _append(self) -> None:
        async with self._client() as client:
            for first in itertools.count(step=BATCH):
                tried = time.monotonic()
                batch = range(first, first + BATCH)
                messages = [self._message("append", at) for at in batch]
                await client.append(self.topic, messages, idempotency_key=f"{self.topic}-append-{first}")
                for at in batch:
                    self.sent["append", at] = Sent(tried, time.monotonic())
                await self._rest()
                if self._stop.is_set():
                    return

    async def _stream(self) -> None:
        tried: list[float] = []
        async with self._client() as client, client.stream(self.topic) as stream:
            for at in itertools.count():
                tried.append(time.monotonic())
                await stream.write(self._message("stream", at))
                await self._rest()
                self._note(tried, stream.acknowledged)
                if self._stop.is_set():
                    break
        self._note(tried, stream.acknowledged)

    def _note(self, tried: list[float], acknowledged: int) -> None:
        for at in range(sum(key[0] == "stream" for key in self.sent), acknowledged):
            self.sent["stream", at] = Sent(tried[at], time.monotonic())


@dataclass
class Arrived:
    """A message and when it came."""

    data: Any
    when: float


class ResumingReader:
    """What `EventSource` does: reads, notes ids, and after a lost connection waits `retry` and asks for the rest.

    It fails where a browser would give up (any status but 200 and 204), and where an id is not the last one + 1.
    """

    def __init__(self, url: str, *, start: int = 0, buffer: int | None = None) -> None:
        """Read `url` from its `start` on; `run` does it. `buffer` bytes are what its socket takes unread."""
        self.url = url
        self.start = start
        self._buffer = buffer
        self.messages: list[Arrived] = []
        self.connects = 0
        self.ends: list[float] = []
        """When its connections ended."""
        self.reading = asyncio.Event()
        """Cleared, the reader takes nothing more from its connection."""
        self.reading.set()
        self.faults: list[str] = []
        self._last_id = ""
        self._retry = 3.0  # what browsers take where the server says nothing

    @property
    def next(self) -> int:
        """The offset of the message that it has not seen yet."""
        return self.start + len(self.messages)

    async def run(self) -> None:
        """Read until cancelled, the topic's end, or a status that ends an `EventSource`."""
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(socket_factory=self._socket)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, read_bufsize=2**14) as session:
            while True:
                headers = {"accept": "text/event-stream"}
                if self._last_id:
                    headers["last-event-id"] = self._last_id
                with contextlib.suppress(aiohttp.ClientError, OSError, EOFError):
                    self.connects += 1
                    async with session.get(self.url, headers=headers) as response:
                        if response.status == 204:
                            return
                        if response.status != 200:
                            self.faults.append(f"status {response.status}: {await response.text()}")
                            return
                        await self._read(Stream(response))
                self.ends.append(time.monotonic())
                await asyncio.sleep(self._retry)

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        sock = socket.socket(family, kind, protocol)
        if self._buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        return sock

    async def _read(self, stream: Stream) -> None:
        try:
            while True:
                await self.reading.wait()
                self._take(await stream.next(3600))
                stream.raw = b""  # of no use here, and it would grow
        finally:
            if stream.retry is not None:
                self._retry = stream.retry / 1000

    def _take(self, event: Event) -> None:
        if event.event != "message":
            self.faults.append(f"{event.event} {event.data} at offset {self.next}")
        elif event.id != str(self.next + 1):
            self.faults.append(f"id {event.id} where {self.next + 1} was due")
        else:
            self.messages.append(Arrived(event.data, time.monotonic()))
            self._last_id = event.id

    def silence(self, since: float = 0.0) -> float:
        """Return the longest time between two messages, of those that came after `since`."""
        times = [message.when for message in self.messages]
        return max((after - before for before, after in itertools.pairwise(times) if after >= since), default=0.0)

    def latest(self, writers: Writers, since: float = 0.0) -> float:
        """Return the longest time from a message's acknowledgement to its arrival, after `since`."""
        return max(
            (
                message.when - writers.sent[message.data["writer"], message.data["at"]].acknowledged
                for message in self.messages
                if message.when >= since
            ),
            default=0.0,
        )


@contextlib.asynccontextmanager
async def reading(urls: Iterable[str], *, buffer: int | None = None) -> AsyncIterator[list[ResumingReader]]:
    """Run one resuming reader for each URL; all have connected once when the block begins."""
    readers = [ResumingReader(url, buffer=buffer) for url in urls]
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    try:
        await until(lambda: all(reader.connects for reader in readers), "all readers to connect")
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def agree(writers: Writers, readers: Iterable[ResumingReader], seconds: float = SETTLE_SECONDS) -> None:
    """Wait for the readers to have it all; each must have every message once, in the topic's order."""
    expected = len(writers.sent)
    readers = list(readers)
    try:
        await until(lambda: all(one.next >= expected or one.faults for one in readers), "the readers", seconds)
    except AssertionError:
        msg = f"{expected} messages are in the topic; the readers have {sorted(one.next for one in readers)}"
        raise AssertionError(msg) from None
    for reader in readers:
        assert not reader.faults, reader.faults[:3]
    first = None
    for reader in readers:
        log = [(message.data["writer"], message.data["at"]) for message in reader.messages]
        for writer in ("publish", "append", "stream"):
            seen = [at for name, at in log if name == writer]
            assert list(range(len(seen))) == seen, f"{writer} is out of order, or has doubles"
        assert set(writers.sent) == set(log)
        first = first or log
        assert first == log, "two readers disagree"


def report(fault: str, writers: Writers, readers: Iterable[ResumingReader], since: float = 0.0) -> str:
    """Print what the fault cost, in the words of docs/faults.md."""
    readers = list(readers)
    silence = max(reader.silence(since) for reader in readers)
    late = max(reader.latest(writers, since) for reader in readers)
    connects = max(reader.connects for reader in readers) - 1
    line = (
        f"FAULT {fault}: silence {silence:.2f} s, acknowledged but not shown {late:.2f} s, "
        f"reconnects {connects}, messages {writers.acknowledged}, readers {len(readers)}"
    )
    print(line)
    return line
