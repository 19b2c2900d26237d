"""Where topics are, for those who have to know before they read: who asks at the same time shares the answer.

A question that is under way may have been answered already, from before what the next one knows of: what it has just
written itself. So who comes then waits for that one, and shares the question after it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restate_pubsub.fanout.source import Position, Source


class Positions:
    """Questions to the log that are under way, one a topic."""

    def __init__(self, source: Source) -> None:
        """Nobody has asked yet."""
        self._source = source
        self._asking: dict[str, asyncio.Task[Position]] = {}

    async def ask(self, topic: str) -> Position:
        """Return the topic's bounds and its last answer.

        Raises:
            PubsubError: what the source raises.

        """
        if (earlier := self._asking.get(topic)) is not None:
            await asyncio.wait({earlier})
        task = self._asking.get(topic)
        if task is None:
            task = self._asking[topic] = asyncio.create_task(self._source.position(topic), name=f"position {topic}")
            task.add_done_callback(lambda done: self._answered(topic, done))
        return await asyncio.shield(task)

    def _answered(self, topic: str, task: asyncio.Task[Position]) -> None:
        del self._asking[topic]
        if not task.cancelled():
            task.exception()  # those who asked may all be gone

    async def close(self) -> None:
        """Ask no more."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
