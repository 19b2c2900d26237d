"""How far Restate's clock is ahead of this machine's, as the dates of its answers tell.

Restate takes the end of a wait as a time of day, by the clock of whoever asks, and compares it with its own. Where the
two differ, a wait would end at once, or much too late.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

TOLERATED = 2.0
"""Seconds. A date has whole seconds, and may be a second old: what is less is not corrected."""
DATE_SPAN = 2.0
"""An answer's date was true within so many seconds before it was sent."""


class ClockOffset:
    """An interval for the difference of two clocks, which each answer narrows down."""

    def __init__(self) -> None:
        """Nothing is known yet: the clocks are taken to agree."""
        self._least, self._most = float("-inf"), float("inf")

    def observe(self, date: str | None, sent: float, received: float) -> None:
        """Take in the `Date` of an answer to a request that was sent and answered at these times, here."""
        try:
            there = parsedate_to_datetime(date or "").astimezone(UTC)
        except (TypeError, ValueError):
            return
        at = (there - datetime.fromtimestamp(0, UTC)).total_seconds()
        least, most = at - received, at + DATE_SPAN - sent
        if least > self._most or most < self._least:  # a clock was set
            self._least, self._most = least, most
        else:
            self._least, self._most = max(self._least, least), min(self._most, most)

    def offset(self) -> float:
        """Return how many seconds Restate is ahead, less than nothing if behind; 0 where they agree well enough."""
        if self._least > self._most or self._most == float("inf"):
            return 0.0
        middle = (self._least + self._most) / 2
        return middle if abs(middle) > TOLERATED else 0.0
