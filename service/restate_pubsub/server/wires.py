"""The connections that streams have taken over (`web/wire.py`): who takes nothing, who has gone, and their end.

A wire is an asyncio protocol and nothing else: no task, no queue. What waits for a client waits in the transport's
buffer, which is bounded by a chunk and its high-water mark, since whoever writes looks whether the wire is full.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from restate_pubsub.web.wire import Taker

log = structlog.stdlib.get_logger(__name__)

CLOSE_SECONDS = 30.0
"""So long a connection may take, after its stream's end, to take what it was sent before."""
IGNORED_BYTES = 128 * 1024
"""What a client sends behind its request is thrown away; one that sends more than this is not a reader."""
LOOKS = 4
"""A client that takes nothing is noticed after its time and a part of it, one in so many."""
LAST_PART = b"0\r\n\r\n"


class Wires:
    """All wires of this process."""

    def __init__(self, patience: float, on_lost: Callable[[BaseException], None]) -> None:
        """A client may take nothing for `patience` seconds; `on_lost` is told of one that vanished, and how."""
        self._patience = patience
        self._on_lost = on_lost
        self._all: set[TakenWire] = set()
        self._waiting: set[TakenWire] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._none = asyncio.Event()
        self._none.set()
        self._data = b""
        self._framed = b"0\r\n\r\n"

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all)

    def take(self, transport: asyncio.Transport, taker: Taker, head: bytes) -> None:
        """Give a connection to a taker; `head` is what it has been sent and is not written yet."""
        wire = TakenWire(self, transport, taker, head)
        self._all.add(wire)
        self._none.clear()
        transport.set_protocol(wire)
        if not transport.is_reading():
            transport.resume_reading()
        taker.taken(wire)

    async def gone(self) -> None:
        """Wait until all have gone."""
        await self._none.wait()

    def abort(self) -> None:
        """Cut all that are left."""
        for wire in list(self._all):
            wire.abort()

    # --- for wires -----------------------------------------------------------------------------------------------

    def framed(self, data: bytes) -> bytes:
        """Return a chunk of HTTP/1.1; what goes to many wires is made once."""
        if data is not self._data:
            self._data, self._framed = data, b"%x\r\n%b\r\n" % (len(data), data)
        return self._framed

    def waits(self, wire: TakenWire) -> None:
        """Watch a wire whose client has not taken all of it at once."""
        self._waiting.add(wire)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience / LOOKS, self._look)

    def lost(self, wire: TakenWire, error: BaseException | None) -> None:
        """Forget a wire."""
        self._waiting.discard(wire)
        self._all.discard(wire)
        if not self._all:
            self._none.set()
        if error is not None:
            self._on_lost(error)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for wire in list(self._waiting):
            waits = wire.waits_since(now)
            if waits is None:
                self._waiting.discard(wire)
            elif now - waits >= self._patience:
                self._waiting.discard(wire)
                wire.expire()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(self._patience / LOOKS, self._look)


class TakenWire(asyncio.Protocol):
    """One connection: a `Wire` for who writes, and the protocol of its transport."""

    __slots__ = ("_close", "_head", "_ignored", "_since", "_taker", "_transport", "_wires", "_written", "full")

    def __init__(self, wires: Wires, transport: asyncio.Transport, taker: Taker, head: bytes) -> None:
        """`head` goes out before the first part."""
        self.full = False
        self._wires = wires
        self._transport = transport
        self._taker = taker
        self._head = head
        self._ignored = 0
        self._written = 0
        self._since: tuple[float, int] | None = None  # since when it waits, and how much it had taken then
        self._close: asyncio.TimerHandle | None = None

    # --- for who writes ------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if data:
            self._send(self._wires.framed(data))

    def end(self) -> None:
        """End the body, and close the connection when the client has taken what is left."""
        self._send(LAST_PART)
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._close = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        if self._head:
            data, self._head = self._head + data, b""
        transport.write(data)
        self._written += len(data)
        if transport.get_write_buffer_size():
            self._wires.waits(self)

    # --- for who watches -----------------------------------------------------------------------------------------

    def waits_since(self, now: float) -> float | None:
        """Return since when the client has taken nothing of what waits for it; None where nothing does."""
        left = self._transport.get_write_buffer_size()
        taken = self._written - left
        if not left:
            self._since = None
            return None
        if self._since is None or self._since[1] != taken:
            self._since = now, taken
        return self._since[0]

    def expire(self) -> None:
        """Cut a client that has taken nothing for too long."""
        self._taker.slow()
        self._transport.abort()

    # --- for the transport ---------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """More waits than should."""
        self.full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.full = False
        self._taker.room()

    def data_received(self, data: bytes) -> None:
        """Throw away what comes behind the request: the answer has said that it is the connection's last one."""
        self._ignored += len(data)
        if self._ignored > IGNORED_BYTES:
            self._transport.abort()

    def eof_received(self) -> bool:
        """Close: a client that has closed its side has gone, as on any other connection here."""
        return False

    def connection_lost(self, error: BaseException | None) -> None:
        """Leave nothing behind."""
        if self._close is not None:
            self._close.cancel()
        self._wires.lost(self, error)
        self._taker.gone()
