"""The routes of this process as OpenAPI 3.1."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from restate_pubsub.protocol.names import MAX_OFFSET
from restate_pubsub.web.console.routes import CONTENT_TYPES, FILES
from restate_pubsub.web.described import problems, requested
from restate_pubsub.web.described.problems import responses
from restate_pubsub.web.paths import ASYNCAPI, CONSOLE, LIVE, METRICS, OPENAPI, PAGE_CLIENT, READY

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

Operation = dict[str, Any]

_INFO = (
    "Topics in Restate, followed as Server-Sent Events. docs/http.md says it in words. "
    f"What is in the streams is described at `{ASYNCAPI}`. Paths that are not here are answered with 404, other "
    "methods with 405. The object behind this service may be of another version: what it says that this version does "
    "not know is passed on with its own status and the code `call-failed`. The Restate endpoint is Restate's own "
    "protocol, and what replicas hand one another is their own: neither is described."
)


def openapi(settings: Settings, *, public: bool) -> dict[str, Any]:
    """Return the description; `public`: of what the public address of two serves."""
    paths = {
        settings.sse_path: _several(settings),
        f"{settings.sse_path}/{{topic}}": _topic(settings),
        PAGE_CLIENT: _file("The module for pages without a build", "text/javascript"),
        OPENAPI: _file("This description", "application/json"),
        ASYNCAPI: _file("The events of the streams, as AsyncAPI", "application/json"),
        LIVE: _read("The process turns", {"200": _json("It does.", _status("live"))}),
        READY: _read(
            "Calls through Restate reach this deployment's object",
            {"200": _json("They do.", _status("ready")), "503": _json("They do not, or not any more.", _NOT_READY)},
            problems.PROBE,
            [_OBJECT],
        ),
    }
    if not public:
        paths[METRICS] = _read("Prometheus' text format", {"200": _text("The metrics.", "text/plain")})
        if settings.console:
            paths |= _console()
    return {
        "openapi": "3.1.1",
        "info": {"title": "restate-pubsub", "version": version("restate-pubsub"), "description": _INFO},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": problems.SCHEMA},
            "headers": problems.HEADERS,
            **({"securitySchemes": _schemes(settings)} if _guarded(settings) else {}),
        },
    }


def _guarded(settings: Settings) -> bool:
    return settings.jwt_key is not None or settings.jwks_url is not None


def _schemes(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": settings.jwt_cookie},
    }
    if settings.jwt_query:
        found["query"] = {"type": "apiKey", "in": "query", "name": "access_token"}
    return found


def _secured(settings: Settings, operation: Operation) -> Operation:
    """Return the operation with the ways in which a token may come, where one is needed."""
    if not _guarded(settings):
        return operation
    return operation | {"security": [{name: []} for name in _schemes(settings)]}


# --- topics --------------------------------------------------------------------------------------------------------


def _topic(settings: Settings) -> dict[str, Any]:
    write = {"requestBody": requested.message_body(settings)}
    operations = {
        **_following("Follow a topic", requested.following()),
        "post": {
            "summary": "Publish; with `do`, answer a question or stop token streams",
            "parameters": [*requested.publishing(), *requested.controlling()],
            **write,
            "responses": {"200": _json("It is done.", _DONE)} | responses(problems.CONTROL),
        },
        "put": {
            "summary": "Publish, as POST does",
            "parameters": requested.publishing(),
            **write,
            "responses": {"200": _json("It is published.", _PUBLISHED)} | responses(problems.PUBLISH),
        },
        "delete": {
            "summary": "Forget the topic; its offsets go on where they were",
            "responses": {"204": {"description": "It is forgotten."}} | responses(problems.DELETE),
        },
    }
    operations = {method: _secured(settings, operation) for method, operation in operations.items()}
    return {"parameters": [requested.topic_parameter(settings)], **operations, "options": _PREFLIGHT}


def _several(settings: Settings) -> dict[str, Any]:
    operations = _following("Follow several topics on one stream", requested.following_several(settings))
    return {
        **{method: _secured(settings, operation) for method, operation in operations.items()},
        "options": _PREFLIGHT,
    }


def _following(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Operation]:
    says = f"The stream; its events are described at {ASYNCAPI}."
    stream = {"description": says, "content": {"text/event-stream": {}}}
    ended = {"description": "There is nothing more, now and for ever: do not come back."}
    return {
        "get": {
            "summary": summary,
            "parameters": parameters,
            "responses": {"200": stream, "204": ended} | responses(problems.FOLLOW),
        },
        "head": {
            "summary": "What GET would be answered with, without opening a stream",
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "A stream would be opened.",
                    "headers": {"Pubsub-Forwarded": {"schema": {"type": "string"}, "required": True}},
                }
            }
            | responses(problems.FOLLOW, with_body=False),
        },
    }


_OFFSET = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
_PUBLISHED = {
    "type": "object",
    "description": "The place of the first message, the end of the last, how many; nulls where nothing was published.",
    "required": ["offset", "nextOffset", "count"],
    "properties": {
        "offset": _OFFSET | {"type": ["integer", "null"]},
        "nextOffset": _OFFSET | {"type": ["integer", "null"]},
        "count": {"type": "integer", "minimum": 0},
    },
}
_ANSWERED = {
    "type": "object",
    "description": "Where the answer is.",
    "required": ["offset"],
    "properties": {"offset": _OFFSET},
}
_STOPPED = {
    "type": "object",
    "description": "Where the event is, which streams are stopped, and which invocations are cancelled.",
    "required": ["offset", "stopped"],
    "properties": {
        "offset": _OFFSET,
        "stopped": {"type": "array", "items": {"type": "string"}},
        "cancelled": {"type": "array", "items": {"type": "string"}},
    },
}
_DONE = {"anyOf": [_PUBLISHED, _ANSWERED, _STOPPED]}
_PREFLIGHT: Operation = {
    "summary": "A browser asks whether a page of another origin may",
    "responses": {"204": {"description": "It may."}} | responses(problems.PREFLIGHT),
}

# --- the rest ------------------------------------------------------------------------------------------------------

_OBJECT = {
    "name": "object",
    "in": "query",
    "description": "optional: ready from Restate's first answer on, whether it knows the object or not.",
    "schema": {"type": "string", "enum": ["required", "optional"], "default": "required"},
}
_NOT_READY = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"const": "not ready"}, "code": {"type": "string"}, "reason": {"type": "string"}},
}


def _console() -> dict[str, Any]:
    there = {
        "307": {
            "description": "The page is one slash further.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        }
    }
    files = {
        f"{CONSOLE}/{name}": _read(
            "The operators' page", {"200": _text("A part of it.", CONTENT_TYPES[(name or "html").rpartition(".")[2]])}
        )
        for name in FILES
    }
    figures = _read("What this process does now", {"200": _json("The figures.", {"type": "object"})})
    return {CONSOLE: _read("To the operators' page", there), **files, f"{CONSOLE}/figures": figures}


def _read(
    summary: str,
    answers: dict[str, Any],
    refusals: problems.Codes = problems.PLAIN,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return `GET`, and `HEAD`, which is the same without a body."""
    bodiless = {
        status: {name: part for name, part in answer.items() if name != "content"} for status, answer in answers.items()
    }
    more = {"parameters": parameters} if parameters else {}
    return {
        "get": {"summary": summary, **more, "responses": answers | responses(refusals)},
        "head": {"summary": summary, **more, "responses": bodiless | responses(refusals, with_body=False)},
    }


def _file(summary: str, media_type: str) -> dict[str, Any]:
    etag = {"ETag": {"schema": {"type": "string"}, "required": True}}
    found = (
        _text("The file.", media_type) if media_type != "application/json" else _json("The file.", {"type": "object"})
    )
    known = {"description": "It is what `If-None-Match` names."}
    asked = {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of what the caller has.",
        "schema": {"type": "string"},
    }
    return _read(summary, {"200": found | {"headers": etag}, "304": known | {"headers": etag}}, parameters=[asked])


def _status(value: str) -> dict[str, Any]:
    return {"type": "object", "required": ["status"], "properties": {"status": {"const": value}}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _text(description: str, media_type: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}
