"""Openings: pulls with which feeds begin, and which say where their topics are. How long one is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable

FIRST_SECONDS = 1.0
"""An opening that has not said where the topic is after this runs in a replica of the version before, which does not
know openings: the question is asked by itself …"""
EACH_SECONDS = 0.05
"""… unless many have begun at once. Then it is only late, by this for each, and the question would be later still."""
MOST_SECONDS = 10.0
AT_ONCE = 64
"""So many of one process begin at a time. A thousand at once only waited for one another: each held a connection and
buffers for longer (87 KB of memory a topic instead of 42), and Restate gave up waiting for the first word of a pull,
suspended it and ran it again (`SUSPEND_AFTER`)."""
PLACE_SECONDS = 0.3
"""One that is not answered by then gives its place to the next. If none was answered since it began, it is not that
there are many, and all go on: who waits for a topic that Restate answers for does not wait for those that hang."""


class Opening:
    """One of them: `word` tells it from others, `asked_at` is the window's tail when it began."""

    __slots__ = ("_began", "_give_up", "_has_place", "_openings", "_timer", "asked_at", "word")

    def __init__(self, openings: Openings, asked_at: int, give_up: Callable[[], None]) -> None:
        """Begin; `give_up` is called when it has not been answered for long."""
        self.word = secrets.token_hex(8)
        self.asked_at = asked_at
        self._openings = openings
        self._has_place = True
        self._give_up = give_up
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None
        openings.under_way += 1
        self._watch(PLACE_SECONDS)

    @property
    def answered(self) -> bool:
        """Whether it has said where the topic is, or was given up."""
        return self._timer is None

    def end(self, *, answered: bool = True) -> None:
        """Wait for it no more: it is answered, or has failed, or nobody wants it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._openings.under_way -= 1
            if answered:
                self._openings.answered_at = asyncio.get_running_loop().time()
            self._leave_place()

    def _watch(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _leave_place(self, *, stalled: bool = False) -> None:
        if self._has_place:
            self._has_place = False
            self._openings.leave(stalled=stalled)

    def _look(self) -> None:
        self._leave_place(stalled=self._openings.answered_at < self._began)
        left = self._began + self._openings.patience - asyncio.get_running_loop().time()
        if left > 0:
            self._watch(left)
        else:
            self.end(answered=False)
            self._give_up()


class Openings:
    """How many of one process have not been answered yet, and who waits for a place among them."""

    def __init__(self) -> None:
        """None has begun."""
        self.under_way = 0
        self.free = AT_ONCE
        """How many more may begin; less than none while those go on that waited too long."""
        self.answered_at = 0.0
        """When the last one was answered, by the loop's clock."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def begin(self, asked_at: Callable[[], int], give_up: Callable[[], None]) -> Opening:
        """Return an opening when there is a place for it; `asked_at` is asked when it begins."""
        if self.free > 0:
            self.free -= 1
        else:
            await self._turn()
        return Opening(self, asked_at(), give_up)

    def leave(self, *, stalled: bool = False) -> None:
        """One needs its place no more; `stalled`: none is answered, so that nobody is to wait any longer."""
        self.free += 1
        while self._waiting and (stalled or self.free > 0):
            turn = self._waiting.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(None)

    @property
    def patience(self) -> float:
        """For how many seconds one is waited for."""
        return min(FIRST_SECONDS + EACH_SECONDS * self.under_way, MOST_SECONDS)

    async def _turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            else:  # it came, and nobody takes it
                self.leave()
            raise
