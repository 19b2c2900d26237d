"""HTTP publishing: a plain POST with one message or a stream of them; DELETE forgets the topic.

`application/x-ndjson` is appended while it arrives, in batches that gather while a call is in flight; the answer
at the end says where the messages are. With an `Idempotency-Key` the same request may be sent again: it counts
messages, so it is harmless however the body is cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.access.admission import Admission
from restate_pubsub.client.pubsub_client import MAX_KEY_LENGTH
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import (
    Draining,
    InvalidRequest,
    KeyReused,
    NotEnabled,
    PubsubError,
    RequestTooLong,
    StreamFailed,
    TooLarge,
    Unauthorized,
    UnsupportedType,
    WrongAddress,
)
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.joined import check_field
from restate_pubsub.protocol.json_text import check_size, compact
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import CLIENT_HEADER
from restate_pubsub.web.callers import Callers
from restate_pubsub.web.control import control
from restate_pubsub.web.ending import Ending
from restate_pubsub.web.errors import WithMembers
from restate_pubsub.web.requests import JSON, flag_of, kind_of, linger_of
from restate_pubsub.web.upload import Upload

if TYPE_CHECKING:
    from restate_pubsub.client.pubsub_client import PubsubClient

NDJSON = "application/x-ndjson"
JSON_SPACE = b" \t\r"
"""A line of nothing else is blank. Whatever else Python takes for white space is not JSON."""


class PartlyPublished(PubsubError):
    """A body was refused while it was under way; what came before stands."""

    def __init__(self, where: str, stream: TokenStream, cause: PubsubError) -> None:
        """`where` the body is that the cause is about; `stream` is flushed."""
        self.cause = cause
        self.next_offset = stream.next_offset
        self.acknowledged = stream.acknowledged
        self.status, self.code = cause.status, cause.code
        self._where = where
        self._before = "nothing before it was published"
        if stream.next_offset is not None:
            self._before = (
                f"the {stream.acknowledged} messages before it are published, up to offset {stream.next_offset}"
            )
        super().__init__(f"{where}: {cause}; {self._before}")

    @property
    def public(self) -> str:
        """The same without what the cause keeps to itself."""
        return f"{self._where}: {self.cause.public}; {self._before}"


class Publishing:
    """The endpoint, with one client for all requests."""

    def __init__(
        self,
        client: PubsubClient,
        limits: Limits,
        *,
        callers: Callers,
        admission: Admission,
        enabled: bool,
        max_bytes: int,
        max_age: float,
        ending: Ending,
    ) -> None:
        """Keep the client; unless `enabled`, every request is refused with the setting that allows it.

        One request may bring `max_bytes`, and go on for `max_age` seconds, or until `ending`.
        """
        self._ending = ending
        self._client = client
        self._limits = limits
        self._callers = callers
        self._admission = admission
        self._enabled = enabled
        self._max_bytes = max_bytes
        self._max_age = max_age

    async def endpoint(self, request: Request) -> Response:
        """`POST {path}/{topic}`: publish (`PUT`, which `curl -T` sends, too); `DELETE`: delete the topic.

        With `?do=…` it is what `control` permits. A token that says so needs no PUBSUB_PUBLISH_ENABLED.

        Raises:
            PubsubError: refused.

        """
        asked = request.query_params.get("do")
        topic, expires = await self._callers.permitted(request, "publish" if asked is None else "control")
        if not self._enabled and (asked is None or not self._callers.guarded):
            msg = "Publishing here is switched off: set PUBSUB_PUBLISH_ENABLED=true, or publish through Restate"
            raise NotEnabled(msg)
        with self._admission.publish(self._callers.client(request)) as meter:
            if request.method == "DELETE" and asked is None:
                return await self.delete(topic)
            try:
                upload = Upload(
                    meter, max_bytes=self._max_bytes, max_age=self._max_age, expires=expires, ending=self._ending
                )
                if asked is not None:
                    return await control(self._client, asked, request, topic, partial(self._body, request, upload))
                return await self.publish(request, topic, upload)
            except (PartlyPublished, StreamFailed) as error:
                raise WithMembers(error, nextOffset=error.next_offset, count=error.acknowledged) from error

    async def publish(self, request: Request, topic: str, upload: Upload) -> Response:
        """`POST {path}/{topic}`: one JSON message, or one a line.

        Raises:
            PubsubError: refused; PartlyPublished or StreamFailed where a part of it was published.

        """
        _refuse_calls(request)
        _refuse_chats(request)
        kind = kind_of(request)
        close, linger = flag_of(request, "close"), linger_of(request)
        join = request.query_params.get("join")
        check_field(join)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
            msg = f"Idempotency-Key has {len(key)} characters; use 1 to {MAX_KEY_LENGTH}"
            raise InvalidRequest(msg)
        if kind == JSON:
            return await self._one(request, topic, upload, key, close=close, join=join)
        if kind == NDJSON:
            try:
                return await self._many(request, topic, upload, key, close=close, linger=linger, join=join)
            except StreamFailed as error:
                # Nothing of this request is there: what is there is the other one's.
                raise error.cause if isinstance(error.cause, KeyReused) else error from None
        msg = f"Content-Type {kind[:80]!r} is not one of {JSON} (one message) and {NDJSON} (one message a line)"
        raise UnsupportedType(msg)

    async def delete(self, topic: str) -> Response:
        """`DELETE {path}/{topic}`: forget the topic."""
        await self._client.delete(topic)
        return Response(status_code=204)

    async def _body(self, request: Request, upload: Upload) -> bytes:
        """Read a body that is to be one JSON value."""
        body = b""
        async with upload.in_time():
            async for chunk in request.stream():
                body += chunk
                upload.meter.take(size=len(chunk))
                if len(body) > self._limits.message_bytes:
                    msg = f"The message has more than {self._limits.message_bytes} bytes, which is the most allowed"
                    raise TooLarge(msg)
        upload.meter.take(messages=1)
        return body

    async def _one(
        self, request: Request, topic: str, upload: Upload, key: str | None, *, close: bool, join: str | None
    ) -> Response:
        message = Message(compact(await self._body(request, upload)))
        # The topic itself remembers the key, for as long as the message is in its log.
        stream = None if key is None else StreamRef(key, start=0, digest="", last=True)
        done = await self._client.append_encoded(topic, [message], close=close, stream=stream, join=join)
        return JSONResponse({"offset": done.offset, "nextOffset": done.next_offset, "count": 1})

    async def _many(
        self,
        request: Request,
        topic: str,
        upload: Upload,
        key: str | None,
        *,
        close: bool,
        linger: float,
        join: str | None,
    ) -> Response:
        stream = TokenStream(
            self._client,
            topic,
            self._limits,
            stream_id=key,
            resume=key is not None,
            close=close,
            linger=linger,
            join=join,
        )
        broken: tuple[str, PubsubError] | None = None
        number = 0
        async with stream:
            try:
                async with upload.in_time():
                    async for line in _lines(upload.chunks(request.stream()), self._limits.message_bytes):
                        number += 1
                        check_size(line, self._limits.message_bytes)  # of a blank line, too: what follows is not read
                        if line.strip(JSON_SPACE):
                            await stream.write_encoded(line)
                            upload.meter.take(messages=1)
            except StreamFailed:
                raise
            except (Unauthorized, RequestTooLong, Draining) as error:
                broken = (f"After line {number}", error)
                stream.keep_open()
            except PubsubError as error:
                broken = (f"Line {number}", error)
                stream.keep_open()
            except ClientDisconnect:
                stream.keep_open()  # what came in whole lines is published; nobody waits for the answer
        if broken is not None:
            raise PartlyPublished(broken[0], stream, broken[1])
        return JSONResponse({"offset": stream.offset, "nextOffset": stream.next_offset, "count": stream.acknowledged})


def _refuse_calls(request: Request) -> None:
    """Refuse a client that takes this service for Restate's ingress: its calls would become messages of odd topics."""
    if CLIENT_HEADER in request.headers:
        msg = (
            "This is the restate-pubsub service, not Restate's ingress: give the client the ingress's URL, such as "
            "http://localhost:8080"
        )
        raise WrongAddress(msg, public=msg)


def _refuse_chats(request: Request) -> None:
    """Refuse a chat that posts its whole history to the view it reads: it would be a message of the topic."""
    if request.query_params.get("view"):
        msg = "view is for reading: a chat posts its messages to a route of your own, which starts the agent"
        raise InvalidRequest(msg)


async def _lines(body: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body's lines as they come; the last may lack its line feed."""
    rest = bytearray()
    async for chunk in body:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield bytes(rest) + line
            rest.clear()
        rest += last
        if len(rest) > max_bytes:
            yield bytes(rest)  # it is refused for its size whatever it holds, before it takes more memory
            return
    if rest:
        yield bytes(rest)
