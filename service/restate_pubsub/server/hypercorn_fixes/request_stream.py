"""One request: its body waits in an inbox for the application, and a client that goes is told of at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hypercorn.config import Config
from hypercorn.events import Event as ConnectionEvent
from hypercorn.events import RawData
from hypercorn.protocol.events import Body, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.http_stream import ASGIHTTPState, HTTPStream

from restate_pubsub.web.wire import LAST, TAKE_OVER, Taker

INBOX_BYTES = 64 * 1024
"""So much of a body waits for the application before its connection is read no further (HTTP/1.1)."""


class Answering(ConnectionEvent):
    """To the connection: the head of an answer comes now."""

    def __init__(self, path: str, status: int) -> None:
        """Name what is answered, and how."""
        self.path = path
        self.status = status


class TakingOver(ConnectionEvent):
    """To the connection: from now on it is the taker's, if it is still there."""

    def __init__(self, taker: Taker) -> None:
        """Nothing is taken yet."""
        self.taker = taker
        self.taken = False


class Inbox:
    """What has come of a request and was not taken yet; it replaces hypercorn's queue of ten parts.

    That queue makes the connection wait when it is full: on HTTP/2, for everybody's requests that share it, and when a
    client has gone, for good.
    """

    def __init__(self, taken: Callable[[int], Awaitable[None]] | None = None) -> None:
        """`taken` is told how many bytes the application has taken."""
        self._body = bytearray()
        self._ended = False
        self._told_end = False
        self._gone = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._taken = taken

    @property
    def ended(self) -> bool:
        """Whether the whole body has come."""
        return self._ended

    def put(self, data: bytes) -> None:
        """Add a part of the body; after the end of the request it is thrown away."""
        if data and not self._gone:
            self._body += data
            self._changed.set()
            if len(self._body) >= INBOX_BYTES:
                self._room.clear()

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    def end(self) -> None:
        """The body is complete."""
        self._ended = True
        self._changed.set()

    def disconnect(self) -> None:
        """The client has gone, or the answer is complete."""
        self._gone = True
        self._changed.set()
        self._room.set()

    async def get(self) -> dict[str, Any]:
        """Return the next ASGI event."""
        while True:
            if self._body:
                data = bytes(self._body)
                self._body.clear()
                self._room.set()
                self._told_end = self._ended
                if self._taken is not None and not self._gone:
                    await self._taken(len(data))
                return {"type": "http.request", "body": data, "more_body": not self._told_end}
            if self._ended and not self._told_end:
                self._told_end = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._gone:
                return {"type": "http.disconnect"}
            self._changed.clear()
            await self._changed.wait()


class RequestStream(HTTPStream):
    """A request whose body is in an `Inbox`, and whose answer's head is announced to the connection."""

    def __init__(
        self,
        *args: Any,
        inbox: Inbox,
        announce: Callable[[ConnectionEvent], Awaitable[None]],
        take_over: bool = False,
    ) -> None:
        """`args` are hypercorn's; `inbox` belongs to this request alone; `announce` goes to the connection.

        `take_over`: the application may take the connection.
        """
        app, *middle, send, stream_id = args

        async def with_inbox(scope: Any, _receive: Any, *rest: Any) -> None:
            if take_over and inbox.ended:  # otherwise its body is still coming
                scope["extensions"][TAKE_OVER] = self._take_over
            await app(scope, inbox.get, *rest)

        async def announced(event: Event) -> None:
            if isinstance(event, Response):
                await announce(Answering(self.scope["path"], event.status_code))
            await send(event)

        build: Any = super().__init__
        build(with_inbox, *middle, announced, stream_id)
        self.inbox = inbox
        self._announce = announce

    async def app_send(self, message: Any) -> None:
        """Take what the application sends. A head of which it says that it is the last one is written here.

        h11 would check our own headers, and follow a connection with which it has nothing more to do.
        """
        if message is None or LAST not in message or self.state is not ASGIHTTPState.REQUEST:
            await super().app_send(message)
            if message is None:
                self._let_go()
            return
        self.response = message
        self.state = ASGIHTTPState.RESPONSE
        await self._announce(Answering(self.scope["path"], message["status"]))
        await self._announce(RawData(head_of(message["status"], message["headers"], self.config)))

    def _let_go(self) -> None:
        """Leave no circles behind: there are more requests than of anything else that the collector would walk."""
        nobody: Any = _nobody
        self.app = self.send = self.app_put = nobody
        self.scope["extensions"].pop(TAKE_OVER, None)

    async def _take_over(self, taker: Taker) -> bool:
        taking = TakingOver(taker)
        if not self.closed:
            await self._announce(taking)
        self.closed = self.closed or taking.taken  # what hypercorn would do at the end of an answer is not done
        return taking.taken

    async def handle(self, event: Event) -> None:
        """Take what came of the request."""
        if self.closed:
            return
        if isinstance(event, Body):
            self.inbox.put(bytes(event.data))
        elif isinstance(event, EndBody):
            self.inbox.end()
        elif isinstance(event, StreamClosed):
            self.closed = True
            self.inbox.disconnect()
        elif isinstance(event, Request):
            await super().handle(event)


async def _nobody(*_what: Any) -> None:
    """Stand for what an application that has ended could still be told, or say."""


def head_of(status: int, headers: Iterable[tuple[bytes, bytes]], config: Config) -> bytes:
    """Return the head of an answer whose body comes in chunks, as h11 writes it."""
    lines = [b"%b: %b\r\n" % pair for pair in (*headers, *config.response_headers("h11"))]
    return b"HTTP/1.1 %d \r\n%bTransfer-Encoding: chunked\r\n\r\n" % (status, b"".join(lines))
