"""Tells writers whose model is silent that their stream was stopped: one reader of a topic for all of them.

A writer that writes learns of a stop from its next call, and needs nobody to tell it. So a topic is read only where
somebody waits and no call of that stream was answered of late, from where its last answer proves that there was none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec

from restate_pubsub.errors import OffsetGone, PubsubError, StreamStopped
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.names import STOP_EVENT

log = logging.getLogger(__name__)

PACE_SECONDS = 0.5
"""A topic in which much is written is read so often. Nobody who presses stop sees this delay; a token would."""

Batches = Callable[[str, int], AsyncIterator[Batch]]
"""Reads a topic from an offset on: `PubsubClient.batches`, joined."""


class Watched(Protocol):
    """A stream that may be stopped."""

    @property
    def stream_id(self) -> str:
        """Its name."""

    @property
    def unstopped_until(self) -> int:
        """No stop of it lies before this offset."""

    @property
    def heard_at(self) -> float:
        """When its last call was answered, by the loop's clock."""


Waiting = dict[Watched, "asyncio.Future[StreamStopped | None]"]


class StopWatch:
    """The topics of one client in which somebody waits for a stop."""

    def __init__(self, batches: Batches) -> None:
        """Read nothing yet."""
        self._batches = batches
        self._topics: dict[tuple[asyncio.AbstractEventLoop, str], _Topic] = {}

    def wait_for(self, topic: str, stream: Watched) -> asyncio.Future[StreamStopped | None]:
        """Return what is done when the stream has been stopped, or when nobody watches it any more (None)."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._topics if key[0].is_closed()]:
            del self._topics[key]
        watched = self._topics.get((loop, topic))
        if watched is None:
            watched = self._topics[loop, topic] = _Topic(topic, self._batches)
        future: asyncio.Future[StreamStopped | None] = loop.create_future()
        watched.add(stream, future)
        future.add_done_callback(lambda _: self._leave(loop, topic, watched, stream, future))
        return future

    def _leave(
        self,
        loop: asyncio.AbstractEventLoop,
        topic: str,
        watched: _Topic,
        stream: Watched,
        future: asyncio.Future[StreamStopped | None],
    ) -> None:
        if not watched.leave(stream, future) and self._topics.get((loop, topic)) is watched:
            del self._topics[loop, topic]

    async def close(self) -> None:
        """Tell all who wait in this loop that nobody watches any more."""
        loop = asyncio.get_running_loop()
        here = [watched for (its, _), watched in self._topics.items() if its is loop]
        for watched in here:
            watched.end()
        await asyncio.gather(*(watched.task for watched in here), return_exceptions=True)


class _Topic:
    """One topic, read for as long as somebody waits."""

    def __init__(self, topic: str, batches: Batches) -> None:
        self._topic = topic
        self._batches = batches
        self._waiting: Waiting = {}
        self._at = 0
        self.task = asyncio.create_task(self._read(), name=f"stops of {topic}")

    def add(self, stream: Watched, future: asyncio.Future[StreamStopped | None]) -> None:
        """Let a stream wait; whoever comes from an earlier place makes the reader begin again there."""
        self._waiting[stream] = future
        if stream.unstopped_until < self._at or self.task.done():
            self._at = 0
            self.task.cancel()
            self.task = asyncio.create_task(self._read(), name=f"stops of {self._topic}")

    def leave(self, stream: Watched, future: asyncio.Future[StreamStopped | None]) -> bool:
        """Take out a stream, unless it waits anew already; return whether anybody waits."""
        if self._waiting.get(stream) is future:
            del self._waiting[stream]
        if not self._waiting:
            self.task.cancel()
        return bool(self._waiting)

    def end(self) -> None:
        """Let nobody wait any longer."""
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_result(None)
        self.task.cancel()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            silent = min((PACE_SECONDS - (loop.time() - stream.heard_at) for stream in self._waiting), default=0.0)
            if silent > 0:  # each of them hears of a stop by itself
                await asyncio.sleep(silent)
                continue
            self._at = max(self._at, min((stream.unstopped_until for stream in self._waiting), default=0))
            try:
                batch = await self._more()
            except OffsetGone as gone:
                self._at = gone.head
                continue
            except PubsubError as error:
                log.warning("stops of topic %r are not waited for any more: %s", self._topic, error.message)
                return
            if batch is None or batch.closed:
                return  # nothing is written any more, and every writer is told so
            for at, message in batch.placed():
                if message.event == STOP_EVENT:
                    self._stopped(at, message.data)
            self._at = batch.next_offset
            await asyncio.sleep(PACE_SECONDS)

    async def _more(self) -> Batch | None:
        """Wait for messages; None at the topic's end."""
        batches = self._batches(self._topic, self._at)
        try:
            async for batch in batches:
                if batch.messages or batch.closed:
                    return batch
        finally:
            with contextlib.suppress(AttributeError):
                await batches.aclose()  # type: ignore[attr-defined]
        return None

    def _stopped(self, at: int, data: bytes) -> None:
        try:
            said = msgspec.json.decode(data, type=_Stop)
        except msgspec.DecodeError:
            return  # somebody's own event, from before the name was reserved
        for stream, future in list(self._waiting.items()):
            if said.id in (None, stream.stream_id) and at >= stream.unstopped_until and not future.done():
                future.set_result(StreamStopped.at(stream.stream_id, at, said.reason))


class _Stop(msgspec.Struct):
    id: str | None = None
    reason: str | None = None
