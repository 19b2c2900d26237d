"""What one HTTP/2 stream has still to send."""

from __future__ import annotations

from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer


class BoundedBuffer(StreamBuffer):
    """The buffer of an HTTP/2 stream, where who fills it waits for who empties it.

    hypercorn lets the former go on when little was *taken*, so that a client which opens no window is sent whatever
    there is, into memory. What counts is how much is left.
    """

    @property
    def broken_off(self) -> bool:
        """Whether the answer has not come to its end."""
        return not self._complete

    async def pop(self, max_length: int) -> bytes:
        """Take at most so many bytes."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data
