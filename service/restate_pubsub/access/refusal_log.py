"""Says in the log what was refused and which setting decides; each once in a while, so that nobody can fill the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import structlog

log = structlog.stdlib.get_logger(__name__)

QUIET_SECONDS = 60.0
"""After a line about one reason for refusals, so long without another."""
REASONS = 16
"""Of one kind in that time: a part of a reason may come from outside, and is another each time."""


class RefusalLog:
    """One line for each reason, and how many were refused for it since the last."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        """`clock` is in seconds."""
        self._clock = clock
        self._said: dict[str, dict[str, _Said]] = {}

    def note(self, what: str, reason: str, setting: str | None = None) -> None:
        """Log it, unless the same was said a short while ago. Where no setting decides, nobody has to look."""
        now = self._clock()
        reasons = self._said.setdefault(what, {})
        last = reasons.get(reason)
        if last is not None and now < last.quiet_until:
            last.unsaid += 1
            return
        if last is None and len(reasons) >= REASONS:
            reasons = self._said[what] = {each: said for each, said in reasons.items() if now < said.quiet_until}
            if len(reasons) >= REASONS:
                return
        reasons[reason] = _Said(now + QUIET_SECONDS)
        told = {"reason": reason, "setting": setting, "unsaid": last.unsaid if last else 0}
        (log.warning if setting else log.info)(what, **{name: value for name, value in told.items() if value})


@dataclass(slots=True)
class _Said:
    quiet_until: float
    unsaid: int = 0
