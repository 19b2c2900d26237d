"""A TCP proxy between two real parts, which can cut, stall, or lose what an answer says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from harness import free_port


class Proxy:
    """Forwards a port of its own to another; faults are switched on and off while it runs."""

    def __init__(self, port: int) -> None:
        """Forward to `port` on this machine."""
        self.target = port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut_answers = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Cut everything and stop."""
        assert self._server is not None
        self._flowing.set()
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections that are open now."""
        for writer in self._writers:
            with contextlib.suppress(AttributeError):
                writer.transport.abort()

    def cut_answers(self, count: int) -> None:
        """Let the next `count` requests through, and cut their connections when the answer comes."""
        self._cut_answers = count

    def stall(self) -> None:
        """Neither refuse nor answer: hold all bytes back until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let bytes through again."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._pipe(reader, far_writer), self._pipe(far_reader, writer, answers=True), return_exceptions=True
        )
        for one in (writer, far_writer):
            self._writers.discard(one)
            one.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            if answers and self._cut_answers:
                self._cut_answers -= 1
                break
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
