"""One TCP connection: it ends quietly when its client has gone or does nothing, and writes few segments."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import Any

import structlog
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, Event, RawData, Updated

from restate_pubsub.server.hypercorn_fixes.handing_over import hand_over, has_ended
from restate_pubsub.server.hypercorn_fixes.http1 import Http1
from restate_pubsub.server.hypercorn_fixes.http2 import Http2
from restate_pubsub.server.hypercorn_fixes.idle import LATER_SECONDS, IdleWatch
from restate_pubsub.server.hypercorn_fixes.limits import settings_of, wires_of
from restate_pubsub.server.hypercorn_fixes.request_stream import Answering, TakingOver

log = structlog.stdlib.get_logger(__name__)

CLOSE_SECONDS = 30.0
"""So long a connection that was closed may take to take what it was sent before."""
PIPELINED_BYTES = 128 * 1024
"""So much is read behind a request that is not answered yet."""
LOOK_SECONDS = 1.0
"""So often it is looked whether a client is still there whose bytes are not read."""
GATHER_TURNS = 3
"""So many turns of the event loop an answer's head waits for what follows at once: on HTTP/2, another task sends it."""
GATHER_BYTES = 64 * 1024


class Connection(TCPServer):
    """A connection.

    hypercorn holds a lock while it waits for a slow client, and tells the protocol of one that has gone under that
    same lock: whoever wants to send then waits for ever. Here a write is handed to the transport at once, in order, and
    only who wants to write more waits. Who has gone is told by the task that reads.
    """

    def __init__(self, *args: Any) -> None:
        """Take what hypercorn gives."""
        super().__init__(*args)
        self.idle_task: IdleWatch = IdleWatch()
        self._gone = False
        self._lost = False
        self._spared = False
        self._served = False
        self._late = False
        self._handed_over = False
        self._gathered: bytearray | None = None

    async def run(self) -> None:
        """Serve it to its end, whatever happens on it: the others on this process go on."""
        try:
            await super().run()
        except Exception as error:  # noqa: BLE001 - a fault of ours, with nobody left to tell but the log
            log.warning("a connection failed", client=self._client(), error=repr(error))
        if self._handed_over:
            self._take_apart()

    def _take_apart(self) -> None:
        """Break the circles in what served the request: otherwise the cyclic collector has to find them.

        For 5,000 streams that open, it walked 300,000 objects of theirs.
        """
        wrapper: Any = vars(self).pop("protocol")
        for part in filter(None, (wrapper.protocol.stream, wrapper.protocol, wrapper)):
            vars(part).clear()

    async def protocol_send(self, event: Event) -> None:
        """Take what a protocol has for the client, or news of how it is doing."""
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Answering):
            self._answering(event)
        elif isinstance(event, TakingOver):
            self._hand_over(event)
        elif isinstance(event, Closed):
            await self._close()
        elif isinstance(event, Updated) and not self._gone:  # one that has gone starts no more idle time
            self._late = False
            if event.idle:
                await self.idle_task.restart(self._task_group, self._idle_timeout)
            else:
                self._served = True
                await self.idle_task.stop()

    async def _write(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            return
        if self._gathered is None:
            self.writer.write(data)
        else:
            self._gathered += data
            if len(self._gathered) >= GATHER_BYTES:
                self._write_gathered()
        try:
            await self.writer.drain()
        except (OSError, RuntimeError) as error:
            self._vanished(error)

    def _answering(self, event: Answering) -> None:
        limits, _ = settings_of(self.config)
        if not self._spared and limits.spares(event.path, event.status):
            self._spared = True
            if isinstance(self.protocol.protocol, Http2):
                self.protocol.protocol.spare()
        if self._gathered is None:
            self._gathered = bytearray()
            self.loop.call_soon(self._gather, GATHER_TURNS)

    def _gather(self, turns: int) -> None:
        if turns:
            self.loop.call_soon(self._gather, turns - 1)
        else:
            self._write_gathered()

    def _write_gathered(self) -> None:
        data, self._gathered = self._gathered, None
        if data and not self.writer.transport.is_closing():
            self.writer.write(bytes(data))

    def _hand_over(self, event: TakingOver) -> None:
        """Give the transport away: for everything here it is as if the client had gone, and nothing is closed."""
        wires = wires_of(self.config)
        if wires is None or self._gone or self.writer.transport.is_closing() or has_ended(self.reader):
            return
        event.taken = self._handed_over = True
        head, self._gathered = bytes(self._gathered or b""), None
        wires.take(hand_over(self.writer), event.taker, head)

    def _vanished(self, error: BaseException) -> None:
        """Count a client that has gone without a word; the task that reads hears of it as well."""
        if self._lost:
            return
        self._lost = True
        kind = kind_of(error)
        log.debug("client vanished", client=self._client(), error=kind, detail=str(error))
        settings_of(self.config)[1].connection_lost(kind)

    def _client(self) -> str:
        name = self.writer.get_extra_info("peername")
        return str(name[0]) if name else "unknown"

    async def _read_data(self) -> None:
        try:
            await self._read_to_the_end()
        finally:
            self.idle_task.end()

    async def _read_to_the_end(self) -> None:
        try:
            while not self.reader.at_eof():
                data = await self.reader.read(MAX_RECV)
                if self._handed_over:
                    return
                await self.protocol.handle(RawData(data))
                await self._take_pipelined()
                await self._hurry()
        except OSError as error:
            self._vanished(error)
        except Exception as error:  # noqa: BLE001 - whatever a client did, the others on this process go on
            log.warning("a connection failed", client=self._client(), error=repr(error))
        if self._handed_over:
            return
        self._gone = True
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _take_pipelined(self) -> None:
        """Wait for the answer that a pipelined request waits for, and notice meanwhile if the client goes."""
        protocol = self.protocol.protocol
        while isinstance(protocol, Http1) and protocol.paused:
            ready = asyncio.create_task(protocol.can_read.wait())
            behind = bytearray()
            try:
                while not ready.done() and len(behind) < PIPELINED_BYTES:
                    more = await self._read_unless(ready)
                    if more == b"":
                        return  # the end: what waited is not begun
                    behind += more or b""
                while not ready.done():  # what comes now stays in the kernel; who sends it may go nevertheless
                    await asyncio.wait({ready}, timeout=LOOK_SECONDS)
                    if not ready.done() and self._hung_up():
                        return
            finally:
                ready.cancel()
            if self._handed_over:
                return
            await protocol.go_on(bytes(behind))

    async def _read_unless(self, ready: asyncio.Task[Any]) -> bytes | None:
        """Return what comes, nothing at the end; None if `ready` is done first."""
        more = asyncio.create_task(self.reader.read(MAX_RECV))
        try:
            await asyncio.wait({ready, more}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not more.done():
                more.cancel()
                await asyncio.wait({more})
        return None if more.cancelled() else more.result()

    def _hung_up(self) -> bool:
        """Whether the client has closed its side, also where bytes that it sent before are still unread."""
        sock = self.writer.get_extra_info("socket")
        if self.writer.transport.is_closing() or sock is None or sock.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))  # POLLHUP and POLLERR come unasked
        return bool(poll.poll(0))

    async def _hurry(self) -> None:
        """Give a request that has begun less time than a connection that waits for one."""
        limits, _ = settings_of(self.config)
        protocol = self.protocol.protocol
        if limits.request and not self._late and isinstance(protocol, Http1) and protocol.partial:
            self._late = True
            await self.idle_task.restart(self._task_group, self._idle_timeout)

    def _limit(self) -> float | None:
        """Return for how long this connection may do nothing."""
        limits, _ = settings_of(self.config)
        address = self.writer.get_extra_info("sockname")
        if self._spared or not limits.concern(address or None):
            return None
        return (limits.keep_alive if self._served and not self._late else limits.request) or None

    async def _idle_timeout(self) -> None:
        limit = self._limit()
        try:
            await asyncio.wait_for(self.context.terminated.wait(), limit and max(limit - LATER_SECONDS, 0.0))
        except TimeoutError:
            settings_of(self.config)[1].connection_idle()
            if isinstance(self.protocol.protocol, Http1):
                await self.protocol.protocol.timed_out()
        await asyncio.shield(self._initiate_server_close())

    async def _initiate_server_close(self) -> None:
        if isinstance(self.protocol.protocol, Http2):
            await self.protocol.protocol.say_goodbye()
        await self.protocol.handle(Closed())
        self._write_gathered()
        self.writer.close()

    async def _close(self) -> None:
        """Close, and do not wait for ever until a client that takes next to nothing has taken the rest."""
        if self._handed_over:
            return
        self._write_gathered()
        cut = self.loop.call_later(CLOSE_SECONDS, self.writer.transport.abort)
        try:
            with contextlib.suppress(OSError, RuntimeError, NotImplementedError):  # it is closed
                self.writer.write_eof()
            self.writer.close()
            await self.writer.wait_closed()
        except OSError as error:
            self._vanished(error)
        finally:
            cut.cancel()
            await self.idle_task.stop()


def kind_of(error: BaseException) -> str:
    """Return what happened to a client that vanished, in the words of the observer."""
    if isinstance(error, ConnectionError):
        return "reset"
    if isinstance(error, TimeoutError):
        return "timeout"
    return "unreachable" if isinstance(error, OSError) else "other"
