"""`POST /peers`: another replica opens a connection, over which it hands this one the news of what it writes.

It is outside of all layers, as invocations are: its body never ends, and comes in small pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING

import msgspec

from restate_pubsub.peers.incoming import Lines
from restate_pubsub.peers.refused import Refused
from restate_pubsub.protocol.peers import PATH
from restate_pubsub.web.problems import problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from restate_pubsub.peers.incoming import Incoming
    from restate_pubsub.peers.observer import PeerObserver

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")],
}
_REFUSED = "Only a replica that has read this one's subscription in Restate may hand it news"


class Peering:
    """The layer around everything that takes peers; `app` has all other requests."""

    def __init__(
        self,
        app: ASGIApp,
        incoming: Incoming,
        observer: PeerObserver,
        *,
        closed_ports: Collection[int],
        on_refused: Callable[[str], None],
    ) -> None:
        """`closed_ports` are those that are not internal: there is no such path there. `on_refused` is told why."""
        self._app = app
        self._incoming = incoming
        self._observer = observer
        self._closed = frozenset(closed_ports)
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a peer, and hand everything else on."""
        if (
            scope["type"] != "http"
            or scope["path"] != PATH
            or scope["method"] != "POST"
            or (scope.get("server") or (None, None))[1] in self._closed
        ):
            await self._app(scope, receive, send)
            return
        begun = False

        async def say(line: bytes) -> None:
            await send({"type": "http.response.body", "body": line, "more_body": True})

        try:
            lines = Lines(_chunks(receive))
            hello, welcome = await self._incoming.greeted(lines)
            begun = True
            await send(_HEAD)
            await say(msgspec.json.encode(welcome) + b"\n")
            await self._incoming.serve(hello, welcome, lines, say)
        except Refused as refused:
            self._observer.peer_refused(refused.reason)
            self._on_refused(refused.reason)
            if not begun:
                await problem(403, "peer-refused", _REFUSED)(scope, receive, send)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield what comes.

    Raises:
        EOFError: the peer is gone, and has not said that it ends.

    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError
        more = message.get("more_body", False)
        yield message.get("body", b"")
