"""Answers that wait for their client on an HTTP/2 connection: for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Unread:
    """Which streams have something to send since when, and one timer for all of them.

    A client that opens no window makes the server keep what it asked for. TCP knows nothing of it, so the kernel, which
    drops a peer that takes nothing, does not notice.
    """

    def __init__(self, seconds: float, expire: Callable[[int], None]) -> None:
        """`expire` is told of a stream of which nothing was taken for so long; 0 seconds: of none."""
        self._seconds = seconds
        self._expire = expire
        self._since: dict[int, float] = {}  # the longest waiting first
        self._timer: asyncio.TimerHandle | None = None

    def waits(self, stream_id: int) -> None:
        """Note that a stream has something to send, unless it had before."""
        if not self._seconds or stream_id in self._since:
            return
        loop = asyncio.get_running_loop()
        self._since[stream_id] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def taken(self, stream_id: int) -> None:
        """Note that a client has taken something of a stream, or that it has ended."""
        self._since.pop(stream_id, None)

    def stop(self) -> None:
        """Watch no more."""
        self._seconds = 0.0
        self._since.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._since:
            stream_id, since = next(iter(self._since.items()))
            if (left := since + self._seconds - loop.time()) > 0:
                self._timer = loop.call_later(left, self._look)
                return
            del self._since[stream_id]
            self._expire(stream_id)
