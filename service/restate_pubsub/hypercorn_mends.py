"""Two mends of hypercorn 0.18, which has no setting for either. To be dropped with the release that has them."""

from __future__ import annotations

import hypercorn.protocol
from h2.events import DataReceived
from h2.events import Event as H2Event
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Event, Updated
from hypercorn.protocol.h2 import H2Protocol


class TolerantH2(H2Protocol):
    """HTTP/2 where a body that nobody wants any more fails alone.

    hypercorn fails the whole connection, with all invocations in flight on it, when a part of a body comes for a
    stream that is gone: answered early, or reset because the server is stopping.
    """

    async def _handle_events(self, events: list[H2Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
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

    async def _read_data(self) -> None:
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()


def mend() -> None:
    """Put the mended classes where hypercorn looks them up."""
    hypercorn.protocol.H2Protocol = TolerantH2  # type: ignore[attr-defined]
    run.TCPServer = EndingConnection  # type: ignore[attr-defined]
