"""The floor of a fan-out: what comes in on one socket goes out on all others, in plain asyncio. No HTTP, no topics.

`python broadcast.py PORT`: a connection that begins with `GET` is a reader, any other one publishes, a line a message.
"""

from __future__ import annotations

import asyncio
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

readers: list[asyncio.Transport] = []
first: list[bytes] = []


class Peer(asyncio.Protocol):
    """A reader or the publisher: its first bytes tell."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.publishes: bool | None = None
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        if self.publishes is None:
            self.publishes = not data.startswith(b"GET ")
            if not self.publishes:
                self.transport.write(HEAD + b"".join(first))
                readers.append(self.transport)
        if self.publishes:
            lines = (self.rest + data).split(b"\n")
            self.rest = lines.pop()
            frames = [b"data: %b\n\n" % line for line in lines]
            first.extend(frames if not first else ())
            piece = b"".join(frames)
            for reader in readers:
                reader.write(piece)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.publishes is False:
            readers.remove(self.transport)
            if not readers:
                first.clear()


async def main() -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
