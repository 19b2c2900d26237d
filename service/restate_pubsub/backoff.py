"""Waits between attempts: how long, and nothing else. Pure; who waits sleeps by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

FRUITLESS_FIRST, FRUITLESS_LONGEST = 0.05, 1.0
LONG_POLL = 1.0
"""Seconds after which a poll that brought nothing may be asked again at once: that is a call a second at most."""
EARLY = 0.9
"""A poll that came back before this part of the time it was to wait came back early."""


class Backoff:
    """Waits that double from `first` to `longest` seconds, each shortened at random by up to half.

    So many who failed at the same moment do not come back at the same moment.
    """

    def __init__(self, first: float, longest: float, *, chance: Callable[[], float] = random.random) -> None:
        """`chance` returns a number from 0 up to 1."""
        self._first = self._wait = first
        self._longest = longest
        self._chance = chance

    def next(self) -> float:
        """Return the seconds to wait now; the next wait is longer."""
        wait, self._wait = self._wait, min(self._wait * 2, self._longest)
        return wait * (1.0 - self._chance() / 2)

    def reset(self) -> None:
        """Begin with the first wait again."""
        self._wait = self._first


class PollPace:
    """Keeps a long poll that comes back at once, with nothing, from being asked again at once.

    That happens where two clocks differ, where a proxy answers by itself, or where others crowd the poll out.
    """

    def __init__(self, *, chance: Callable[[], float] = random.random) -> None:
        """`chance` is as for `Backoff`."""
        self._backoff = Backoff(FRUITLESS_FIRST, FRUITLESS_LONGEST, chance=chance)

    def after(self, took: float, asked: float, *, moved: bool) -> float:
        """Return the seconds to wait after a poll that was to wait `asked` seconds and came back after `took`.

        `moved`: it brought something that moves its reader on.
        """
        if moved or took >= min(LONG_POLL, EARLY * asked):
            self._backoff.reset()
            return 0.0
        return self._backoff.next()
