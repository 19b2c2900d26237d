"""Whether this process can serve: Restate calls this deployment's object, and we are not on our way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from restate_pubsub.web.round_trip import OF_INGRESS

if TYPE_CHECKING:
    from restate_pubsub.web.round_trip import Trouble

log = structlog.stdlib.get_logger(__name__)

AGAIN_FIRST, AGAIN_LAST = 0.5, 5.0
"""Seconds between two looks while something is wrong: soon at first, then less often."""


class Check(Protocol):
    """What health asks."""

    async def trouble(self) -> Trouble | None:
        """Return what is wrong, or None."""


class Health:
    """Looks every few seconds and remembers what it saw."""

    def __init__(self, check: Check, on_change: Callable[[str | None, bool], None], *, interval: float = 5.0) -> None:
        """`on_change` is told after each look: the trouble's code, and whether the process is ready."""
        self._check = check
        self._on_change = on_change
        self._interval = interval
        self._trouble: Trouble | None = None
        self._asked = False
        self._doubted = False
        self.draining = False
        self.was_reachable = False

    @property
    def not_ready(self) -> str | None:
        """Why the process is not ready; None when it is."""
        if self.draining:
            return "draining: this process is about to stop"
        if not self._asked:
            return "Restate was not asked yet"
        return None if self._trouble is None else self._trouble.reason

    @property
    def code(self) -> str | None:
        """The stable code of `not_ready`."""
        if self.draining:
            return "draining"
        if not self._asked:
            return "starting"
        return None if self._trouble is None else self._trouble.code

    @property
    def not_serving(self) -> str | None:
        """Why the process should get no new streams; None when it should.

        A stream waits for Restate and for the object, so neither's absence is a reason, once Restate has answered at
        all: before, the settings may be wrong, and a rollout should stop here.
        """
        if self.draining or not self.was_reachable:
            return self.not_ready
        return None

    async def check(self) -> None:
        """Look once. A process that is ready is so until two looks in a row say otherwise: one may just be late."""
        trouble = await self._check.trouble()
        if trouble is None or trouble.code not in OF_INGRESS:
            self.was_reachable = True
        was_ready = self._asked and self._trouble is None
        if trouble is not None and was_ready and not self._doubted:
            self._doubted = True
            return
        self._doubted = False
        changed = not self._asked or trouble != self._trouble
        self._asked, self._trouble = True, trouble
        self._on_change(None if trouble is None else trouble.code, self.not_ready is None)
        if changed:
            if trouble is None:
                log.info("ready")
            else:
                log.warning("not ready", code=trouble.code, reason=trouble.reason)

    async def watch(self) -> None:
        """Look for ever; often where something is wrong."""
        again = AGAIN_FIRST
        while True:
            before = self.code
            await self.check()
            if self.code is None and not self._doubted:
                await asyncio.sleep(self._interval)
                again = AGAIN_FIRST
                continue
            if self.code != before or self._doubted:
                again = AGAIN_FIRST
            await asyncio.sleep(again)
            again = min(again * 2, AGAIN_LAST)
