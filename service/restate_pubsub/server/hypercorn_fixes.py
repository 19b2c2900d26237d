"""Mends of hypercorn 0.18, which has no setting for any of them. To be dropped with the release that has them."""

from __future__ import annotations

import asyncio
import contextlib

import hypercorn.protocol
from h2.events import DataReceived
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Event, Updated
from hypercorn.protocol import h2
from hypercorn.protocol.h2 import BUFFER_LOW_WATER, H2Protocol, StreamBuffer

CLOSE_SECONDS = 30.0
"""So long a connection that was closed may take to take what it was sent before."""


class BoundedBuffer(StreamBuffer):
    """The buffer of an HTTP/2 stream, where who fills it waits for who empties it.

    hypercorn lets the former go on when little was *taken*, so that a client which opens no window is sent whatever
    there is, into memory. What counts is how much is left.
    """

    async def pop(self, max_length: int) -> bytes:
        """Take at most so many bytes."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class TolerantH2(H2Protocol):
    """HTTP/2 where a body that nobody wants any more fails alone.

    hypercorn fails the whole connection, with all invocations in flight on it, when a part of a body comes for a
    stream that is gone: answered early, or reset because the server is stopping.

    And where an answer that is broken off is broken off for the client, too, instead of staying in memory unsent.
    """

    async def _handle_events(self, events: list[H2Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None or buffer._complete:  # noqa: SLF001 - its only sign that the answer came to its end
            return
        with contextlib.suppress(ProtocolError):  # the client has reset it, or has gone
            self.connection.reset_stream(stream_id)
        await buffer.close()
        self.priority.unblock(stream_id)  # the sending task finds it empty and closed, and forgets it
        await self.has_data.set()
        await self._flush()


class EndingConnection(TCPServer):
    """A connection that ends when its client has gone.

    hypercorn lets an idle one wait for its keep-alive timeout first, and here that is for ever: each client that hung
    up between two requests would leave a file and two tasks behind.
    """

    _gone = False

    async def protocol_send(self, event: Event) -> None:
        """Hand an event on; a client that has gone starts no more idle time."""
        if not (self._gone and isinstance(event, Updated)):
            await super().protocol_send(event)

    async def _close(self) -> None:
        """Close, and do not wait for ever until a client that takes next to nothing has taken the rest."""
        cut = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.writer.transport.abort)
        try:
            await super()._close()
        finally:
            cut.cancel()

    async def _read_data(self) -> None:
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()


def mend() -> None:
    """Put the mended classes where hypercorn looks them up."""
    hypercorn.protocol.H2Protocol = TolerantH2  # type: ignore[attr-defined]
    run.TCPServer = EndingConnection  # type: ignore[attr-defined]
    h2.StreamBuffer = BoundedBuffer  # type: ignore[misc]
