"""The log behind the hub: Restate, over its ingress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from restate_pubsub.errors import OffsetGone, PubsubError, Unavailable
from restate_pubsub.fanout.source import Position
from restate_pubsub.protocol import calls, messages
from restate_pubsub.protocol.answers import Answer

if TYPE_CHECKING:
    from restate_pubsub.ingress import Ingress

ANSWER_SECONDS = 10.0
WHOLE_FROM = 1024
"""A read of fewer messages is not worth the question whether the topic may be read as a whole."""
WHOLE_SHARE = 4
"""Nor is one of less than this part of the topic: all of it would be sent for one part in so many."""


class RestateSource:
    """A `Source` whose pulls name this replica: they are woken with the newest batch alone."""

    def __init__(self, ingress: Ingress, subscriber: str) -> None:
        """`subscriber` is what pulls name: this replica, and where it is reached (`protocol.peers.Subscriber`)."""
        self._ingress = ingress
        self._subscriber = subscriber

    async def position(self, topic: str) -> Position:
        """Return the topic's bounds now."""
        info = await self._info(topic)
        said = info.answer
        last = Answer() if said is None else Answer(said.start, said.end or 0, said.chunks)
        return Position(info.head, info.tail, info.closed, last)

    async def open(self, topic: str, opening: str, *, wait: float) -> messages.Batch:
        """Pull from the tail, as an opening: `hub.opened` is told where that is, or the answer says so."""
        return await self._ingress.pull(topic, None, wait=wait, subscriber=self._subscriber, opening=opening)

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> messages.Batch:
        """Return messages from `offset` on, or wait up to `wait` seconds for news."""
        if join and not wait and limit is not None and limit >= WHOLE_FROM:
            info = await self._info(topic)
            if info.whole and limit * WHOLE_SHARE >= info.tail - info.head:
                try:
                    return await self._ingress.pull(
                        topic, offset, limit=limit, subscriber=self._subscriber, join=join, whole=True
                    )
                except OffsetGone:
                    raise
                except PubsubError:
                    pass  # it finds nothing, or Restate does not know it before the object is registered anew
        return await self._ingress.pull(topic, offset, limit=limit, wait=wait, subscriber=self._subscriber, join=join)

    async def release(self, topic: str) -> None:
        """Take out what this replica has waiting: its suspended pull ends at once.

        It is sent and not waited for, since it queues behind the topic's writes.
        """
        nobody = calls.Subscription(0, "", self._subscriber, cancel=True)
        await self._ingress.send(topic, "subscribe", msgspec.json.encode(nobody), seconds=ANSWER_SECONDS)

    async def _info(self, topic: str) -> _Info:
        return _decode(await self._ingress.call(topic, "info", seconds=ANSWER_SECONDS))


class _Answer(msgspec.Struct):
    start: int
    end: int | None
    chunks: int


class _Info(msgspec.Struct):
    head: int
    tail: int
    closed: bool
    answer: _Answer | None = None
    whole: bool = False


def _decode(answer: bytes) -> _Info:
    try:
        return msgspec.json.decode(answer, type=_Info)
    except msgspec.DecodeError as error:
        msg = f"The object's info is not what this version reads: {error}; register it again"
        raise Unavailable(msg) from None
