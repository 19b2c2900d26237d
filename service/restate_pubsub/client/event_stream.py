"""A topic as Server-Sent Events without the service: the frames that it would send, from one reader's own pulls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from restate_pubsub.errors import OffsetGone
from restate_pubsub.ingress.answers import Bounds
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.sse import HEARTBEAT, end_frame, message_frame, opening, place_frame, reset_frame


class TopicReader(Protocol):
    """What the stream needs of a client."""

    def batches(self, topic: str, offset: int | None = None) -> AsyncIterator[Batch]:
        """Yield what comes from `offset` on."""

    async def bounds(self, topic: str) -> Bounds:
        """Return where the topic begins and ends."""


async def event_stream(
    client: TopicReader, topic: str, offset: int | None, *, heartbeat: float, retry: float
) -> AsyncIterator[bytes]:
    """Yield the opening, then messages, resets, the end, and a heartbeat whenever `heartbeat` seconds were silent."""
    # Each stream has a time of its own, so that those that lose a connection together come back apart.
    yield opening(int(random.uniform(1.0, 2.0) * retry * 1000))  # noqa: S311 - spreads load
    frames = _frames(client, topic, offset)
    waiting = asyncio.ensure_future(anext(frames))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=heartbeat)
            if not done:
                yield HEARTBEAT
                continue
            try:
                frame = waiting.result()
            except StopAsyncIteration:
                return
            yield frame
            waiting = asyncio.ensure_future(anext(frames))
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await frames.aclose()


async def _frames(client: TopicReader, topic: str, offset: int | None) -> AsyncGenerator[bytes, None]:
    bounds = await client.bounds(topic)
    if offset is None:
        offset = bounds.tail
        yield place_frame(offset)
    elif offset > bounds.tail and not bounds.closed:
        # The topic's counter was lost: a reader that waited here would miss what comes.
        yield reset_frame(offset, bounds.head, bounds.tail, bounds.head)
        offset = bounds.head
    while True:
        try:
            async for batch in client.batches(topic, offset):
                offset = batch.next_offset
                frames = [message_frame(at, message) for at, message in enumerate(batch.messages, batch.offset)]
                if batch.closed:
                    frames.append(end_frame(offset))
                if frames:
                    yield b"".join(frames)
        except OffsetGone as gone:
            bounds = await client.bounds(topic)
            head = max(gone.head, bounds.head)
            yield reset_frame(gone.offset, head, max(bounds.tail, head), head)
            offset = head
        else:
            return
