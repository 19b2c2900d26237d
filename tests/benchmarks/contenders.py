"""The contenders: each offers the same few things to the measures."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from benchmarks.processes import Ingress, Process, with_children
from restate_pubsub.protocol.calls import encode_append
from restate_pubsub.protocol.messages import Message
from support.harness import Service


class Contender(Protocol):
    """What a measure asks of everybody. A contender that has no `append` takes messages one by one."""

    name: str
    batches: bool

    @property
    def ports(self) -> list[int]:
        """Where its streams are: readers are spread over them."""

    @property
    def pids(self) -> list[int]:
        """The processes that serve the streams."""

    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""

    async def publish(self, topic: str, message: bytes) -> None:
        """Publish, and wait for the acknowledgement."""

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Publish a batch."""


@dataclass
class Ours:
    """`restate-pubsub serve`, in one process or several, or the same application in another server."""

    services: Sequence[Service]
    ingress: Ingress
    name: str = "restate-pubsub"
    batches: bool = True

    @property
    def ports(self) -> list[int]:
        """A port for each process."""
        return [service.port for service in self.services]

    @property
    def pids(self) -> list[int]:
        """Its processes, and what they started."""
        pids = [service.process.pid for service in self.services if service.process is not None]
        return [pid for one in pids for pid in with_children(one)]

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/pubsub/{topic}?offset=0"

    async def publish(self, topic: str, message: bytes) -> None:
        """Call `publish`."""
        await self.ingress.call(topic, "publish", message)

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Call `append`."""
        await self.ingress.call(topic, "append", encode_append(map(Message, messages), close=False))


class OneProcess:
    """What is of one process, with one port."""

    process: Process

    @property
    def ports(self) -> list[int]:
        """The one port."""
        return [self.process.port]

    @property
    def pids(self) -> list[int]:
        """The one process."""
        return [self.process.pid]


class OneByOne(abc.ABC):
    """What has no batches."""

    batches = False

    @abc.abstractmethod
    async def publish(self, topic: str, message: bytes) -> None:
        """Publish one message."""

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Publish one by one: there is no batch."""
        for message in messages:
            await self.publish(topic, message)


@dataclass
class Reference(OneProcess, OneByOne):
    """The published object and client; `kind` is `published` or `eager` (see `reference.mjs`)."""

    process: Process
    ingress: Ingress
    sse_port: int
    kind: str
    name: str

    @property
    def ports(self) -> list[int]:
        """The one port."""
        return [self.sse_port]

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/{self.kind}/{topic}?offset=0"

    async def publish(self, topic: str, message: bytes) -> None:
        """Call `publish`."""
        await self.ingress.call(topic, "publish", message)


@dataclass
class Nchan(OneProcess, OneByOne):
    """Nginx with nchan, one worker; it stores nothing durably."""

    process: Process
    name: str = "nginx + nchan"
    session: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/sub/{topic}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Post to the channel."""
        async with self.session.post(f"http://127.0.0.1:{self.process.port}/pub/{topic}", data=message) as response:
            await response.read()
            assert response.status < 300, response.status


@dataclass
class Broadcast(OneProcess):
    """A bare socket broadcast (see `broadcast.py`): no HTTP, no topics, no acknowledgement."""

    process: Process
    name: str = "bare broadcast"
    batches: bool = True
    writer: asyncio.StreamWriter | None = None

    def path(self, topic: str) -> str:
        """Return any path."""
        return f"/{topic}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Write a line."""
        await self.append(topic, [message])

    async def append(self, _topic: str, messages: Sequence[bytes]) -> None:
        """Write lines."""
        if self.writer is None:
            _, self.writer = await asyncio.open_connection("127.0.0.1", self.process.port)
        self.writer.write(b"".join(message + b"\n" for message in messages))
        await self.writer.drain()


@dataclass
class Floor(OneProcess):
    """An exclusive handler that does nothing (see `floor.py`): it can be called, and has no readers."""

    process: Process
    ingress: Ingress
    name: str = "floor: handler that does nothing"

    async def publish(self, topic: str, message: bytes) -> None:
        """Call it."""
        await self.ingress.call(topic, "publish", message)
