"""The log behind the hub: Restate, over its ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from restate_pubsub.errors import Unavailable
from restate_pubsub.fanout.source import Position
from restate_pubsub.protocol import calls, messages
from restate_pubsub.protocol.answers import Answer

if TYPE_CHECKING:
    from restate_pubsub.ingress import Ingress

ANSWER_SECONDS = 10.0


class RestateSource:
    """A `Source` whose pulls name this replica: they are woken with the newest batch alone."""

    def __init__(self, ingress: Ingress, subscriber: str) -> None:
        """`subscriber` is what pulls name: this replica, and where it is reached (`protocol.peers.Subscriber`)."""
        self._ingress = ingress
        self._subscriber = subscriber

    async def position(self, topic: str) -> Position:
        """Return the topic's bounds now."""
        info = _decode(await self._ingress.call(topic, "info", seconds=ANSWER_SECONDS))
        said = info.answer
        last = Answer() if said is None else Answer(said.start, said.end or 0, said.chunks)
        return Position(info.head, info.tail, info.closed, last, info.bytes if info.whole else None)

    async def open(self, topic: str, opening: str, *, wait: float) -> messages.Batch:
        """Pull from the tail, as an opening: `hub.opened` is told where that is, or the answer says so."""
        return await self._ingress.pull(topic, None, wait=wait, subscriber=self._subscriber, opening=opening)

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> messages.Batch:
        """Return messages from `offset` on, or wait up to `wait` seconds for news."""
        return await self._ingress.pull(topic, offset, limit=limit, wait=wait, subscriber=self._subscriber, join=join)

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> messages.Batch:
        """Return messages out of the topic's whole state, or hand them to `Hub.read`.

        Restate does not know the handler before the object is registered anew: then this fails.
        """
        return await self._ingress.history(
            topic, offset, limit=limit, subscriber=self._subscriber, join=join, reading=reading
        )

    async def release(self, topic: str) -> None:
        """Take out what this replica has waiting: its suspended pull ends at once.

        It is sent and not waited for, since it queues behind the topic's writes.
        """
        nobody = calls.Subscription(0, "", self._subscriber, cancel=True)
        await self._ingress.send(topic, "subscribe", msgspec.json.encode(nobody), seconds=ANSWER_SECONDS)


class _Answer(msgspec.Struct):
    start: int
    end: int | None
    chunks: int


class _Info(msgspec.Struct):
    head: int
    tail: int
    closed: bool
    bytes: int = 0
    answer: _Answer | None = None
    whole: bool = False


def _decode(answer: bytes) -> _Info:
    try:
        return msgspec.json.decode(answer, type=_Info)
    except msgspec.DecodeError as error:
        msg = f"The object's info is not what this version reads: {error}; register it again"
        raise Unavailable(msg) from None
