"""The HTTP door: publish with a plain POST, one message or a stream of them, and delete a topic.

`application/x-ndjson` is appended while it arrives, in batches that gather while a call is in flight; the answer
at the end says where the messages are. With an `Idempotency-Key` the same request may be sent again: it counts
messages, so it is harmless however the body is cut.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.client.pubsub_client import MAX_KEY_LENGTH
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import (
    InvalidRequest,
    KeyReused,
    PubsubError,
    StreamFailed,
    TooLarge,
    UnsupportedType,
    WrongAddress,
)
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import CLIENT_HEADER
from restate_pubsub.web.requests import flag_of

if TYPE_CHECKING:
    from restate_pubsub.client.pubsub_client import PubsubClient

JSON, NDJSON = "application/json", "application/x-ndjson"


class LineFailed(PubsubError):
    """A line of the body was refused; what came before it stands."""

    def __init__(self, line: int, stream: TokenStream, cause: PubsubError) -> None:
        """`line` counts from 1; `stream` is flushed."""
        self.line = line
        self.next_offset = stream.next_offset
        self.acknowledged = stream.acknowledged
        self.status, self.code = cause.status, cause.code
        before = "nothing before it was published"
        if stream.next_offset is not None:
            before = f"the {stream.acknowledged} messages before it are published, up to offset {stream.next_offset}"
        super().__init__(f"Line {line}: {cause}; {before}")


class Door:
    """Publishing over HTTP, with one client for all requests."""

    def __init__(self, client: PubsubClient, limits: Limits) -> None:
        """Keep the client."""
        self._client = client
        self._limits = limits

    async def publish(self, request: Request, topic: str) -> Response:
        """`POST {path}/{topic}`: one JSON message, or one a line.

        Raises:
            PubsubError: refused; LineFailed or StreamFailed where a part of it was published.

        """
        _refuse_calls(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        close = flag_of(request, "close")
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
            msg = f"Idempotency-Key has {len(key)} characters; use 1 to {MAX_KEY_LENGTH}"
            raise InvalidRequest(msg)
        if kind == JSON:
            return await self._one(request, topic, key, close=close)
        if kind == NDJSON:
            try:
                return await self._many(request, topic, key, close=close)
            except StreamFailed as error:
                # Nothing of this request is there: what is there is the other one's.
                raise error.cause if isinstance(error.cause, KeyReused) else error from None
        msg = f"Content-Type {kind[:80]!r} is not one of {JSON} (one message) and {NDJSON} (one message a line)"
        raise UnsupportedType(msg)

    async def delete(self, topic: str) -> Response:
        """`DELETE {path}/{topic}`: forget the topic."""
        await self._client.delete(topic)
        return Response(status_code=204)

    async def _one(self, request: Request, topic: str, key: str | None, *, close: bool) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._limits.message_bytes:
                msg = f"The message has more than {self._limits.message_bytes} bytes, which is the most allowed"
                raise TooLarge(msg)
        message = Message(compact(body, self._limits.message_bytes))
        # The topic itself remembers the key, for as long as the message is in its log.
        stream = None if key is None else StreamRef(key, start=0, digest="", last=True)
        done = await self._client.append_encoded(topic, [message], close=close, stream=stream)
        return JSONResponse({"offset": done.offset, "nextOffset": done.next_offset, "count": 1})

    async def _many(self, request: Request, topic: str, key: str | None, *, close: bool) -> Response:
        stream = TokenStream(self._client, topic, self._limits, stream_id=key, resume=key is not None, close=close)
        broken: tuple[int, PubsubError] | None = None
        number = 0
        async with stream:
            try:
                async for line in _lines(request, self._limits.message_bytes):
                    number += 1
                    if line.strip():
                        await stream.write_encoded(line)
            except StreamFailed:
                raise
            except PubsubError as error:
                broken = (number, error)
                stream.keep_open()
            except ClientDisconnect:
                stream.keep_open()  # what came in whole lines is published; nobody waits for the answer
        if broken is not None:
            raise LineFailed(broken[0], stream, broken[1])
        return JSONResponse({"offset": stream.offset, "nextOffset": stream.next_offset, "count": stream.acknowledged})


def _refuse_calls(request: Request) -> None:
    """Refuse a client that takes this service for Restate's ingress: its calls would become messages of odd topics."""
    if CLIENT_HEADER in request.headers:
        msg = (
            "This is the restate-pubsub service, not Restate's ingress: give the client the ingress's URL, such as "
            "http://localhost:8080"
        )
        raise WrongAddress(msg)


async def _lines(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body's lines as they come; the last may lack its line feed."""
    rest = bytearray()
    async for chunk in request.stream():
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield bytes(rest) + line
            rest.clear()
        rest += last
        if len(rest) > max_bytes:
            yield bytes(rest)  # it is refused for its size, before it takes more memory
            return
    if rest:
        yield bytes(rest)
