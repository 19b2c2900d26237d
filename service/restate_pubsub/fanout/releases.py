"""Tells the log in the background for which topics nobody waits here any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from restate_pubsub.fanout.source import Source

log = structlog.stdlib.get_logger(__name__)

AT_ONCE = 32


class Releases:
    """Calls that are under way. One that fails costs a suspended pull until that times out, and nothing else."""

    def __init__(self, source: Source) -> None:
        """Start without calls."""
        self._source = source
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def release(self, topic: str) -> None:
        """Tell the log about one topic, soon."""
        task = asyncio.create_task(self._release(topic), name=f"release {topic}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, seconds: float) -> None:
        """Wait up to so long for the calls that are under way, and end the others."""
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            if late:
                log.debug("topics were not released in time; their pulls time out", topics=len(late))

    async def _release(self, topic: str) -> None:
        async with self._turns:
            try:
                await self._source.release(topic)
            except Exception as error:  # noqa: BLE001 - the log's own timeout cleans up later
                log.debug("topic was not released; its pull times out", topic=topic, error=str(error))
