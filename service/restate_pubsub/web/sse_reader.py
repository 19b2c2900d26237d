"""A reader's steps as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from restate_pubsub.fanout.steps import Began, Chunk, End, Reset
from restate_pubsub.protocol.sse import end_frame, place_frame, reset_frame

if TYPE_CHECKING:
    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.window import Start


class SseReader:
    """What a response streams: the bytes of one reader."""

    def __init__(self, reader: Reader) -> None:
        """The messages of `reader` are encoded as frames already, once for all who read them."""
        self._reader = reader

    @property
    def start(self) -> Start:
        """Where the reader wanted to begin."""
        return self._reader.start

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._reader.stop()

    def close(self) -> None:
        """Leave the topic."""
        self._reader.close()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what to write, one piece for each step."""
        async for step in self._reader.steps():
            yield step.data if isinstance(step, Chunk) else _frame(step)


def _frame(step: Began | Reset | End) -> bytes:
    match step:
        case Began(offset):
            return place_frame(offset)
        case Reset(requested, head, tail):
            return reset_frame(requested, head, tail, head)
        case End(next_offset):
            return end_frame(next_offset)
