"""What watches a process for traces: this one does not, and everything stays as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

    from restate_pubsub.fanout.source import Source
    from restate_pubsub.peers.incoming import TakesNews
    from restate_pubsub.topic.steps import Readers
    from restate_pubsub.topic.tracing import Tracing


class Untraced:
    """Wraps nothing. Its subclass is the one that traces."""

    on = False
    """Whether spans are made."""

    def handlers(self) -> Tracing | None:
        """Return what the object's handlers tell of themselves."""
        return None

    def client(self) -> aiohttp.TraceConfig | None:
        """Return what watches the requests of an aiohttp session."""
        return None

    def source(self, source: Source) -> Source:
        """Return the log with its pulls watched."""
        return source

    def readers(self, readers: Readers) -> Readers:
        """Return the readers with what a write hands them watched."""
        return readers

    def taken(self, readers: TakesNews) -> TakesNews:
        """Return the readers in this process with what peers hand them watched."""
        return readers

    def writes(self, wrote: Callable[[str, int], None]) -> Callable[[str, int], None]:
        """Return a callback that also says how many messages the write that is under way has."""
        return wrote

    async def unseen(self, work: Awaitable[None]) -> None:
        """Do work whose requests nobody wants to see, such as the health check's."""
        await work

    def end(self) -> None:
        """Send what is left. It may block for as long as the exporter's timeout is."""
