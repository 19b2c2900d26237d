"""A reader's steps as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from restate_pubsub.fanout.steps import Began, Chunk, End, Reset, Step
from restate_pubsub.fanout.window import Missing
from restate_pubsub.protocol.sse import end_frame, place_frame, reset_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.window import Start


class SseReader:
    """What a response streams: the bytes of one reader."""

    __slots__ = ("_reader", "ended")

    def __init__(self, reader: Reader) -> None:
        """The messages of `reader` are encoded as frames already, once for all who read them."""
        self._reader = reader
        self.ended = False
        """Whether `piece` has returned the last one."""

    @property
    def start(self) -> Start:
        """Where the reader wanted to begin."""
        return self._reader.start

    @property
    def stopped(self) -> bool:
        """Whether the reader was told to end."""
        return self._reader.stopped

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._reader.stop()

    def close(self) -> None:
        """Leave the topic."""
        self._reader.close()

    async def chunks(self, *, live: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield what to write, one piece for each step; not `live`: only until nothing more is there."""
        async for step in self._reader.steps(live=live):
            yield self._piece(step)

    # --- without a task ------------------------------------------------------------------------------------------

    def begin(self, on_wake: Callable[[], None]) -> bool:
        """Call `on_wake` from now on when there may be something; return whether it is known where to begin."""
        self._reader.on_wake = on_wake
        return self._reader.begin()

    def piece(self) -> bytes | Missing:
        """Return what to write next, if it is there; what was returned before counts as written."""
        step = self._reader.step()
        return step if isinstance(step, Missing) else self._piece(step)

    def _piece(self, step: Step) -> bytes:
        if isinstance(step, Chunk):
            return step.data
        self.ended = isinstance(step, End)
        return _frame(step)


def _frame(step: Began | Reset | End) -> bytes:
    match step:
        case Began(offset):
            return place_frame(offset)
        case Reset(requested, head, tail):
            return reset_frame(requested, head, tail, head)
        case End(next_offset):
            return end_frame(next_offset)
