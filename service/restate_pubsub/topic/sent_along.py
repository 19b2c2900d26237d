"""The whole state of a topic, as Restate sends it along with a call of `history`.

The SDK hands it out key by key, and each key that is read is an entry of the journal: some 0.1 ms of CPU here, and
0.1 ms in Restate. A handler that only answers needs no journal. So the state is taken from the call itself, whose bytes
pass by here on their way to the SDK.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any

from restate_pubsub.protocol.invocations import StartReader

MAX_BYTES = 16 * 1024 * 1024
"""What is sent along is not kept where it is larger: a topic that may be read so has half of that (`WHOLE_MAX_BYTES`)
when it is asked, and may have grown since."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class SentAlong:
    """What came with the call that runs at the moment."""

    def __init__(self, name: str) -> None:
        """`name` is the object's."""
        self._path = f"/invoke/{name}/history"
        self._start: ContextVar[StartReader | None] = ContextVar("restate_pubsub_start", default=None)

    def state(self) -> Mapping[str, bytes] | None:
        """Return the topic's state as it was when the call began; None where not all of it came."""
        start = self._start.get()
        return None if start is None else start.state()

    def around(self, app: App) -> App:
        """Return an ASGI application that listens to what `app`, the SDK's endpoint, is sent."""

        async def listening(scope: Any, receive: Receive, send: Any) -> None:
            if scope["type"] != "http" or not scope["path"].endswith(self._path):
                await app(scope, receive, send)
                return
            start = StartReader(MAX_BYTES)

            async def heard() -> MutableMapping[str, Any]:
                message = await receive()
                start.take(message.get("body", b""))
                return message

            before = self._start.set(start)
            try:
                await app(scope, heard, send)
            finally:
                self._start.reset(before)

        return listening


class Snapshot:
    """State that nothing changes, read as handlers read; there is nothing to journal."""

    def __init__(self, key: str, state: Mapping[str, bytes]) -> None:
        """`key` is the topic's."""
        self.key = key
        self._state = state

    async def get(self, *keys: str) -> list[bytes | None]:
        """Read several keys."""
        return [self._state.get(key) for key in keys]

    async def note(self, _name: str, value: Callable[[], bytes]) -> bytes:
        """Return what `value` returns."""
        return value()
