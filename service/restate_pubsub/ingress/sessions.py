"""One session of connections for each event loop, so that a client outlives `asyncio.run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import aiohttp


class Sessions:
    """The sessions of one client. Each is closed in its own loop: at the latest when that loop is shut down."""

    def __init__(self, opened: Callable[[], aiohttp.ClientSession]) -> None:
        """`opened` makes a session for the running loop; it must not hold who holds this.

        The connections of one that is forgotten close because its generators are let go of, and the garbage collector
        would take those of a circle together with the connections.
        """
        self._opened = opened
        self._kept: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None]]] = {}

    async def current(self) -> aiohttp.ClientSession:
        """Return the running loop's session."""
        loop = asyncio.get_running_loop()
        if (kept := self._kept.get(loop)) is not None and not kept[0].closed:
            return kept[0]
        for other in [other for other in self._kept if other.is_closed()]:
            del self._kept[other]
        session = self._opened()
        end = _closed_with_the_loop(session)
        self._kept[loop] = (session, end)
        await anext(end)
        return session

    async def close(self) -> None:
        """Close the running loop's session now; those of other loops close in theirs, soon if those run."""
        kept = self._kept.pop(asyncio.get_running_loop(), None)
        self._kept.clear()
        if kept is not None:
            await kept[1].aclose()


async def _closed_with_the_loop(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    """Close the session when this generator ends.

    asyncio ends a generator that nobody holds any more, and all that are left when a loop shuts down, inside that loop.
    """
    try:
        yield
    finally:
        await session.close()
