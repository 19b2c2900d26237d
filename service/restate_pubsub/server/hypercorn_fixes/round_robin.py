"""Whose turn it is to send on an HTTP/2 connection: each stream that has something, one after the other."""

from __future__ import annotations

from priority.priority import DeadlockError


class RoundRobin:
    """Stands in for the `priority` package's tree, which takes 1,000 streams and ends the connection at the next.

    Priorities of RFC 7540 are deprecated by RFC 9113, and no browser or proxy of today needs them; so PRIORITY frames
    change nothing. Every operation takes constant time.
    """

    def __init__(self) -> None:
        """Nobody has anything to send."""
        self._ready: dict[int, None] = {}

    def insert_stream(self, stream_id: int) -> None:
        """Take a new stream; it has nothing to send yet."""

    def block(self, stream_id: int) -> None:
        """Leave a stream out until it is unblocked."""
        self._ready.pop(stream_id, None)

    def unblock(self, stream_id: int) -> None:
        """Let a stream have its turn."""
        self._ready.setdefault(stream_id)

    def remove_stream(self, stream_id: int) -> None:
        """Forget a stream."""
        self._ready.pop(stream_id, None)

    def __next__(self) -> int:
        """Return the stream whose turn it is.

        Raises:
            DeadlockError: nobody has anything to send.

        """
        try:
            stream_id = next(iter(self._ready))
        except StopIteration:
            raise DeadlockError from None
        del self._ready[stream_id]
        self._ready[stream_id] = None
        return stream_id
