"""What a server may offer to streams: the transport of a request's connection, for good.

It is an ASGI extension: `scope["extensions"][TAKE_OVER]` is a `TakeOver`. A stream that has sent the head of its
response may take the wire, and its task may end; from then on `send` and `receive` mean nothing, and the server has no
part in the connection. Where the extension is missing (HTTP/2, HTTP/1.0, another server) a stream goes on as any ASGI
response does.

The message that starts such a response says `LAST: True`: this connection carries no other answer, so that its server
need not follow it further.
"""

from __future__ import annotations

from typing import Protocol

TAKE_OVER = "restate_pubsub.take_over"
LAST = "restate_pubsub.last"


class Wire(Protocol):
    """A connection that carries the body of one response."""

    @property
    def full(self) -> bool:
        """Whether the client has more to take already than should wait for it; `room` tells when it has less."""

    def write(self, data: bytes) -> None:
        """Send a part of the body. Parts of one object's bytes are framed once, however many wires they go to."""

    def end(self) -> None:
        """End the body, and close the connection when the client has taken what is left."""

    def abort(self) -> None:
        """Close the connection now."""


class Taker(Protocol):
    """Who has taken a wire. Nothing here may wait, and what it raises is the server's trouble: it must not."""

    def taken(self, wire: Wire) -> None:
        """Begin: the first part that is written goes out with the head."""

    def room(self) -> None:
        """There is room again."""

    def slow(self) -> None:
        """The client has taken nothing for too long, and the connection is being closed."""

    def gone(self) -> None:
        """The connection is closed, whoever did it. It is the last word, and comes once."""


class TakeOver(Protocol):
    """Hands the connection over, once the head has been sent."""

    async def __call__(self, taker: Taker) -> bool:
        """Tell the taker `taken`, or return False where the client has gone already."""
