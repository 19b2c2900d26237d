"""What was read again, as encoded frames, each of one message or of several that were joined. Pure bookkeeping."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from restate_pubsub.fanout.ring import TAKE_MAX_BYTES
from restate_pubsub.fanout.steps import Chunk


class Frames:
    """Frames of `[base, tail)`; `starts` are the offsets at which they begin."""

    def __init__(self, starts: Sequence[int], frames: Sequence[bytes], base: int, tail: int) -> None:
        """Keep them; they do not change any more."""
        self.base, self.tail = base, tail
        self.size = sum(map(len, frames))
        self._starts = starts
        self._frames = frames
        self._chunk: Chunk | None = None

    def __len__(self) -> int:
        """Return how many offsets they cover."""
        return self.tail - self.base

    def __contains__(self, offset: int) -> bool:
        """Whether a frame begins at `offset`."""
        return self.base <= offset < self.tail and self._starts[self._index(offset)] == offset

    def end_of(self, offset: int) -> int | None:
        """Return where the frame ends that covers `offset`; None where none does."""
        return self._start_of(self._index(offset) + 1) if self.base <= offset < self.tail else None

    def _index(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def _start_of(self, index: int) -> int:
        return self._starts[index] if index < len(self._starts) else self.tail

    def take(self, offset: int) -> Chunk:
        """Return the frames from `offset` on, in one piece; `offset in self`."""
        if self._chunk is not None and self._chunk.offset == offset:
            return self._chunk
        start = stop = self._index(offset)
        size = 0
        while stop < len(self._frames):
            size += len(self._frames[stop])
            if size > TAKE_MAX_BYTES and stop > start:
                break
            stop += 1
        self._chunk = Chunk(offset, b"".join(self._frames[start:stop]), self._start_of(stop))
        return self._chunk
