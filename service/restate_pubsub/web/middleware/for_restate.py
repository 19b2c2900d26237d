"""Before the Restate endpoint: what no Restate server sends is refused, in one answer and without a line in the log.

The SDK begins its answer before it has read the request, takes what it cannot read for a fault of its own, and logs
tracebacks; anybody could fill the log. So the head of its answer is held back until a handler has something to say,
and until then the error of its state machine (`restate.vm`, since 1.3) is the client's fault. It is no line in the log,
then or later, when the journal that was sent is none of this handler's: the answer says it, and Restate logs it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import structlog
from restate.vm import VMException  # type: ignore[attr-defined]
from starlette.datastructures import Headers

from restate_pubsub.web.errors import Refused, RequestTimeout

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.stdlib.get_logger(__name__)

BODY_ENDED = "restate_pubsub.body_ended"
"""In a request's scope: its body was read to the end."""
_INVOCATION, _MANIFEST = "application/vnd.restate.invocation", "application/vnd.restate.endpointmanifest"


_REFUSALS = {
    401: ("unsigned", "Only a Restate server may call this that signs with one of PUBSUB_RESTATE_IDENTITY_KEYS"),
    404: ("not-found", "The endpoint has no such service or handler"),
}
_NOT_ACCEPTABLE = "This is for Restate, of a version that this endpoint knows: run `restate-pubsub register`"


class ForRestate:
    """ASGI middleware around the Restate endpoint. Signatures are the endpoint's own business."""

    def __init__(self, app: ASGIApp, *, body_timeout: float = 0.0) -> None:
        """Guard `app`; the start of an invocation must come within `body_timeout` seconds (0: at any time)."""
        logging.getLogger("restate.server").addFilter(_is_ours)
        self._app = app
        self._seconds = body_timeout or None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what Restate may have sent.

        Raises:
            Refused: it has not. Nothing is raised once an answer has begun.

        """
        headers = Headers(scope=scope)
        if not all(value.isascii() for _, value in scope["headers"]):
            raise Refused(400, "invalid-request", "A header is not ASCII")
        if scope["path"].endswith("/discover") and _MANIFEST not in headers.get("accept", ""):
            raise Refused(406, "not-acceptable", "This is for Restate: run `restate-pubsub register`")
        call: _Call = _Call(scope, send)
        if "/invoke/" in scope["path"]:
            if not headers.get("content-type", "").startswith(_INVOCATION):
                raise Refused(415, "unsupported-type", "This is for Restate: publish through its ingress")
            call = _Invocation(scope, receive, send, self._seconds)
        try:
            await self._app(scope, call.receive, call.send)
        except Exception as error:
            if call.begun:
                log.exception("an answer to Restate broke off", path=scope["path"])
                return
            if isinstance(error, VMException):
                raise call.unreadable(str(error)[:200]) from error
            raise
        if call.refusal is not None:
            raise call.refusal


def is_call(path: str, status: int, *, restate_path: str) -> bool:
    """Whether an answer says that its request was Restate's: the endpoint has accepted a call or a discovery."""
    kind = path.removeprefix(restate_path + "/").partition("/")[0] if path.startswith(restate_path + "/") else ""
    return kind in ("invoke", "discover") and status < 400


class _Call:
    """One request to the endpoint, whose refusals become ours. Only an invocation has a body."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.refusal: Refused | None = None
        self.begun = False
        self._discovers = scope["path"].endswith("/discover")
        self._send = send

    async def send(self, message: Message) -> None:
        """Hand an answer on, but for a refusal."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.refusal = self._refused(message["status"])
        if self.refusal is None:
            self.begun = True
            await self._send(message)

    def unreadable(self, why: str) -> Exception:
        """Return what the failure of the SDK's state machine is."""
        return Refused(415, "unsupported-type", why)

    def _refused(self, status: int) -> Refused:
        """Return the refusal for an error of the endpoint, which is its client's: it has not begun anything."""
        if status in _REFUSALS:
            return Refused(status, *_REFUSALS[status])
        if self._discovers:
            return Refused(406, "not-acceptable", _NOT_ACCEPTABLE)
        return Refused(status if status < 500 else 400, "invalid-request", "This is no request of a Restate server")

    async def receive(self) -> Message:
        """Return the end of the body: who refuses a request would wait for it."""
        return {"type": "http.request", "body": b"", "more_body": False}


class _Invocation(_Call):
    """A request to invoke a handler: the endpoint's answer begins when the handler has something to say."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float | None) -> None:
        super().__init__(scope, send)
        self._receive = receive
        self._deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._seconds = seconds
        self._scope = scope
        self._head: Message | None = None

    async def send(self, message: Message) -> None:
        """Hold back the head of an answer until there is more of it: the invocation has been read then."""
        if self.begun:
            await self._send(message)
        elif message["type"] == "http.response.start" and message["status"] == 200:
            self._head = message
        elif self._head is None or self.refusal is not None:
            await super().send(message)
        else:
            self.begun = True
            await self._send(self._head)
            await self._send(message)

    async def receive(self) -> Message:
        """Return the next of the body; the client has gone, as far as the endpoint knows, if it does not come."""
        if self.refusal is not None:
            return {"type": "http.disconnect"} if self._head is not None else await super().receive()
        if self.begun or self._deadline is None:
            message = await self._receive()
        else:
            try:
                async with asyncio.timeout_at(self._deadline):
                    message = await self._receive()
            except TimeoutError:
                if self.begun:
                    return await self.receive()
                self.refusal = RequestTimeout(self._seconds or 0.0)
                return {"type": "http.disconnect"}
        if not message.get("more_body", False):
            self._scope[BODY_ENDED] = True
        return message

    def unreadable(self, why: str) -> Exception:
        """Return what the failure of the SDK's state machine is before an answer has begun: its client's fault."""
        if self.refusal is not None:
            return self.refusal
        if self._head is None:
            return super().unreadable(why)
        return Refused(400, "invalid-request", f"This is not an invocation: {why}")


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the SDK tells of a fault here: not when what it was sent is wrong, which the answer says."""
    return not (record.exc_info and isinstance(record.exc_info[1], VMException))
