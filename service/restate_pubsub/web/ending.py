"""When the process stops: how long a body that is under way may still go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Ending:
    """A time that is set once, for the blocks that run then and for those that begin later."""

    def __init__(self) -> None:
        """There is no end yet."""
        self._at: float | None = None
        self._limits: set[asyncio.Timeout] = set()

    @property
    def over(self) -> bool:
        """Whether the time has come."""
        return self._at is not None and asyncio.get_running_loop().time() >= self._at

    def after(self, seconds: float) -> None:
        """Set the time."""
        self._at = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            self._shorten(limit)

    @contextlib.contextmanager
    def ends(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Let the time end what `limit` is for."""
        self._shorten(limit)
        self._limits.add(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)

    def _shorten(self, limit: asyncio.Timeout) -> None:
        when = limit.when()
        if self._at is not None and not limit.expired() and (when is None or self._at < when):
            limit.reschedule(self._at)
