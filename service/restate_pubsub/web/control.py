"""What a page may do besides reading: answer a question, stop a token stream.

`POST {path}/{topic}?do=answer&id=…` with the answer as JSON body;
`POST {path}/{topic}?do=stop` with `{"id", "reason"?}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol import calls

if TYPE_CHECKING:
    from restate_pubsub.client.pubsub_client import PubsubClient


async def control(client: PubsubClient, what: str, request: Request, topic: str, body: bytes) -> Response:
    """Do what a page asks for.

    Raises:
        InvalidRequest: `do` is nothing that there is, or names no question or stream.
        PubsubError: the topic refused.

    """
    if request.method != "POST" or what not in ("answer", "stop"):
        msg = f"{request.method} with do={what[:40]!r}: use POST with do=answer or do=stop"
        raise InvalidRequest(msg)
    if what == "stop":
        asked = calls.decode_stop(body)
        return JSONResponse({"offset": await client.stop(topic, asked.id, reason=asked.reason), "stopped": [asked.id]})
    question = request.query_params.get("id")
    if not question:
        msg = "do=answer needs the question's id: &id=…"
        raise InvalidRequest(msg)
    key = request.headers.get("idempotency-key")
    offset = await client.answer_encoded(topic, question, body, idempotency_key=key)
    return JSONResponse({"offset": offset})
