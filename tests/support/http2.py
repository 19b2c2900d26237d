"""An HTTP/2 client for tests that may break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

import h2.config
import h2.connection
import h2.events
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hyperframe.frame import Frame

Headers = Sequence[tuple[bytes, bytes]]


class Http2Client:
    """One connection; what has come is kept by stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak on an open connection."""
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.reader = reader
        self.writer = writer
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.closed = False
        self.error: ProtocolError | None = None
        self.events: list[h2.events.Event] = []
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, port: int, *, window: int | None = None) -> AsyncIterator[Self]:
        """Open a connection; `window` is what each stream may bring before it is taken."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.h2.initiate_connection()
        if window is not None:
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        client.flush()
        try:
            yield client
        finally:
            client._reading.cancel()
            client.writer.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()

    def flush(self) -> None:
        """Send what there is to send."""
        self.writer.write(self.h2.data_to_send())

    def raw(self, *frames: Frame | bytes) -> None:
        """Send frames as they are."""
        self.flush()
        for frame in frames:
            self.writer.write(frame if isinstance(frame, bytes) else frame.serialize())

    def open(
        self, path: bytes = b"/", method: bytes = b"GET", more: Headers = (), *, end: bool = True, flush: bool = True
    ) -> int:
        """Send a request's head; return the stream."""
        head = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"test"), *more]
        return self.send(head, end=end, flush=flush)

    def send(self, head: Headers, *, end: bool = True, flush: bool = True) -> int:
        """Send any headers as a request's head; return the stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head, end_stream=end)
        if flush:
            self.flush()
        return stream

    async def until(self, condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
        """Wait until something has come."""
        async with asyncio.timeout(seconds):
            while not condition():
                assert not self.closed, f"the connection was closed before {what}: {self.error!r} {self.events[-3:]}"
                self._changed.clear()
                await self._changed.wait()

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Return status and body of a stream that ends."""
        await self.until(lambda: stream in self.ended or stream in self.resets, f"the end of stream {stream}")
        assert stream in self.ended, f"stream {stream} was reset: {self.resets[stream]}"
        return int(self.heads[stream][b":status"]), self.bodies[stream]

    async def begun(self, stream: int, text: bytes = b"") -> None:
        """Wait until a stream has brought `text`."""
        await self.until(lambda: stream in self.heads and text in self.bodies[stream], f"{text!r} on {stream}")

    async def end(self) -> None:
        """Wait until the other side closes the connection."""
        async with asyncio.timeout(10):
            while not self.closed:
                self._changed.clear()
                await self._changed.wait()

    def vanish(self) -> None:
        """Be gone, as a process that is killed: with a reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
                self._changed.set()
        except OSError:
            pass
        except ProtocolError as error:
            self.error = error
        finally:
            self.closed = True
            self._changed.set()

    def _take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        match event:
            case h2.events.ResponseReceived():
                self.heads[event.stream_id] = {bytes(name): bytes(value) for name, value in event.headers}
            case h2.events.DataReceived():
                self.bodies[event.stream_id] += event.data or b""
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            case h2.events.StreamEnded():
                self.ended.add(event.stream_id)
            case h2.events.StreamReset():
                self.resets[event.stream_id] = int(event.error_code)
            case _:
                pass
