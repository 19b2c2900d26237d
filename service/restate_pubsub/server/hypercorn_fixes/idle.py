"""The watch over a connection on which nothing happens; it begins a moment after it was asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypercorn.asyncio.worker_context import AsyncioSingleTask

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LATER_SECONDS = 0.1
"""Most requests come right behind their connection, and most answers are followed by nothing but its end: for these the
watch is a timer that is called off, and no task that has to be cancelled."""


class IdleWatch(AsyncioSingleTask):
    """One task at a time, in the connection's group. What was asked for last counts, and nothing after the end."""

    def __init__(self) -> None:
        """Nothing is watched yet."""
        super().__init__()
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._ended = False

    async def restart(self, task_group: Any, action: Callable[..., Coroutine[Any, Any, None]]) -> None:
        """Run `action` from a moment later on, instead of what runs now."""
        if await self._stopped() and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(LATER_SECONDS, self._begin, task_group, action)

    async def stop(self) -> None:
        """Stop, and wait until it has."""
        await self._stopped()

    def end(self) -> None:
        """Begin nothing more: the connection's group is about to end."""
        self._ended = True
        self._call_off()

    async def _stopped(self) -> bool:
        """Stop; return whether nothing else was asked for meanwhile."""
        self._asked += 1
        asked = self._asked
        self._call_off()
        task, self._handle = self._handle, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        return asked == self._asked

    def _call_off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, task_group: Any, action: Callable[..., Coroutine[Any, Any, None]]) -> None:
        self._timer = None
        self._handle = task_group._task_group.create_task(action())  # noqa: SLF001 - as hypercorn's own does
