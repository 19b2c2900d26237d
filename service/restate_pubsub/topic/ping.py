"""The handler `ping`: proof that Restate reaches this object. It reads and writes nothing, so it leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
from restate import ObjectSharedContext
from restate.retry_policy import InvocationRetryPolicy

AT_ONCE = InvocationRetryPolicy(initial_interval=timedelta(milliseconds=50), max_attempts=2, on_max_attempts="kill")
"""Its caller wants to know why it fails, not that it is tried again; one more try survives a closed connection."""


class Pong(msgspec.Struct):
    """Who answered: the replica, and the fingerprint of the object that it serves (`manifest_of`)."""

    replica: str
    object: str


class Ping:
    """The handler of one object."""

    def __init__(self, replica: str, fingerprint: Callable[[], str]) -> None:
        """`fingerprint` is asked later: it covers this handler, too."""
        self._replica = replica
        self._fingerprint = fingerprint

    async def ping(self, _ctx: ObjectSharedContext) -> bytes:
        """Say which replica of which object answers; for the readiness of the service, under any key."""
        return msgspec.json.encode(Pong(self._replica, self._fingerprint()))


def decode_pong(raw: bytes) -> Pong | None:
    """Return the answer, or None where another program's handler gave it."""
    try:
        return msgspec.json.decode(raw, type=Pong)
    except msgspec.DecodeError:
        return None
