"""The heartbeats of all streams that need no task: one timer, and a stream's turn comes every so many seconds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

TICKS = 60
"""The timer looks so many times in the time between two heartbeats of a stream."""
AT_ONCE = 64
"""Streams that came together beat together; between so many of them the loop does something else."""


class Beating(Protocol):
    """A stream that sends heartbeats."""

    def beat(self) -> None:
        """Send one."""


class Beats:
    """The streams, in the order of their next heartbeats."""

    def __init__(self, seconds: float) -> None:
        """Each stream beats every so many seconds, the first time after so many."""
        self._seconds = seconds
        self._due: OrderedDict[Beating, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def add(self, stream: Beating) -> None:
        """Begin with a stream."""
        loop = asyncio.get_running_loop()
        self._due[stream] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def remove(self, stream: Beating) -> None:
        """Forget a stream."""
        self._due.pop(stream, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for _ in range(AT_ONCE):
            stream, due = next(iter(self._due.items()), (None, 0.0))
            if stream is None or due > now:
                break
            # The time counts from when it was due, so that a busy loop does not make heartbeats rarer.
            self._due[stream] = max(due, now - self._seconds) + self._seconds
            self._due.move_to_end(stream)
            stream.beat()
        if self._due:
            first = next(iter(self._due.values()))
            if first <= now:
                self._timer = loop.call_soon(self._look)
            else:
                self._timer = loop.call_at(max(first, now + self._seconds / TICKS), self._look)
