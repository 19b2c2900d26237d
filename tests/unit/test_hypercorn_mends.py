"""The mends of the server, each against what goes wrong without it."""

from __future__ import annotations

import asyncio

from hypercorn.asyncio.worker_context import EventWrapper
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER

from restate_pubsub.hypercorn_mends import BoundedBuffer


async def test_what_a_client_takes_no_window_for_is_waited_for() -> None:
    """It is not read into memory; once enough of it has gone, more may come."""
    buffer = BoundedBuffer(EventWrapper)
    push = asyncio.create_task(buffer.push(b"x" * BUFFER_HIGH_WATER))
    await asyncio.sleep(0)
    for _ in range(3):
        assert b"" == await buffer.pop(0)
        await asyncio.sleep(0)
    assert not push.done()
    assert BUFFER_HIGH_WATER == len(await buffer.pop(BUFFER_HIGH_WATER))
    await asyncio.wait_for(push, 1)
