"""`restate-pubsub` whose pulls that would wait do not come to Restate: a write finds nobody whom it could tell."""

from __future__ import annotations

import asyncio
from typing import Any

from restate_pubsub.commands.main import main
from restate_pubsub.fanout.restate_source import RestateSource
from restate_pubsub.protocol.messages import Batch

pull = RestateSource.pull


async def never_waiting(self: RestateSource, topic: str, offset: int, *, wait: float = 0.0, **more: Any) -> Batch:
    """Read, or get stuck."""
    if wait:
        await asyncio.Event().wait()
    return await pull(self, topic, offset, **more)


setattr(RestateSource, "pull", never_waiting)  # noqa: B010 - mypy refuses an assignment

if __name__ == "__main__":
    main()
