"""What a page may do besides reading: answer a question, stop token streams.

`POST {path}/{topic}?do=answer&id=…` with the answer as JSON body;
`POST {path}/{topic}?do=stop` with `{"id"?, "reason"?, "cancel"?}`, or without a body: all that are unfinished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.errors import InvalidRequest, UnsupportedType
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.web.requests import JSON, kind_of

if TYPE_CHECKING:
    from restate_pubsub.client.pubsub_client import PubsubClient


async def control(
    client: PubsubClient, what: str, request: Request, topic: str, body: Callable[[], Awaitable[bytes]]
) -> Response:
    """Do what a page asks for; `body` reads what it has sent.

    Raises:
        UnsupportedType: the body is not said to be JSON. A page of another site can send other types without asking.
        InvalidRequest: `do` is nothing that there is, or names no question or stream.
        PubsubError: the topic refused.

    """
    if request.method != "POST" or what not in ("answer", "stop"):
        msg = f"{request.method} with do={what[:40]!r}: use POST with do=answer or do=stop"
        raise InvalidRequest(msg)
    if (kind := kind_of(request)) != JSON:
        msg = f"Content-Type {kind[:80]!r} is not {JSON}"
        raise UnsupportedType(msg)
    key = request.headers.get("idempotency-key")
    if what == "stop":
        asked = calls.decode_stop(await body())
        done = await client.stop(topic, asked.id, reason=asked.reason, cancel=asked.cancel, idempotency_key=key)
        answer = calls.Stopped(done.offset, list(done.stopped), list(done.cancelled))
        return Response(msgspec.json.encode(answer), media_type=JSON)
    question = request.query_params.get("id")
    if not question:
        msg = "do=answer needs the question's id: &id=…"
        raise InvalidRequest(msg)
    offset = await client.answer_encoded(topic, question, compact(await body()), idempotency_key=key)
    return JSONResponse({"offset": offset})
