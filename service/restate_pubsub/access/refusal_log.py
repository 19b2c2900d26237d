"""Says in the log what was refused and which setting decides; each once in a while, so that nobody can fill the log."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import structlog

log = structlog.stdlib.get_logger(__name__)

QUIET_SECONDS = 60.0
"""After a line about one reason for refusals, so long without another."""
REASONS = 64
"""More reasons than there are; a bound all the same, as a part of them comes from outside."""


class RefusalLog:
    """One line for each reason, and how many were refused for it since the last."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}
        self._unsaid: dict[tuple[str, str], int] = {}

    def note(self, what: str, reason: str, setting: str, **details: object) -> None:
        """Log it, unless the same was said a short while ago."""
        key = (what, reason)
        now = self._clock()
        if key not in self._until and len(self._until) >= REASONS:
            return
        if now < self._until.get(key, now):
            self._unsaid[key] = self._unsaid.get(key, 0) + 1
            return
        self._until[key] = now + QUIET_SECONDS
        more = self._unsaid.pop(key, 0)
        log.warning(what, reason=reason, setting=setting, **details, **({"unsaid": more} if more else {}))
