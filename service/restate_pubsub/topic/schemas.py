"""JSON schemas of the handlers' inputs and outputs, for Restate's discovery: its UI and OpenAPI show them."""

from __future__ import annotations

from typing import Any

from restate_pubsub.protocol.calls import MAX_TIMEOUT
from restate_pubsub.protocol.names import (
    EVENT_NAME,
    MAX_OFFSET,
    MAX_REASON_LENGTH,
    MAX_STREAM_ID_LENGTH,
    MAX_SUBSCRIBER_LENGTH,
)

Schema = dict[str, Any]

_OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
_EVENT: Schema = {"type": "string", "pattern": f"^{EVENT_NAME.pattern}$"}


def _object(required: list[str], /, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required}


ANY: Schema = {}
NEXT: Schema = _object(["nextOffset"], nextOffset=_OFFSET)
COUNT: Schema = {"type": "integer", "minimum": 0, "description": "How many messages to drop from the head"}
PUBLISHED: Schema = _object(["offset"], offset=_OFFSET)
APPENDED: Schema = _object(["offset", "nextOffset"], offset=_OFFSET, nextOffset=_OFFSET)
APPEND: Schema = _object(
    ["messages"],
    messages={"type": "array", "items": _object(["data"], data=ANY, event=_EVENT)},
    close={"type": "boolean", "default": False},
    stream=_object(
        ["id"],
        id={"type": "string", "minLength": 1, "maxLength": MAX_STREAM_ID_LENGTH},
        attempt={"type": "string", "description": "This attempt's name; one that is opened later replaces it"},
        first={"type": "boolean", "default": False, "description": "Opens the attempt"},
        start={"type": "integer", "minimum": 0, "description": "How many of the stream's messages came before"},
        digest={"type": "string", "description": "The digest of those"},
        last={"type": "boolean", "default": False, "description": "The stream ends with this batch"},
    ),
    join={"type": "string", "minLength": 1, "maxLength": 64, "description": "The field that the messages continue"},
)
STOP: Schema = _object(
    [],
    id={
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_STREAM_ID_LENGTH,
        "description": "The token stream; without it, all that are unfinished",
    },
    reason={"type": "string", "maxLength": MAX_REASON_LENGTH},
    cancel={"type": "boolean", "default": False, "description": "Cancel the invocation that it is named after, too"},
)
STOPPED: Schema = _object(
    ["offset", "stopped"],
    offset=_OFFSET | {"description": "Where the event `stop` is; the tail, where nothing was unfinished"},
    stopped={"type": "array", "items": {"type": "string"}},
    cancelled={"type": "array", "items": {"type": "string"}, "description": "The invocations that are cancelled"},
)
PULL: Schema = _object(
    [],
    offset=_OFFSET | {"description": "The first offset wanted; without it, whatever comes next"},
    limit={"type": "integer", "minimum": 1},
    timeout={"type": "number", "minimum": 0, "maximum": MAX_TIMEOUT, "description": "Seconds to wait"},
    subscriber={"type": "string", "minLength": 1, "maxLength": MAX_SUBSCRIBER_LENGTH},
    join={"type": "boolean", "default": False, "description": "Messages that continue one another may come as one"},
)
PULLED: Schema = _object(
    ["messages", "nextOffset"],
    messages={"type": "array"},
    nextOffset=_OFFSET,
    offset=_OFFSET,
    events={"type": "object", "additionalProperties": _EVENT, "description": "Event names by offset"},
    closed={"type": "boolean"},
    head=_OFFSET,
    spans={"type": "object", "description": "How many offsets a message covers, by index, where more than one"},
)
SUBSCRIBE: Schema = _object(
    ["offset", "id"],
    offset=_OFFSET,
    id={"type": "string", "description": "The awakeable to resolve"},
    subscriber={"type": "string"},
    cancel={"type": "boolean"},
)
QUESTION: Schema = _object(
    ["id", "data"], id={"type": "string", "description": "The awakeable that the answer resolves"}, data=ANY
)
WITHDRAW: Schema = _object(["id"], id={"type": "string"}, finish={"type": "boolean"})
WITHDRAWN: Schema = _object(["withdrawn"], withdrawn={"type": "boolean", "description": "Nobody had answered"})
UNSEAL: Schema = _object([], page={"type": "integer", "minimum": 0, "description": "The page to begin at"})
UNSEALED: Schema = _object(["pages"], pages={"type": "integer"}, next={"type": ["integer", "null"]})
PONG: Schema = _object(["replica", "object"], replica={"type": "string"}, object={"type": "string"})
INFO: Schema = _object(
    ["head", "tail", "closed"],
    head=_OFFSET,
    tail=_OFFSET,
    closed={"type": "boolean"},
    bytes={"type": "integer"},
    whole={"type": "boolean", "description": "`history` may be asked: the topic is small enough to be read at once"},
    subscribers={"type": "integer"},
    retention={"type": "object"},
)
