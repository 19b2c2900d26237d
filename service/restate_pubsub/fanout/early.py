"""News that came before those they follow: replicas hand over what they write side by side, and one may be quicker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import By
    from restate_pubsub.fanout.window import Learnt
    from restate_pubsub.protocol.messages import Batch

EARLY_SECONDS = 0.05
"""What is missing for longer than this is pulled."""
MOST_EARLY = 64


class Early:
    """Keeps such news of one topic for a moment."""

    def __init__(self, learn: Callable[[Batch, By], Learnt], pull: Callable[[], None]) -> None:
        """`learn` is tried again with what is kept; `pull` asks for what is missing."""
        self._learn = learn
        self._pull = pull
        self._kept: list[tuple[Batch, By]] = []
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, batch: Batch, by: By) -> None:
        """Keep news before which some are missing."""
        self._kept.append((batch, by))
        if len(self._kept) > MOST_EARLY:
            self._give_up()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EARLY_SECONDS, self._give_up)

    def go_on(self) -> None:
        """Try again: something has come."""
        if not self._kept:
            return
        kept, self._kept = sorted(self._kept, key=lambda one: one[0].offset), []
        self._kept = [one for one in kept if self._learn(*one).gap]
        if not self._kept:
            self.stop()

    def stop(self) -> None:
        """Forget all."""
        self._kept = []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self.stop()
        self._pull()
