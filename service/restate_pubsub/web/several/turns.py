"""So many at once, and nobody for ever: who takes long goes on beside the others."""

from __future__ import annotations

import asyncio


class Turns:
    """Hands out turns in the order in which they are asked for."""

    def __init__(self, count: int, seconds: float) -> None:
        """`count` turns at once; one that is not kept is over after `seconds`."""
        self._free = asyncio.Semaphore(count)
        self._seconds = seconds

    async def take(self) -> Turn:
        """Wait for a turn. It has to be given back."""
        await self._free.acquire()
        return Turn(self._free, self._seconds)


class Turn:
    """One turn."""

    __slots__ = ("_free", "_timer")

    def __init__(self, free: asyncio.Semaphore, seconds: float) -> None:
        """Begin; `Turns.take` does."""
        self._free: asyncio.Semaphore | None = free
        self._timer = asyncio.get_running_loop().call_later(seconds, self.give_back)

    def keep(self) -> None:
        """Let it last until it is given back, unless it is over already."""
        self._timer.cancel()

    def give_back(self) -> None:
        """Let the next one begin; once is enough."""
        self._timer.cancel()
        free, self._free = self._free, None
        if free is not None:
            free.release()
