"""Says through `logging` that Restate does not answer, once it has lasted a moment, and that it does again."""

from __future__ import annotations

import asyncio
import logging

from restate_pubsub.errors import PubsubError

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.35
"""A failure that is over by then (a restart behind a balancer, a connection that was cut) is nobody's business.

With the usual waits between attempts, the fourth or fifth failure comes after this and within 0.75 s.
"""
AGAIN_SECONDS = 60.0


class Outage:
    """The failures of one loop that goes on trying."""

    def __init__(self, what: str) -> None:
        """`what` is being tried, for the log."""
        self._what = what
        self._since: float | None = None
        self._said: tuple[float, str] | None = None

    def failed(self, error: PubsubError) -> None:
        """Note a failure; say so when it is time, or when the reason is another one."""
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        if now - self._since < QUIET_SECONDS:
            return
        if self._said is None or self._said[1] != error.message or now - self._said[0] >= AGAIN_SECONDS:
            self._said = (now, error.message)
            log.warning("%s: waiting for Restate: %s", self._what, error.message)

    def over(self) -> None:
        """Note an answer."""
        if self._said is not None and self._since is not None:
            lasted = asyncio.get_running_loop().time() - self._since
            log.warning("%s: Restate answers again, after %.0f s", self._what, lasted)
        self._since = self._said = None
