"""How long a connection may do nothing, whom this does not concern, and who watches the connections."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from hypercorn.config import Config

from restate_pubsub.server.wires import Wires

UNLIMITED = 2**31 - 1


class Observer(Protocol):
    """Is told what happens below the application; nothing decides by it."""

    def refused(self, code: str) -> None:
        """A request was refused, with this code in the answer."""

    def connection_lost(self, error: str) -> None:
        """A client vanished: "reset", "timeout", "unreachable" or "other"."""

    def connection_idle(self) -> None:
        """A connection was closed because it did nothing."""


class NullObserver:
    """Watches nothing."""

    def refused(self, code: str) -> None:
        """Ignore it."""

    def connection_lost(self, error: str) -> None:
        """Ignore it."""

    def connection_idle(self) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one connection may do. Times are in seconds; 0 is no limit.

    Restate keeps its connections for as long as it likes, so none of this is for them: not for those at other ports
    than `ports`, and not for one from which the endpoint has accepted a call (`spares` of the path and the answer's
    status). Whoever can make such a call may invoke the object, which is worth more than an idle connection.
    """

    request: float = 0.0
    """From the opening of a connection, or the first byte of a request, to the end of the request's head."""
    keep_alive: float = 0.0
    """From the end of an answer to the next request."""
    unread: float = 0.0
    """So long an HTTP/2 answer waits for a client that takes nothing of it; then it is reset."""
    streams: int = UNLIMITED
    """Requests at a time on one HTTP/2 connection."""
    ports: Collection[int] | None = None
    """The local ports that the limits are for; None: all."""
    spares: Callable[[str, int], bool] = lambda _path, _status: False

    def concern(self, address: tuple[Any, ...] | None) -> bool:
        """Whether they are for the connections at a local address."""
        return self.ports is None or (address is not None and address[1] in self.ports)


class ServerConfig(Config):
    """hypercorn's configuration, and what the fixes need beside it."""

    limits: ConnectionLimits = ConnectionLimits()
    observer: Observer = NullObserver()
    wires: Wires | None = None
    """Takes over the connections of streams; None: they stay with hypercorn."""


def settings_of(config: Any) -> tuple[ConnectionLimits, Observer]:
    """Return the limits and the observer of a configuration."""
    return config.limits, config.observer


def wires_of(config: Any) -> Wires | None:
    """Return what takes over connections, if anything does."""
    wires: Wires | None = config.wires
    return wires
