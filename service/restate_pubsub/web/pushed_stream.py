"""One stream on a wire of its own: it has no task while nothing happens, and writes as soon as it is woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.fanout.window import Missing

if TYPE_CHECKING:
    from restate_pubsub.web.beats import Beats
    from restate_pubsub.web.opening import Opening
    from restate_pubsub.web.several.several_reader import SeveralReader
    from restate_pubsub.web.sse_reader import SseReader
    from restate_pubsub.web.wire import Wire

log = structlog.stdlib.get_logger(__name__)


class PushedStream:
    """The `Taker` of a wire.

    What the reader has goes straight into the wire until that is full. Only what has to be waited for takes a task:
    where the stream begins, if only the log can tell, and messages that are older than those in memory.
    """

    __slots__ = ("_beat", "_beats", "_ends", "_lasts", "_on_slow", "_opening", "_reader", "_room", "_task", "_wire")

    def __init__(
        self,
        reader: SseReader | SeveralReader,
        opening: Opening,
        *,
        beat: bytes,
        beats: Beats,
        lasts: float | None,
        on_slow: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        """`beat` is a heartbeat's bytes. The stream ends after `lasts` seconds, if given; then comes `on_end`."""
        self._reader = reader
        self._opening: Opening | None = opening
        self._beat = beat
        self._beats = beats
        self._on_slow = on_slow
        self._ends: Callable[[], None] = on_end
        self._wire: Wire | None = None
        self._room: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._lasts: float | asyncio.TimerHandle | None = lasts

    def taken(self, wire: Wire) -> None:
        """Send the opening, in one write with what the reader has without waiting."""
        self._wire = wire
        if isinstance(self._lasts, float):
            self._lasts = asyncio.get_running_loop().call_later(self._lasts, self._reader.stop)
        self._beats.add(self)
        try:
            if self._reader.begin(self._wake):
                self._push()
                self._open()
            else:
                self._open()
                self._follow()
        except Exception:  # it is this stream's trouble alone
            log.exception("a stream could not begin")
            wire.abort()

    def room(self) -> None:
        """Go on writing."""
        if self._room is not None:
            self._room.set()
        self._wake()

    def slow(self) -> None:
        """Count a client that took nothing for too long."""
        self._on_slow()

    def gone(self) -> None:
        """Leave nothing behind."""
        self._beats.remove(self)
        if isinstance(self._lasts, asyncio.TimerHandle):
            self._lasts.cancel()
        if self._task is not None:
            self._task.cancel()
        self._wire = None
        self._reader.close()
        self._ends()

    def beat(self) -> None:
        """Send a heartbeat, unless the client has enough to take already."""
        if self._wire is not None and not self._wire.full:
            self._wire.write(self._beat)

    # --- writing -------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._task is not None:
            if self._room is not None and self._reader.stopped:
                self._room.set()
        elif (wire := self._wire) is not None:
            try:
                self._push()
            except Exception:
                wire.abort()
                raise

    def _push(self) -> None:
        """Write what is there; whoever calls it has no task under way."""
        wire = self._wire
        while wire is not None:
            if self._reader.stopped or self._reader.ended:
                self._end()
                return
            if wire.full:
                return
            piece = self._reader.piece()
            if piece is Missing.NEWER:
                return
            if piece is Missing.OLDER:
                self._open()
                self._follow()
                return
            self._write(piece)

    def _write(self, piece: bytes) -> None:
        if self._opening is not None:
            piece, self._opening = self._opening.before(piece), None
        if self._wire is not None:
            self._wire.write(piece)

    def _open(self) -> None:
        """Send the opening, unless something has taken it along."""
        if self._opening is not None and (alone := self._opening.alone()) and self._wire is not None:
            self._wire.write(alone)

    def _end(self) -> None:
        self._open()
        wire, self._wire = self._wire, None
        self._beats.remove(self)
        self._reader.close()
        if wire is not None:
            wire.end()

    # --- waiting -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._task = asyncio.create_task(self._catch_up(), name="a stream that catches up")

    async def _catch_up(self) -> None:
        """Write what has to be waited for, until nothing more is there."""
        try:
            async for piece in self._reader.chunks(live=False):
                self._write(piece)
                await self._until_room()
        except Exception:
            log.exception("a stream failed")
            if self._wire is not None:
                self._wire.abort()
            return
        finally:
            self._task = None
        self._wake()

    async def _until_room(self) -> None:
        while self._wire is not None and self._wire.full and not self._reader.stopped:
            self._room = asyncio.Event()
            await self._room.wait()
        self._room = None
