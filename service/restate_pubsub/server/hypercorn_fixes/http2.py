"""HTTP/2, where whatever is wrong with one request ends that request alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from h2.errors import ErrorCodes
from h2.events import DataReceived, RemoteSettingsChanged, RequestReceived, StreamReset, WindowUpdated
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.utils import filter_pseudo_headers

from restate_pubsub.server.hypercorn_fixes.http2_frames import TolerantConnection
from restate_pubsub.server.hypercorn_fixes.limits import UNLIMITED, settings_of
from restate_pubsub.server.hypercorn_fixes.refusals import Refusal
from restate_pubsub.server.hypercorn_fixes.request_stream import Inbox, RequestStream
from restate_pubsub.server.hypercorn_fixes.round_robin import RoundRobin
from restate_pubsub.server.hypercorn_fixes.send_buffer import BoundedBuffer
from restate_pubsub.server.hypercorn_fixes.unread import Unread

if TYPE_CHECKING:
    from priority.priority import PriorityTree

PIECE_BYTES = 4096
FEW = 16
"""After so many bytes that were many frames, and after so few requests, the others on this process get their turn."""
RESTATE_WINDOW_BYTES, RESTATE_FRAME_BYTES = 1024 * 1024, 256 * 1024
"""What Restate may send of a call before it waits for us: the whole state of a topic comes along with some."""
ENTRY_OVERHEAD = 32
"""What RFC 9113, section 6.5.2, adds for each header when their size is counted."""


class Http2(H2Protocol):
    """One HTTP/2 connection.

    The task that reads it never waits for an application: a body goes into its request's inbox, which the flow control
    of its stream bounds. So whatever a request's application does, the others get their requests, their windows and
    the news that their client has gone.
    """

    connection: TolerantConnection

    def __init__(self, *args: Any) -> None:
        """Take what hypercorn gives every protocol."""
        super().__init__(*args)
        limits, _ = settings_of(self.config)
        self._limited = limits.concern(self.server)
        self._most = limits.streams if self._limited else UNLIMITED
        self.connection = TolerantConnection(self.config, streams=self._most)
        self._unread = Unread(limits.unread if self._limited else 0.0, self._reset_unread)
        self.priority = cast("PriorityTree", RoundRobin())

    async def handle(self, event: Event) -> None:
        """Take what came; a client that has gone is told to every request, and nothing is sent any more."""
        if isinstance(event, RawData):
            await self._take(event.data)
            return
        self.closed = True
        self._unread.stop()
        for stream_id in list(self.streams):
            await self._close_stream(stream_id)
        for buffer in self.stream_buffers.values():
            await buffer.close()
        await self.has_data.set()

    async def _take(self, data: bytes) -> None:
        """Take what came, in pieces: a few bytes may be thousands of requests, and others are served in between.

        One large frame is one piece: a body is mostly such frames, and each piece has its price.
        """
        at = 0
        while at < len(data):
            start, at = at, at + max(PIECE_BYTES, self.connection.bytes_of_frame(data, at))
            try:
                events = self.connection.receive_data(data[start:at])
            except ProtocolError:
                await self._flush()
                await self.send(Closed())
                return
            await self._handle_events(events)
            if len(events) > FEW:
                await asyncio.sleep(0)

    def spare(self) -> None:
        """Lift the limits: this connection is Restate's."""
        self._limited, self._most = False, UNLIMITED
        self._unread.stop()
        self.connection.announce(streams=UNLIMITED, window=RESTATE_WINDOW_BYTES, frame=RESTATE_FRAME_BYTES)

    async def say_goodbye(self) -> None:
        """Tell the client that this connection takes no more requests."""
        with contextlib.suppress(ProtocolError):
            self.connection.close_connection()
        await self._flush()

    async def _handle_events(self, events: Sequence[H2Event]) -> None:
        # A request that is taken back in the same breath is not begun.
        taken_back = {event.stream_id for event in events if isinstance(event, StreamReset)}
        windows, begun = False, 0
        for event in events:
            if isinstance(event, DataReceived):
                await self._data(event)
            elif isinstance(event, RequestReceived) and event.stream_id in taken_back:
                continue
            elif isinstance(event, RequestReceived) and not self.context.terminated.is_set():
                await self._request(event)
                begun += 1
                if begun % FEW == 0:
                    await asyncio.sleep(0)
            elif _opens_all_windows(event):
                windows = True
            else:
                taken_back_late = isinstance(event, StreamReset) and event.stream_id in self.streams
                with contextlib.suppress(ProtocolError):  # about a stream that has ended meanwhile
                    await super()._handle_events([event])
                if taken_back_late and not self.streams:  # its application's end says nothing any more
                    await self.send(Updated(idle=True))
        if windows:  # once, however often it was said: it is a walk over all streams
            await self._window_updated(None)
        await self._flush()

    async def _data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length or 0
        data = event.data or b""
        stream = self.streams.get(event.stream_id)
        if stream is None:  # answered early, or reset because the server is stopping
            self.connection.acknowledge_received_data(size, event.stream_id)
            return
        self.connection.took(size, size - len(data), event.stream_id)
        cast("RequestStream", stream).inbox.put(data)

    async def _request(self, event: RequestReceived) -> None:
        if len(self.streams) >= self._most:
            settings_of(self.config)[1].refused("too-many-requests")
            with contextlib.suppress(ProtocolError):  # the client has reset it
                self.connection.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        refusal = _refusal(event.headers, self.config.h2_max_header_list_size)
        if refusal is not None:
            settings_of(self.config)[1].refused(refusal.code)
            with contextlib.suppress(ProtocolError):  # the client has reset it
                self._refuse(event.stream_id, refusal)
            return
        await self._create_stream(event)
        await self.send(Updated(idle=False))

    def _refuse(self, stream_id: int, refusal: Refusal) -> None:
        headers = [(b":status", b"%d" % refusal.status), *refusal.headers, *self.config.response_headers("h2")]
        self.connection.send_headers(stream_id, headers)
        # It is smaller than any window but one that a client has made smaller on purpose.
        window = self.connection.local_flow_control_window(stream_id)
        self._send(stream_id, refusal.body if len(refusal.body) <= window else b"", ends=True)

    async def _create_stream(self, request: RequestReceived) -> None:
        stream_id = request.stream_id
        found = dict(request.headers)

        async def taken(size: int) -> None:
            self.connection.read(size, stream_id)
            await self._flush()

        stream = RequestStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            stream_id,
            inbox=Inbox(taken),
            announce=self.send,
        )
        self.streams[stream_id] = stream
        self.stream_buffers[stream_id] = BoundedBuffer(self.context.event_class)
        await stream.handle(
            Request(
                stream_id=stream_id,
                headers=filter_pseudo_headers(request.headers),
                http_version="2",
                method=found[b":method"].decode().upper(),
                raw_path=found[b":path"],
                state=self.connection_state,
            )
        )
        await self.context.mark_request()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a part of an answer; to a client that has gone, nothing."""
        if self.closed and not isinstance(event, StreamClosed):
            return
        if isinstance(event, Body) and event.data and event.stream_id in self.stream_buffers:
            self._unread.waits(event.stream_id)
        await super().stream_send(event)

    async def _close_stream(self, stream_id: int) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        await stream.handle(StreamClosed(stream_id=stream_id))
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None or not cast("BoundedBuffer", buffer).broken_off:
            return
        if not self.closed:
            with contextlib.suppress(ProtocolError):  # the client has reset it
                self.connection.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
        await buffer.close()
        self._unread.taken(stream_id)
        self.priority.unblock(stream_id)  # the sending task finds it empty and closed, and forgets it
        await self.has_data.set()
        await self._flush()

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            self.priority.remove_stream(stream_id)
            return
        data = b""
        try:
            window = min(self.connection.local_flow_control_window(stream_id), self.connection.max_outbound_frame_size)
            data = await buffer.pop(max(window, 0))
            if data or buffer.complete:
                self._send(stream_id, data, ends=buffer.complete)
        except ProtocolError:  # the client has reset it, or the connection is closed
            await buffer.close()
        if data or buffer.complete:
            self._unread.taken(stream_id)
            if buffer.buffer:
                self._unread.waits(stream_id)
        if buffer.complete:
            self.stream_buffers.pop(stream_id, None)
            self.priority.remove_stream(stream_id)
        elif not data:
            self.priority.block(stream_id)
        elif stream_id in self.stream_buffers:  # last in turn when a window opens for all, or the first take all of it
            self.stream_buffers[stream_id] = self.stream_buffers.pop(stream_id)
        await self._flush()

    def _reset_unread(self, stream_id: int) -> None:
        """Break off an answer that its client does not take; who makes it goes on as if it had gone."""
        self.task_group.spawn(self._break_off, stream_id)

    async def _break_off(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            return
        with contextlib.suppress(ProtocolError):
            self.connection.reset_stream(stream_id, ErrorCodes.CANCEL)
        await buffer.close()
        await self._close_stream(stream_id)
        self.priority.unblock(stream_id)  # the sending task finds it empty and closed, and forgets it
        await self.has_data.set()
        await self._flush()

    def _send(self, stream_id: int, data: bytes, *, ends: bool) -> None:
        self.connection.send_data(stream_id, data, end_stream=ends)
        if ends and self.connection.streams[stream_id].open:  # answered before the request's end, which may stop
            self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)


def _opens_all_windows(event: H2Event) -> bool:
    if isinstance(event, WindowUpdated):
        return event.stream_id == 0
    return isinstance(event, RemoteSettingsChanged) and SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings


def _refusal(headers: Sequence[tuple[bytes, bytes]], most: int) -> Refusal | None:
    """Return why a request cannot be handed to the application, if so."""
    if sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in headers) > most:
        return Refusal(431, "headers-too-large", f"The headers have more than {most} bytes, which is the most allowed")
    found = dict(headers)
    if found[b":method"].upper() == b"CONNECT":
        return Refusal(405, "method-not-allowed", "CONNECT is not possible: this is no proxy")
    for name in (b":method", b":path"):
        if not found[name].isascii():
            said = found[name][:80].decode(errors="backslashreplace")
            return Refusal(400, "invalid-request", f"{name.decode()} {said!r} is not ASCII: escape it with %")
    return None
