"""The memory of all rings together, bounded: the topics that were least recently active give theirs up first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import Observer


class Holder(Protocol):
    """Something that keeps frames."""

    def give_up(self, size: int) -> int:
        """Forget at least `size` bytes, or all; return how many are left."""


class RingMemory:
    """Knows how much each holder keeps, in the order in which they last had news."""

    def __init__(self, max_bytes: int, observer: Observer) -> None:
        """`observer` is told how the sum changes."""
        self.total = 0
        self._max = max_bytes
        self._observer = observer
        self._sizes: dict[Holder, int] = {}

    def holds(self, holder: Holder, size: int) -> None:
        """Note that a holder had news and keeps `size` bytes now; make room if that is too much."""
        before = self.total
        self._set(holder, size)
        while self.total > self._max:
            oldest = next(iter(self._sizes))
            left = oldest.give_up(self.total - self._max)
            if left >= self._sizes[oldest]:
                break
            if left:
                self.total -= self._sizes[oldest] - left
                self._sizes[oldest] = left
            else:
                self._set(oldest, 0)
        if self.total != before:
            self._observer.ring_bytes(self.total - before)

    def forget(self, holder: Holder) -> None:
        """Note that a holder is gone."""
        before = self.total
        self._set(holder, 0)
        self._observer.ring_bytes(self.total - before)

    def _set(self, holder: Holder, size: int) -> None:
        self.total += size - self._sizes.pop(holder, 0)
        if size:
            self._sizes[holder] = size  # at the end: the most recent
