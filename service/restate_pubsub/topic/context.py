"""What a handler asks of Restate: the port that keeps the handlers free of the SDK.

`restate_context` is the adapter over the SDK, `memory` a journal in memory for tests. Every method but `key` is one
command of the journal, or several that are sent together. A handler is stopped between any two of them: by a crash,
after which it runs again from its beginning and is given what is journaled, or by an operator, for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Reading(Protocol):
    """What it takes to read a topic."""

    @property
    def key(self) -> str:
        """The topic."""

    async def get(self, *keys: str) -> list[bytes | None]:
        """Read several state keys in one round trip."""

    async def note(self, name: str, value: Callable[[], bytes]) -> bytes:
        """Journal what `value` returns before all that follows, and do not wait until Restate confirms that.

        A retry is given the journaled value, wherever a command that follows is in the journal.
        """


class SharedContext(Reading, Protocol):
    """What a shared handler may do: read while a write goes on, wait, and send."""

    def awakeable(self) -> str:
        """Make an awakeable, and return the id by which somebody else can complete it."""

    async def wait(self, awakeable: str, seconds: float) -> bytes | None:
        """Wait for an awakeable; return its value, or None when nothing came in time. It can be waited for again.

        Raises:
            TerminalError: the awakeable was rejected.

        """

    def send(self, handler: str, argument: bytes, delay: float | None = None) -> None:
        """Send a call to this topic, to be run after `delay` seconds."""


class ExclusiveContext(SharedContext, Protocol):
    """What a handler may do that runs alone on its topic."""

    async def keys(self) -> list[str]:
        """Return the names of all state keys of the topic."""

    def set(self, key: str, value: bytes) -> None:
        """Write a state key."""

    def clear(self, key: str) -> None:
        """Remove a state key; removing one that is not there does nothing."""

    async def run(self, name: str, value: Callable[[], bytes], late: Callable[[], None] | None = None) -> bytes:
        """Journal what `value` returns, and wait until Restate confirms that: all before it is durable then.

        A retry is given the journaled value. `late` is called when the confirmation takes long.
        """

    def resolve(self, awakeable: str, value: bytes) -> None:
        """Complete an awakeable; one that is complete already stays as it is."""

    def cancel(self, invocation: str) -> None:
        """Cancel an invocation; one that has ended, or never was, stays as it is."""

    def reject(self, awakeable: str, message: str, status: int) -> None:
        """Complete an awakeable with a terminal error."""
