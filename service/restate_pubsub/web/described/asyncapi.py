"""The events of the streams as AsyncAPI 3."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from restate_pubsub.protocol.names import (
    ANSWER_EVENT,
    EVENT_NAME,
    HEARTBEAT_EVENT,
    MAX_OFFSET,
    MAX_REASON_LENGTH,
    QUESTION_EVENT,
    RESERVED_EVENTS,
    RESTART_EVENT,
    STOP_EVENT,
)
from restate_pubsub.web.described import requested
from restate_pubsub.web.paths import OPENAPI
from restate_pubsub.web.views.requested import AG_UI, AI_SDK

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

Schema = dict[str, Any]

_INFO = (
    "Each channel is one kind of Server-Sent Events stream; each message is one event of it. A message's headers are "
    "the event's `id` and `event` lines, its payload is the `data` line, which is JSON where nothing else is said. "
    f"How a stream is asked for, and what is refused, is described at `{OPENAPI}`."
)

_OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
_TOPIC: Schema = {"topic": {"type": "string", "minLength": 1}}
_RESET: Schema = {"requested": _OFFSET, "head": _OFFSET, "tail": _OFFSET}
_RESTART: Schema = {"id": {"type": "string"}, "offset": _OFFSET, "count": {"type": "integer", "minimum": 1}}
_SINCE = ("count",)
"""What a `restart` that an older version wrote does not say."""
_END: Schema = {"nextOffset": _OFFSET}
_STOP: Schema = {"id": {"type": "string"}, "reason": {"type": "string", "maxLength": MAX_REASON_LENGTH}}
_ID: Schema = {
    "type": "string",
    "pattern": "^[0-9]+$",
    "description": "The offset of the next message: where to go on.",
}
_PLACES: Schema = {
    "type": "string",
    "pattern": r"^[0-9]*(\.[0-9]*)*$",
    "description": "Where to go on in each topic, in the URL's order; empty where that is not known yet.",
}
_CHUNK: Schema = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}


def asyncapi(settings: Settings) -> dict[str, Any]:
    """Return the description."""
    path = settings.sse_path
    topic = requested.topic_parameter(settings)["description"]
    kinds = {
        "topic": (f"{path}/{{topic}}", "A topic", {}, _of_topic()),
        "aiSdk": (
            f"{path}/{{topic}}",
            "The last answer of a topic, for the Vercel AI SDK",
            {"view": AI_SDK},
            _of_ai_sdk(),
        ),
        "agUi": (f"{path}/{{topic}}", "The runs of a topic, for AG-UI and TanStack AI", {"view": AG_UI}, _of_ag_ui()),
        "several": (path, "Several topics on one stream", {}, _of_several()),
    }
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, (address, title, query, messages) in kinds.items():
        parameters = {"parameters": {"topic": {"description": topic}}} if "{topic}" in address else {}
        channels[name] = {"address": address, "title": title, "messages": messages, **parameters}
        wanted = {
            "type": "object",
            "required": sorted(query),
            "properties": {key: {"const": to} for key, to in query.items()},
        }
        binding = {"method": "GET", "query": wanted, "bindingVersion": "0.3.0"}
        operations[name] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": _ENDS[name],
            "bindings": {"http": binding},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "restate-pubsub", "version": version("restate-pubsub"), "description": _INFO},
        "servers": {
            "here": {
                "host": "{host}",
                "protocol": "http",
                "variables": {"host": {"default": "localhost:9080", "description": "Where this file comes from."}},
            }
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
    }


_ENDS = {
    "topic": "After `end` the topic says no more. A response that ends without it was cut: come back with the last id.",
    "aiSdk": "After `[DONE]` the answer is whole. A response that ends without it was cut.",
    "agUi": "The response ends where all runs have ended, with no event of its own. Otherwise it is cut.",
    "several": "After an `end` for each topic all is said. A response that ends before was cut.",
}


def _of_topic() -> dict[str, Any]:
    named = {"type": "string", "pattern": f"^{EVENT_NAME.pattern}$", "not": {"enum": sorted(RESERVED_EVENTS)}}
    question = _object({"id": {"type": "string"}, "question": {}})
    answer = {
        "anyOf": [
            _object({"id": {"type": "string"}, "answer": {}}),
            _object({"id": {"type": "string"}, "withdrawn": {"const": True}}),
        ]
    }
    stop = _object(_STOP, optional=("id", "reason"))
    return {
        "message": _message("A message", {}, of=_ID, contents="Any JSON."),
        "named": _message("A message that has the name of an event", {}, of=_ID, event=named, contents="Any JSON."),
        "restart": _event(
            RESTART_EVENT,
            "A token stream was begun again: drop what it wrote from `offset` on",
            _object(_RESTART, _SINCE),
        ),
        "stop": _event(STOP_EVENT, "A token stream was stopped for good", stop),
        "question": _event(QUESTION_EVENT, "An agent asks", question),
        "answer": _event(ANSWER_EVENT, "A question has its answer, or needs none any more", answer),
        **_control(_ID, {}),
        "heartbeat": _heartbeat(),
    }


def _of_several() -> dict[str, Any]:
    event = {"type": "string", "pattern": f"^{EVENT_NAME.pattern}$"}
    message = _object(_TOPIC | {"offset": _OFFSET, "event": event, "data": {}}, optional=("event",))
    restart = _object(_TOPIC | _RESTART, _SINCE)
    return {
        "message": _message("A message of one of the topics", message, of=_PLACES),
        "restart": _event(RESTART_EVENT, "A token stream of a topic was begun again", restart, of=_PLACES),
        **_control(_PLACES, _TOPIC),
        "heartbeat": _heartbeat(),
    }


def _of_ai_sdk() -> dict[str, Any]:
    done = _message("The answer is whole, and the response ends", {"type": "string", "const": "[DONE]"})
    return {
        "chunk": _message("A chunk of a UI message", _CHUNK, of=_ID),
        "start": _message("Instead of a first chunk that is gone", _object({"type": {"const": "start"}})),
        "resetStep": _message("The step was begun again", _object({"type": {"const": "reset-step"}}), of=_ID),
        "abort": _message("The answer was stopped", _object({"type": {"const": "abort"}}), of=_ID),
        "done": done | {"contentType": "text/plain"},
    }


def _of_ag_ui() -> dict[str, Any]:
    value = _object(_RESTART, _SINCE)
    restart = _object({"type": {"const": "CUSTOM"}, "name": {"const": RESTART_EVENT}, "value": value})
    stopped = {"type": {"const": "RUN_ERROR"}, "message": {"type": "string"}, "code": {"const": "stopped"}}
    ended = {"type": {"const": "RUN_ERROR"}, "message": {"type": "string"}, "code": {"const": "ended"}}
    return {
        "ended": _message("The topic ended before its run did", _object(ended)),
        "event": _message("An event of a run", _CHUNK, of=_ID),
        "restart": _message("A token stream was begun again: drop what it wrote from `offset` on", restart, of=_ID),
        "stopped": _message("The run was stopped", _object(stopped), of=_ID),
    }


def _control(places: Schema, of_topic: Schema) -> dict[str, Any]:
    return {
        "reset": _event(
            "reset", "The place asked for is gone; the stream goes on at `head`", _object(of_topic | _RESET), of=places
        ),
        "end": _event("end", "The topic is closed and this was all", _object(of_topic | _END), of=places),
    }


def _heartbeat() -> dict[str, Any]:
    seconds = _object({"seconds": {"type": "number", "exclusiveMinimum": 0}})
    return _message("The stream lives (heartbeat=event)", seconds, event={"const": HEARTBEAT_EVENT})


def _event(name: str, summary: str, payload: Schema, of: Schema = _ID) -> dict[str, Any]:
    return _message(summary, payload, of=of, event={"const": name})


def _message(
    summary: str, payload: Schema, *, of: Schema | None = None, event: Schema | None = None, contents: str | None = None
) -> dict[str, Any]:
    """Return one event: `of` is its id, None where it has none; `event` its name, None where it has none."""
    lines = {name: schema for name, schema in (("id", of), ("event", event)) if schema is not None}
    headers = {"type": "object", "required": sorted(lines), "properties": lines, "additionalProperties": False}
    return {
        "summary": summary,
        "headers": headers,
        "payload": payload | ({} if contents is None else {"description": contents}),
    }


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }
