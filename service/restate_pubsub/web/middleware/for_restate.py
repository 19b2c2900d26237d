"""Before the Restate endpoint: what no Restate server sends is refused, in one answer and without a line in the log.

The SDK begins its answer before it has read the request, takes what it cannot read for a fault of its own, and logs
tracebacks; anybody could fill the log. So its answer is held back until the first of the body, the start of an
invocation, has been read by the SDK's own state machine (`restate.vm`, since 1.3).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from restate.vm import VMException, VMWrapper  # type: ignore[attr-defined]
from starlette.datastructures import Headers

from restate_pubsub.web.errors import Refused, RequestTimeout

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        self._app = app
        self._seconds = body_timeout or None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what Restate may have sent.

        Raises:
            Refused: it has not.

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
        await self._app(scope, call.receive, call.send)
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
        self._discovers = scope["path"].endswith("/discover")
        self._send = send

    async def send(self, message: Message) -> None:
        """Hand an answer on, but for a refusal."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self.refusal = self._refused(message["status"])
        if self.refusal is None:
            await self._send(message)

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
    """A request to invoke a handler: the endpoint's answer begins when the start of the invocation has been read."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float | None) -> None:
        super().__init__(scope, send)
        self._receive = receive
        self._seconds = seconds
        self._head: Message | None = None
        self._read: list[Message] = []
        self._checked = False
        try:
            self._vm = VMWrapper([(name.decode(), value.decode()) for name, value in scope["headers"]])
        except VMException as error:
            raise Refused(415, "unsupported-type", str(error)[:200]) from None

    async def send(self, message: Message) -> None:
        """Hold back the head of an answer until the start of the invocation has been read."""
        if message["type"] == "http.response.start" and message["status"] == 200 and not self._checked:
            self._head = message
        else:
            await super().send(message)

    async def receive(self) -> Message:
        """Return the next of the body; the client has gone, as far as the endpoint knows, if it cannot be read."""
        if not self._checked and self.refusal is None:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._check()
            except TimeoutError:
                self.refusal = RequestTimeout(self._seconds or 0.0)
            self._checked = True
            if self._head is not None:
                await super().send(self._head)
        if self.refusal is not None:
            return {"type": "http.disconnect"} if self._checked else await super().receive()
        return self._read.pop(0) if self._read else await self._receive()

    async def _check(self) -> None:
        """Read until the endpoint could begin, with a state machine of our own."""
        while True:
            message = await self._receive()
            self._read.append(message)
            if message["type"] != "http.request":
                return
            try:
                self._vm.notify_input(message.get("body", b""))
                if not message.get("more_body", False):
                    self._vm.notify_input_closed()  # type: ignore[no-untyped-call]
                if self._vm.is_ready_to_execute():
                    self._vm.sys_input()
                    return
            except VMException as error:
                why = f"This is not an invocation: {str(error)[:200]}"
                self.refusal = Refused(400, "invalid-request", why)
                return
            if not message.get("more_body", False):
                self.refusal = Refused(400, "invalid-request", "The body ends before the start of an invocation")
                return
