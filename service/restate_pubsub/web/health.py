"""Whether this process can serve: Restate answers, has the object, and we are not on our way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.errors import PubsubError

if TYPE_CHECKING:
    from restate_pubsub.ingress import Ingress

log = structlog.stdlib.get_logger(__name__)

CHECK_SECONDS = 5.0
CHECK_SECONDS_UNREADY = 0.5


class Health:
    """Looks at Restate every few seconds and remembers what it saw."""

    def __init__(self, ingress: Ingress, on_change: Callable[[bool], None]) -> None:
        """`on_change` is told of readiness after each look."""
        self._ingress = ingress
        self._on_change = on_change
        self.draining = False
        self.reason: str | None = "Restate was not asked yet"
        self.was_reachable = False

    @property
    def not_ready(self) -> str | None:
        """Why the process is not ready; None when it is."""
        return "draining: this process is about to stop" if self.draining else self.reason

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
        """Ask Restate once."""
        before = self.reason
        name = self._ingress.name
        try:
            services = await self._ingress.services()
        except PubsubError as error:
            self.reason = str(error)
        else:
            self.was_reachable = True
            self.reason = (
                None
                if name in services
                else f"Restate does not have the object {name!r}: run `restate-pubsub register`"
            )
        self._on_change(self.not_ready is None)
        if before != self.reason:
            log.info("ready") if self.reason is None else log.warning("not ready", reason=self.reason)

    async def watch(self) -> None:
        """Ask for ever; often until ready."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_SECONDS_UNREADY if self.reason else CHECK_SECONDS)
