"""The handlers' port over the Restate SDK: one short file, the only one that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import restate
from restate import ObjectContext, ObjectSharedContext, RunOptions
from restate.serde import BytesSerde

RAW = BytesSerde()
SHORTEST_SECONDS = 0.001
LATE_SECONDS = 2.0
"""A confirmation that takes longer may never come here: Restate may have gone on elsewhere."""


class RestateSharedContext:
    """The port of a shared handler."""

    def __init__(self, ctx: ObjectSharedContext | ObjectContext, name: str, clock_offset: Callable[[], float]) -> None:
        """`name` is the object's; `clock_offset` says how many seconds Restate's clock is ahead of this process's.

        Restate takes a time at which to go on, by this process's clock, and compares it with its own.
        """
        self._ctx = ctx
        self._name = name
        self._clock_offset = clock_offset
        self._news: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The topic."""
        return self._ctx.key()

    async def get(self, *keys: str) -> list[bytes | None]:
        """Read several state keys in one round trip."""
        futures: list[Any] = [self._ctx.get(key, serde=RAW) for key in keys]
        return [await future for future in futures]

    def awakeable(self) -> str:
        """Make an awakeable."""
        name, value = self._ctx.awakeable(RAW)
        self._news[name] = value
        return name

    async def wait(self, awakeable: str, seconds: float) -> bytes | None:
        """Wait for an awakeable, or until time is up."""
        tag, value = await restate.select(news=self._news[awakeable], timeout=self._ctx.sleep(self._delay(seconds)))
        return None if tag == "timeout" else value

    def send(self, handler: str, argument: bytes, delay: float | None = None) -> None:
        """Send a call to this topic."""
        wait = None if delay is None else self._delay(delay)
        self._ctx.generic_send(self._name, handler, argument, key=self.key, send_delay=wait)

    async def note(self, name: str, value: Callable[[], bytes]) -> bytes:
        """Journal what `value` returns, and go on: what follows comes behind it, and no round trip is paid.

        Restate takes the entries of a call in the order in which they are sent, a run's value among them. The SDK sends
        it when somebody waits for it; so it is sent here, where the SDK lets us.
        """
        noted: list[bytes] = []

        async def journaled() -> bytes:
            noted.append(value())
            return noted[0]

        future: Any = self._ctx.run_typed(name, journaled, RunOptions(serde=RAW))
        send = getattr(self._ctx, "run_coros_to_execute", {}).pop(getattr(future, "handle", None), None)
        if send is None:  # it is in the journal already
            return bytes(await future)
        await send()
        return noted[0]

    def _delay(self, seconds: float) -> timedelta:
        # No time before now can be asked for, and none at all means at once. So where this clock is far ahead, a short
        # wait is too long, by the difference at most; it is never too short.
        return timedelta(seconds=max(seconds + self._clock_offset(), SHORTEST_SECONDS))


class RestateContext(RestateSharedContext):
    """The port of a handler that runs alone on its topic."""

    _ctx: ObjectContext

    async def keys(self) -> list[str]:
        """Return the names of all state keys."""
        return await self._ctx.state_keys()

    def set(self, key: str, value: bytes) -> None:
        """Write a state key."""
        self._ctx.set(key, value, RAW)

    def clear(self, key: str) -> None:
        """Remove a state key."""
        self._ctx.clear(key)

    async def run(self, name: str, value: Callable[[], bytes], late: Callable[[], None] | None = None) -> bytes:
        """Journal what `value` returns, and wait for the confirmation."""

        async def journaled() -> bytes:  # a coroutine: the SDK would run a plain function in a thread
            return value()

        watch = None if late is None else asyncio.get_running_loop().call_later(LATE_SECONDS, late)
        try:
            return await self._ctx.run_typed(name, journaled, RunOptions(serde=RAW))
        finally:
            if watch is not None:
                watch.cancel()

    def resolve(self, awakeable: str, value: bytes) -> None:
        """Complete an awakeable."""
        self._ctx.resolve_awakeable(awakeable, value, RAW)

    def cancel(self, invocation: str) -> None:
        """Cancel an invocation."""
        self._ctx.cancel_invocation(invocation)

    def reject(self, awakeable: str, message: str, status: int) -> None:
        """Complete an awakeable with a terminal error."""
        self._ctx.reject_awakeable(awakeable, message, status)
