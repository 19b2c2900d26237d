"""The first bytes of a stream, which go out at once, and together with what there is at once."""

from __future__ import annotations

import random

from restate_pubsub.protocol.sse import opening


class Opening:
    """What comes before a stream's first piece."""

    __slots__ = ("_beat", "_first", "_places")

    def __init__(self, retry: float, *, beat: bytes, places: bool) -> None:
        """`retry` is in seconds; `beat` is a visible heartbeat or nothing, which comes at once.

        `places`: the first piece is an id that stands alone, the place where the stream begins.
        """
        self._first = opening_for(retry)
        self._beat = beat
        self._places = places

    def alone(self) -> bytes:
        """Return what goes out while there is nothing yet; nothing, if it went out before."""
        first, self._first = self._first, b""
        return first and first + self._beat

    def before(self, piece: bytes) -> bytes:
        """Return the first piece with what has to come before it. A visible heartbeat carries the place, too."""
        first, self._first = self._first, b""
        if self._places and self._beat:
            return first + piece.removesuffix(b"\n") + self._beat
        return first + (self._beat if first and not self._places else b"") + piece


def opening_for(retry: float) -> bytes:
    """Return the opening of one stream, which is to come back after `retry` seconds, or up to twice as many."""
    # Each stream has a time of its own, so that those that lose a connection together come back apart.
    return opening(int(random.uniform(1.0, 2.0) * retry * 1000))  # noqa: S311 - spreads load
