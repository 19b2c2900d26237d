"""Consecutive messages as encoded frames, bounded in bytes. Pure bookkeeping, no I/O.

Frames lie in one list; `base` is the offset of the first. A reader holds an offset and takes what follows in one
chunk; readers at the same offset share the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

from restate_pubsub.fanout.steps import Chunk

TAKE_MAX_BYTES = 128 * 1024
"""At most this is joined for one write: a reader far behind takes the ring in several, and others get in between.
It is also what a reader that takes nothing holds."""


class Ring:
    """Frames of `[base, tail)`."""

    def __init__(self, base: int = 0) -> None:
        """Start empty at `base`."""
        self.clear(base)

    def clear(self, base: int) -> None:
        """Forget all frames and go on at `base`."""
        self.base = self.tail = base
        """The offsets of the first frame, and after the last one."""
        self.size = 0
        self._frames: list[bytes] = []
        self._gone = 0  # frames dropped from the front but still in the list: deleting is amortised
        self._chunk: Chunk | None = None

    def __len__(self) -> int:
        """Return how many frames there are."""
        return self.tail - self.base

    def __contains__(self, offset: int) -> bool:
        """Whether the frame at `offset` is here."""
        return self.base <= offset < self.tail

    def extend(self, frames: Sequence[bytes]) -> None:
        """Add frames at the tail."""
        self._frames.extend(frames)
        self.tail += len(frames)
        self.size += sum(map(len, frames))
        self._chunk = None

    def drop_below(self, head: int) -> None:
        """Forget the frames below `head`."""
        if head >= self.tail:
            self.clear(head)
            return
        while self.base < head:
            self._drop_first()

    def shrink(self, max_bytes: int) -> None:
        """Forget the oldest frames until at most `max_bytes` are left."""
        while self.size > max_bytes and len(self):
            self._drop_first()
            self._chunk = None

    def _drop_first(self) -> None:
        self.size -= len(self._frames[self._gone])
        self._frames[self._gone] = b""
        self._gone += 1
        self.base += 1
        if self._gone > 64 and self._gone * 2 > len(self._frames):
            del self._frames[: self._gone]
            self._gone = 0

    def take(self, offset: int) -> Chunk:
        """Return the frames from `offset` on, joined; `base <= offset < tail`."""
        if self._chunk is not None and self._chunk.offset == offset:
            return self._chunk
        start = stop = self._gone + offset - self.base
        size = 0
        while stop < len(self._frames):
            size += len(self._frames[stop])
            if size > TAKE_MAX_BYTES and stop > start:
                break
            stop += 1
        data = b"".join(self._frames[start:stop]) if stop - start > 1 else self._frames[start]
        self._chunk = Chunk(offset, data, offset + stop - start)
        return self._chunk
