"""Wakes those who wait for one topic's news, in parts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol

import structlog

log = structlog.stdlib.get_logger(__name__)

WAKE_AT_ONCE = 8
"""Sleepers that are woken together. Writing to so many takes about a tenth of a millisecond, and a call from Restate
needs some fifty turns of the loop."""


class Sleeper(Protocol):
    """Whoever waits for news."""

    def wake(self) -> None:
        """Look at what is new, now or soon."""


class Waker:
    """Those who wait.

    They are woken in parts: between two, the loop takes what came from Restate meanwhile. Where there are thousands,
    the next messages arrive while the last ones are still being written. Those who have not been woken yet then take
    both in one write; and the write that brought them is acknowledged without waiting for all of that.
    """

    def __init__(self) -> None:
        """Start without anybody."""
        self._sleepers: OrderedDict[Sleeper, None] = OrderedDict()
        self._asleep = 0
        self._waking = False

    def join(self, sleeper: Sleeper) -> None:
        """Wake `sleeper` whenever there may be something new."""
        self._sleepers[sleeper] = None

    def leave(self, sleeper: Sleeper) -> None:
        """Forget `sleeper`."""
        self._sleepers.pop(sleeper, None)

    def wake(self) -> None:
        """Wake all, the first ones in the loop's next turn, and never before this returns.

        Whoever brings news may be in the middle of telling them, and a sleeper may write to its client at once.
        """
        self._asleep = len(self._sleepers)
        if self._asleep and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _wake_some(self) -> None:
        some = min(WAKE_AT_ONCE, self._asleep, len(self._sleepers))
        self._asleep -= some
        for _ in range(some):
            if not self._sleepers:  # the last one left while the others were woken
                break
            sleeper = next(iter(self._sleepers))
            self._sleepers.move_to_end(sleeper)
            try:
                sleeper.wake()
            except Exception:  # one reader's trouble is not the others'
                log.exception("a reader could not be woken")
        self._waking = self._asleep > 0 and some > 0
        if self._waking:
            asyncio.get_running_loop().call_soon(self._wake_some)
