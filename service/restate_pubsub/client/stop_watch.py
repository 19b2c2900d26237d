"""Tells writers whose model is silent that their stream was stopped: one reader of a topic for all of them.

A writer that writes learns of a stop from its next call, and needs nobody to tell it. So a topic is read only where
somebody waits and no call of that stream was answered of late, from where its last answer proves that there was none.
What the log has lost meanwhile, with a stop in it perhaps, the topic still knows: then the stream asks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Protocol

import msgspec

from restate_pubsub.errors import OffsetGone, PubsubError, StreamStopped
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.names import STOP_EVENT

log = logging.getLogger(__name__)

PACE_SECONDS = 0.5
"""A topic in which much is written is read so often. Nobody who presses stop sees this delay; a token would."""
LINGER_SECONDS = 1.0
"""A topic is read for so long after the last has left: who waits for each token anew costs no pull for each."""

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

    def unstopped(self, until: int) -> None:
        """Note that no stop of it lies before this offset."""

    def ask(self, until: int) -> None:
        """Call the topic although there is nothing to write; unless it refuses, there was no stop before `until`."""


Waiting = dict[Watched, "asyncio.Future[StreamStopped | None]"]


WaitForStop = Callable[[str, Watched], "asyncio.Future[StreamStopped | None]"]
"""Waits for a stop of a stream in a topic: `StopWatch.wait_for` of a client."""


class StopWatch:
    """The topics of one client in which somebody waits for a stop.

    It does not hold the client: what is a part of a circle is left to the garbage collector, with its connections.
    """

    def __init__(self) -> None:
        """Read nothing yet."""
        self._topics: dict[tuple[asyncio.AbstractEventLoop, str], _Topic] = {}

    def wait_for(self, batches: Batches, topic: str, stream: Watched) -> asyncio.Future[StreamStopped | None]:
        """Return what is done when the stream has been stopped, or when nobody watches it any more (None).

        `batches` reads the topic, while somebody waits.
        """
        loop = asyncio.get_running_loop()
        for key in [key for key in self._topics if key[0].is_closed()]:
            del self._topics[key]
        watched = self._topics.get((loop, topic))
        if watched is None:
            watched = self._topics[loop, topic] = _Topic(topic, batches, partial(self._left, loop, topic))
        return watched.add(stream)

    def _left(self, loop: asyncio.AbstractEventLoop, topic: str, watched: _Topic) -> None:
        if self._topics.get((loop, topic)) is watched:
            del self._topics[loop, topic]

    async def close(self) -> None:
        """Tell all who wait in this loop that nobody watches any more."""
        loop = asyncio.get_running_loop()
        here = [watched for (its, _), watched in list(self._topics.items()) if its is loop]
        for watched in here:
            watched.end()
        await asyncio.gather(*(watched.task for watched in here), return_exceptions=True)


class _Topic:
    """One topic, read for as long as somebody waits."""

    def __init__(self, topic: str, batches: Batches, left: Callable[[_Topic], None]) -> None:
        """`left` is told when nobody has waited for a while."""
        self._topic = topic
        self._batches = batches
        self._left = left
        self._leaving: asyncio.TimerHandle | None = None
        self._waiting: Waiting = {}
        self._at = 0
        self.task = self._reading()

    def add(self, stream: Watched) -> asyncio.Future[StreamStopped | None]:
        """Let a stream wait; whoever comes from an earlier place makes the reader begin again there."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        future: asyncio.Future[StreamStopped | None] = asyncio.get_running_loop().create_future()
        self._waiting[stream] = future
        if stream.unstopped_until < self._at or self.task.done():
            self._at = 0
            self.task.cancel()
            self.task = self._reading()
        future.add_done_callback(partial(self._leave, stream))
        return future

    def _leave(self, stream: Watched, future: asyncio.Future[StreamStopped | None]) -> None:
        """Take out a stream, unless it waits anew already."""
        if self._waiting.get(stream) is future:
            del self._waiting[stream]
        if not self._waiting and self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.end)

    def end(self) -> None:
        """Let nobody wait any longer."""
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_result(None)
        self.task.cancel()
        self._left(self)

    def _reading(self) -> asyncio.Task[None]:
        return asyncio.create_task(self._read(), name=f"stops of {self._topic}")

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
                self._ask(gone.head)
                self._at = gone.head
                continue
            except PubsubError as error:
                log.warning("stops of topic %r are not waited for any more: %s", self._topic, error.message)
                self._ask(self._at)
                return
            if batch is None or batch.closed:
                self._ask(self._at)  # nothing is written any more
                return
            for at, message in batch.placed():
                if message.event == STOP_EVENT:
                    self._stopped(at, message.data)
            self._at = batch.next_offset
            for stream in self._waiting:
                stream.unstopped(self._at)
            await asyncio.sleep(PACE_SECONDS)

    def _ask(self, until: int) -> None:
        """Let those ask the topic whose stop the log does not tell any more."""
        for stream, future in self._waiting.items():
            if not future.done():
                stream.ask(until)

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
