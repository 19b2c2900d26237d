"""The h2 package, where a request that breaks a rule fails alone.

h2 ends the connection for it. RFC 9113, section 8.1.1, has a stream error there, and needs to: a proxy puts many
people's requests on one connection.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, StreamReset
from h2.exceptions import (
    DenialOfServiceError,
    FrameTooLargeError,
    InvalidBodyLengthError,
    ProtocolError,
    StreamClosedError,
)
from h2.settings import SettingCodes, Settings
from hpack.exceptions import HPACKError
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PriorityFrame, RstStreamFrame, WindowUpdateFrame

if TYPE_CHECKING:
    from h2._typing import Buffer
    from hypercorn.config import Config

FRAME_HEAD_BYTES = 9
STREAMS_KEPT = 256
"""So many streams may be there before h2 looks for those that have closed."""
DECODED_HEADERS_BYTES = 1024 * 1024
"""More is an attack, and ends the connection; what is over the announced limit is answered with a 431."""


class TolerantConnection(H2Connection):
    """A server's HTTP/2 connection. What it does not survive are errors of the connection itself."""

    def __init__(self, config: Config, *, streams: int) -> None:
        """Announce `streams` at a time, the limits of `config`, and no WebSockets, which nothing here speaks."""
        super().__init__(H2Configuration(client_side=False, header_encoding=None))
        self.DEFAULT_MAX_INBOUND_FRAME_SIZE = config.h2_max_inbound_frame_size
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: config.h2_max_header_list_size,
            },
        )
        self.decoder.max_header_list_size = DECODED_HEADERS_BYTES
        self._frame_dispatch_table[PriorityFrame] = _ignore
        self._look_at = STREAMS_KEPT

    @property
    def open_inbound_streams(self) -> int:
        """Return 0: who serves the requests counts them, and refuses one too many alone.

        h2 looks at all streams whenever one begins, to count them and to forget those that have closed: N requests
        take time in proportion to N squared. To forget them it is enough to look when there are twice as many.
        """
        if len(self.streams) >= self._look_at:
            self._open_streams(remainder=1)
            self._look_at = max(STREAMS_KEPT, 2 * len(self.streams))
        return 0

    @property
    def open_outbound_streams(self) -> int:
        """Return 0: a server that pushes nothing opens none."""
        return 0

    def took(self, size: int, padding: int, stream_id: int) -> None:
        """Let the connection have more for `size` bytes that came, and their stream for those that were padding.

        So a body that its application does not read stops its own stream, and not everybody's.
        """
        frames: list[Frame] = []
        if more := self._inbound_flow_control_window_manager.process_bytes(size):
            frames.append(_window_update(0, more))
        self._prepare_for_sending(frames)
        if padding:
            self.read(padding, stream_id)

    def read(self, size: int, stream_id: int) -> None:
        """Let a stream have more for so many bytes that its application has read."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.open:
            self._prepare_for_sending(stream.acknowledge_received_data(size))

    def announce(self, *, streams: int, window: int, frame: int) -> None:
        """Allow so many streams at a time, and so many bytes under way, of a stream and of all, and in a frame."""
        with contextlib.suppress(ProtocolError):  # it is closed
            self.update_settings(
                {
                    SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                    SettingCodes.INITIAL_WINDOW_SIZE: window,
                    SettingCodes.MAX_FRAME_SIZE: frame,
                }
            )
            self.increment_flow_control_window(window)

    def bytes_of_frame(self, data: bytes, at: int) -> int:
        """Return how many bytes from `at` on belong to the frame that is under way there, or begins; at most one's."""
        waiting = self.incoming_buffer._data  # noqa: SLF001
        if 0 < len(waiting) < FRAME_HEAD_BYTES:
            return 0  # not known yet
        size = int.from_bytes(bytes(waiting[:3]) or data[at : at + 3], "big")
        return min(size, self.max_inbound_frame_size) + FRAME_HEAD_BYTES - len(waiting)

    def receive_data(self, data: Buffer) -> list[Event]:
        """Take what came. A frame that is too large is refused by its head, not when all of it is in memory."""
        events = super().receive_data(data)
        waiting = self.incoming_buffer._data  # noqa: SLF001
        size = int.from_bytes(waiting[:3], "big")
        if len(waiting) >= FRAME_HEAD_BYTES and size > self.max_inbound_frame_size:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            msg = f"A frame has {size} bytes, and {self.max_inbound_frame_size} is the most"
            raise FrameTooLargeError(msg)
        return events

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[Event]]:
        try:
            return super()._receive_headers_frame(frame)
        except ProtocolError as error:
            # A header block that cannot be decoded leaves both sides with different tables for all that follows.
            undecoded = isinstance(error, DenialOfServiceError) or isinstance(error.__cause__, HPACKError)
            if undecoded or isinstance(error, StreamClosedError) or frame.stream_id not in self.streams:
                raise
            return self._fail(frame.stream_id)

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[Event]]:
        try:
            return super()._receive_data_frame(frame)
        except InvalidBodyLengthError:
            self.took(frame.flow_controlled_length, 0, frame.stream_id)
            return self._fail(frame.stream_id)

    def _fail(self, stream_id: int) -> tuple[list[Frame], list[Event]]:
        """Reset one stream, and say so to who serves it."""
        reset = RstStreamFrame(stream_id)
        reset.error_code = ErrorCodes.PROTOCOL_ERROR
        with contextlib.suppress(ProtocolError):  # the request was complete, or the error has closed it
            self.streams[stream_id].reset_stream(ErrorCodes.PROTOCOL_ERROR)
        event = StreamReset(stream_id=stream_id, error_code=ErrorCodes.PROTOCOL_ERROR, remote_reset=False)
        return [reset], [event]


def _ignore(_frame: PriorityFrame) -> tuple[list[Frame], list[Event]]:
    return [], []


def _window_update(stream_id: int, size: int) -> WindowUpdateFrame:
    frame = WindowUpdateFrame(stream_id)
    frame.window_increment = size
    return frame
