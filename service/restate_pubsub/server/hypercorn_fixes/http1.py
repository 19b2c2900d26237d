"""HTTP/1.1: no upgrade, absolute-form targets, and pipelined requests that leave nothing behind."""

from __future__ import annotations

import re
from typing import cast

import h11
from hypercorn.events import Closed, Event, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H2ProtocolAssumedError, H11Protocol

from restate_pubsub.server.hypercorn_fixes.limits import settings_of, wires_of
from restate_pubsub.server.hypercorn_fixes.refusals import Refusal
from restate_pubsub.server.hypercorn_fixes.request_stream import Inbox, RequestStream

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_CODES = {
    400: ("invalid-request", "This is not a request of HTTP/1.1"),
    408: ("request-timeout", "The request's head did not come to its end in time"),
    431: ("headers-too-large", "The headers have more bytes than are allowed"),
    501: ("not-implemented", "A transfer encoding is not `chunked`"),
    505: ("version-not-supported", "This server speaks HTTP/1.0, 1.1 and 2"),
}


class Http1(H11Protocol):
    """One HTTP/1.1 connection, which becomes an HTTP/2 one by its preface alone (prior knowledge).

    `Upgrade` is ignored, as a server may. hypercorn accepts `h2c`, and leads a client through a proxy that forwards the
    upgrade, past the proxy's rules for paths.
    """

    connection: h11.Connection
    paused = False
    """A request has come before the one before it was answered (pipelining): go on when `can_read` is set."""
    _gone = False

    @property
    def partial(self) -> bool:
        """Whether a part of a request's head has come."""
        return self.stream is None and bool(self.connection.trailing_data[0])

    async def handle(self, event: Event) -> None:
        """Take what came. Once the client has gone, nothing that it sent before is begun."""
        if isinstance(event, Closed):
            self._gone = True
            await self.can_read.set()
        await super().handle(event)

    async def go_on(self, data: bytes) -> None:
        """Take the request that has waited, and what came meanwhile."""
        if data:
            self.connection.receive_data(data)
        await self._handle_events()

    async def timed_out(self) -> None:
        """Say that a request's head took too long."""
        if self.partial and self.connection.our_state is h11.IDLE:
            await self._send_error_response(408)

    async def _handle_events(self) -> None:
        """Take what is there until more has to come, or until the request before is answered."""
        connection, self.paused = self.connection, False
        while not self._gone:
            if connection.they_are_waiting_for_100_continue:
                answer = h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
                await self._send_h11_event(answer)
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                if connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                    await self._send_error_response(error.error_status_hint)
                await self.send(Closed())
                return
            if isinstance(event, h11.Request):
                await self._check_protocol(event)
                if event.http_version not in {b"1.0", b"1.1"}:
                    await self._send_error_response(505)
                    await self.send(Closed())
                    return
                await self._create_stream(event)
            elif event is h11.PAUSED:
                await self.can_read.clear()
                self.paused = True
                return
            elif not await self._body(event):
                return

    async def _body(self, event: object) -> bool:
        """Hand a part of a request's body on; return whether there was one."""
        if self.stream is None:
            return False
        inbox = cast("RequestStream", self.stream).inbox
        if isinstance(event, h11.Data):
            inbox.put(bytes(event.data))
            await inbox.room()
        elif isinstance(event, h11.EndOfMessage):
            inbox.end()
        else:
            return False
        return True

    async def _check_protocol(self, event: h11.Request) -> None:
        first = self.keep_alive_requests == 0 and not event.headers
        if first and (event.method, event.target, event.http_version) == (b"PRI", b"*", b"2.0"):
            raise H2ProtocolAssumedError(b"PRI * HTTP/2.0\r\n\r\n" + self.connection.trailing_data[0])

    async def _create_stream(self, request: h11.Request) -> None:
        await self.send(Updated(idle=False))
        target, headers = request.target, list(request.headers)
        if absolute := _ABSOLUTE.fullmatch(target):  # as a proxy is asked; RFC 9112, section 3.2.2
            authority, rest = absolute.groups()
            target = rest if rest.startswith(b"/") else b"/" + rest
            headers = [(b"host", authority), *((name, value) for name, value in headers if name != b"host")]
        self.stream = RequestStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
            inbox=Inbox(),
            announce=self.send,
            take_over=wires_of(self.config) is not None and (request.http_version, request.method) == (b"1.1", b"GET"),
        )
        self.keep_alive_requests += 1
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=headers,
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=target,
                state=self.connection_state,
            )
        )
        await self.context.mark_request()

    async def _send_error_response(self, status_code: int) -> None:
        code, detail = _CODES.get(status_code, _CODES[400])
        refusal = Refusal(status_code, code, detail)
        settings_of(self.config)[1].refused(code)
        headers = [*refusal.headers, (b"connection", b"close"), *self.config.response_headers("h11")]
        for event in (
            h11.Response(status_code=status_code, headers=headers),
            h11.Data(data=refusal.body),
            h11.EndOfMessage(),
        ):
            await self._send_h11_event(event)
