"""`restate-pubsub` whose publishes to some topics get stuck, as a fault of a handler or of the network would do it.

A topic's name says how: `hangs-…` never returns, `fails-…` raises what Restate tries again. `subscribe` is as ever.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

from restate_pubsub.commands.main import main
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.handlers import Handlers

Write = Callable[[Handlers, ExclusiveContext, bytes], Awaitable[bytes]]


def stuck(write: Write) -> Write:
    """Write, or get stuck."""

    @functools.wraps(write)  # its name is the handler's
    async def stuck(self: Handlers, ctx: ExclusiveContext, raw: bytes) -> bytes:
        if ctx.key.startswith("hangs-"):
            await asyncio.sleep(3600)
        if ctx.key.startswith("fails-"):
            msg = "a disk is full"
            raise RuntimeError(msg)
        return await write(self, ctx, raw)

    return stuck


for name in ("publish", "append"):
    setattr(Handlers, name, stuck(getattr(Handlers, name)))

if __name__ == "__main__":
    main()
