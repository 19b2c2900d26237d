"""What a request may say: parameters and bodies, with the limits of these settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from restate_pubsub.client.pubsub_client import MAX_KEY_LENGTH
from restate_pubsub.client.token_stream import LONGEST_LINGER
from restate_pubsub.protocol.joined import MAX_FIELD_LENGTH
from restate_pubsub.protocol.names import MAX_REASON_LENGTH, MAX_STREAM_ID_LENGTH
from restate_pubsub.web.requests import OFFSET
from restate_pubsub.web.several.requested import MOST
from restate_pubsub.web.views.requested import AG_UI, AI_SDK

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

_FLAG = {"type": "boolean", "default": False}
_NUMBER = OFFSET.pattern
_PLACE = _NUMBER.removeprefix("-?")


def _parameter(name: str, where: str, description: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "in": where, "description": description, "schema": schema, **more}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return _parameter(name, "query", description, schema)


def topic_parameter(settings: Settings) -> dict[str, Any]:
    """Return the topic in the path."""
    says = f"Any text of 1 to {settings.topic_max_bytes} bytes of UTF-8, percent-escaped. `/` may stand as it is."
    schema = {"type": "string", "minLength": 1, "maxLength": settings.topic_max_bytes}
    return _parameter("topic", "path", says, schema, required=True)


def following() -> list[dict[str, Any]]:
    """Return what a request for one topic may say."""
    return [
        _query(
            "offset",
            "Begin at this offset; `latest`: at what comes from now on; -K: at the last K messages.",
            type="string",
            pattern=f"^(latest|{_NUMBER})?$",
        ),
        *_resuming(f"^({_PLACE})?$", "Where a reader goes on: the `id` of the last event that it has."),
        *_flags(),
        _query("view", "The dialect of a client.", type="string", enum=["", AI_SDK, AG_UI]),
        _query("startIndex", f"With view={AI_SDK}: begin at this chunk.", type="string", pattern=f"^({_NUMBER})?$"),
        _query(
            "done",
            f"With a view, where no answer is in progress. `wait`: the next one. `replay`, with view={AI_SDK}: the "
            "last one, whole, although it has ended.",
            enum=["", "end", "replay", "wait"],
        ),
    ]


def following_several(settings: Settings) -> list[dict[str, Any]]:
    """Return what a request for several topics may say."""
    topic = {"type": "string", "minLength": 1, "maxLength": settings.topic_max_bytes}
    several = {"type": "array", "items": topic, "minItems": 1, "maxItems": MOST, "uniqueItems": True}
    place = f"({_PLACE})?"
    return [
        _parameter("topic", "query", "Each topic once.", several, required=True, style="form", explode=True),
        _query(
            "offset",
            "As for one topic: one for all topics, or one for each, with dots in between.",
            type="string",
            pattern=rf"^(latest|{_NUMBER})?(\.(latest|{_NUMBER})?)*$",
        ),
        *_resuming(
            rf"^{place}(\.{place})*$",
            "Where a reader goes on: the `id` of the last event that it has, with a place for each topic.",
        ),
        *_flags(),
    ]


def _resuming(pattern: str, says: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "pattern": pattern}
    return [
        _parameter("Last-Event-ID", "header", says, schema),
        _query("lastEventId", "The same, for who cannot send the header, which wins.", **schema),
    ]


def _flags() -> list[dict[str, Any]]:
    return [
        _query("join", "false: each message as it was written, and none joined.", **_FLAG | {"default": True}),
        _query("heartbeat", "event: heartbeats that a page can see.", type="string", enum=["", "comment", "event"]),
        _query("strict", "If the place is gone, the answer is 410, and not an event `reset`.", **_FLAG),
    ]


def publishing() -> list[dict[str, Any]]:
    """Return what a request that publishes may say."""
    return [
        _query("close", "The topic ends with this body.", **_FLAG),
        _query(
            "join",
            "The messages continue one another in this field.",
            type="string",
            minLength=1,
            maxLength=MAX_FIELD_LENGTH,
        ),
        _query(
            "linger",
            "Calls of a body of lines begin at least so many seconds apart.",
            type="number",
            minimum=0,
            maximum=LONGEST_LINGER,
        ),
        _parameter(
            "Idempotency-Key",
            "header",
            "It makes a repeated request harmless.",
            {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": "^[!-~]([ -~]*[!-~])?$"},
        ),
    ]


def controlling() -> list[dict[str, Any]]:
    """Return what a request that controls a topic says."""
    return [
        _query(
            "do",
            "answer: the body answers a question; stop: it says which token streams stop.",
            enum=["answer", "stop"],
        ),
        _query("id", "With do=answer: the id of the question.", type="string"),
    ]


def message_body(settings: Settings) -> dict[str, Any]:
    """Return the bodies that publish."""
    most = f"of at most {settings.message_max_bytes} bytes"
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"description": f"One message: any JSON {most}."}},
            "application/x-ndjson": {"schema": {"type": "string", "description": f"A message a line, each {most}."}},
        },
    }


STOP = {
    "type": "object",
    "description": "With do=stop. An empty body stops all token streams that are unfinished.",
    "additionalProperties": False,
    "properties": {
        "id": {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_STREAM_ID_LENGTH},
        "reason": {"type": ["string", "null"], "maxLength": MAX_REASON_LENGTH},
        "cancel": {"type": "boolean", "description": "The invocation that writes the stream ends as well."},
    },
}
