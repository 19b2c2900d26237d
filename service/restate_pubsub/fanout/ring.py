"""A feed's recent messages as encoded frames, bounded in bytes. Pure bookkeeping, no I/O.

Frames lie in one list; `base` is the offset of the first. A reader holds an offset and takes everything from
there in one piece; readers at the same place share the piece.
"""

from __future__ import annotations

from collections.abc import Sequence

TAKE_MAX_BYTES = 256 * 1024
"""At most this is joined for one write: a reader far behind takes the ring in several, and others get in between."""


class Ring:
    """Frames of `[base, tail)`."""

    def __init__(self, base: int = 0) -> None:
        """Start empty at `base`."""
        self.clear(base)

    def clear(self, base: int) -> None:
        """Forget all frames and go on at `base`."""
        self.base = base
        self.size = 0
        self._frames: list[bytes] = []
        self._gone = 0  # frames dropped from the front but still in the list: deleting is amortised
        self._piece: tuple[int, int, bytes] | None = None

    @property
    def tail(self) -> int:
        """The offset after the last frame."""
        return self.base + len(self)

    def __len__(self) -> int:
        """Return how many frames there are."""
        return len(self._frames) - self._gone

    def extend(self, frames: Sequence[bytes]) -> None:
        """Add frames at the tail."""
        self._frames.extend(frames)
        self.size += sum(map(len, frames))
        self._piece = None

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
            self._piece = None

    def _drop_first(self) -> None:
        self.size -= len(self._frames[self._gone])
        self._frames[self._gone] = b""
        self._gone += 1
        self.base += 1
        if self._gone > 64 and self._gone * 2 > len(self._frames):
            del self._frames[: self._gone]
            self._gone = 0

    def take(self, offset: int) -> tuple[bytes, int]:
        """Return the frames from `offset` on, joined, and the offset after them; `base <= offset < tail`."""
        if self._piece is not None and self._piece[0] == offset:
            return self._piece[2], self._piece[1]
        start = stop = self._gone + offset - self.base
        size = 0
        while stop < len(self._frames):
            size += len(self._frames[stop])
            if size > TAKE_MAX_BYTES and stop > start:
                break
            stop += 1
        piece = b"".join(self._frames[start:stop]) if stop - start > 1 else self._frames[start]
        after = offset + stop - start
        self._piece = (offset, after, piece)
        return piece, after
