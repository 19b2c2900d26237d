"""A reader of a hub that notes what it is told, for tests without a server."""

from __future__ import annotations

import asyncio
from typing import Self

from restate_pubsub.fanout.reader import Reader
from restate_pubsub.fanout.steps import Chunk, Step
from restate_pubsub.protocol.messages import Message
from support.waiting import until


def encoded(offset: int, message: Message) -> bytes:
    """Encode a message so that a test sees its offset and its data."""
    return b"%d=%b\n" % (offset, message.data)


def numbers(start: int, stop: int) -> list[Message]:
    """Return messages whose data is their offset."""
    return [Message(b"%d" % at) for at in range(start, stop)]


def lines(start: int, stop: int) -> bytes:
    """Return the same as readers get it."""
    return b"".join(encoded(at, Message(b"%d" % at)) for at in range(start, stop))


Told = list[bytes | Step]


class Following:
    """Follows until the steps end; use it as a context manager, or close it."""

    def __init__(self, reader: Reader) -> None:
        """Begin to follow."""
        self.reader = reader
        self.told: Told = []
        self.chunks = 0
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Leave."""
        await self.close()

    async def _follow(self) -> None:
        async for step in self.reader.steps():
            if not isinstance(step, Chunk):
                self.told.append(step)
            else:
                self.chunks += 1
                last = self.told.pop() if self.told and isinstance(self.told[-1], bytes) else b""
                assert isinstance(last, bytes)
                self.told.append(last + step.data)
            self._more.set()

    async def is_told(self, *expected: bytes | Step, seconds: float = 5.0) -> None:
        """Wait until it has been told exactly this, chunks joined."""
        wanted = [one for one in expected if one != b""]
        try:
            async with asyncio.timeout(seconds):
                while self.told != wanted:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            assert wanted == self.told

    async def resolved(self) -> None:
        """Wait until it is known where it begins."""
        await until(lambda: self.reader.resolved, "the reader to find where it begins")

    async def ended(self) -> Told:
        """Wait for the end, and return all it was told."""
        await asyncio.wait_for(self.task, 5)
        return self.told

    async def close(self) -> None:
        """Leave, as a client that has gone does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.reader.close()
