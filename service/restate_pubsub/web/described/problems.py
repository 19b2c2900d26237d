"""Which problems each kind of request may be answered with: status and codes."""

from __future__ import annotations

import http
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from restate_pubsub.errors import (
    AlreadyAnswered,
    CallAborted,
    ClaimMissing,
    Draining,
    Forbidden,
    InvalidMessage,
    InvalidRequest,
    InvalidTopic,
    KeyReused,
    KeysUnavailable,
    NoSuchQuestion,
    NotEnabled,
    OffsetGone,
    PubsubError,
    RequestTooLong,
    StreamFailed,
    StreamReplaced,
    StreamStopped,
    TooLarge,
    TopicClosed,
    Unauthorized,
    Unavailable,
    UnsupportedType,
    WrongAddress,
)
from restate_pubsub.protocol.names import PROBLEM_TYPE

Codes = Mapping[int, frozenset[str]]
PROBLEM = "application/problem+json"


def _codes(*errors: type[PubsubError], more: Mapping[int, Iterable[str]] | None = None) -> Codes:
    """Return the codes of errors, by their status; `more` are those that no class has."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for error in errors:
        found[error.status].add(error.code)
    for status, codes in (more or {}).items():
        found[status].update(codes)
    return {status: frozenset(found[status]) for status in sorted(found)}


_OF_TOKENS = (Unauthorized, Forbidden, ClaimMissing, KeysUnavailable)
_OF_RESTATE = (Unavailable, CallAborted, Draining)
_BEHIND = {502: ("restate-refused", "wrong-address"), 500: ("internal",)}
_FOLLOWING = {
    429: ("too-many-streams-of-client", "topic-rate-of-client", "stream-rate-of-client"),
    503: ("too-many-streams-of-topic", "too-many-streams", "too-many-topics", "stream-rate"),
}
_WRITING = {
    429: ("publish-rate-of-client", "message-rate-of-client", "byte-rate-of-client", "too-many-publishes-of-client"),
    503: ("too-many-publishes",),
}
_CUT = (400, 401, 408, 409, 413, 422, 429, 502, 503)
"""A body of lines that the topic or Restate refused in the middle has the status of what happened."""

PLAIN = _codes(more={500: ("internal",)})
PROBE = _codes(InvalidRequest, more={500: ("internal",)})
FOLLOW = _codes(InvalidRequest, InvalidTopic, *_OF_TOKENS, OffsetGone, *_OF_RESTATE, more=_BEHIND | _FOLLOWING)
DELETE = _codes(InvalidRequest, InvalidTopic, *_OF_TOKENS, NotEnabled, *_OF_RESTATE, more=_BEHIND | _WRITING)
PUBLISH = _codes(
    InvalidRequest,
    InvalidMessage,
    InvalidTopic,
    *_OF_TOKENS,
    NotEnabled,
    TopicClosed,
    StreamReplaced,
    StreamStopped,
    TooLarge,
    RequestTooLong,
    UnsupportedType,
    WrongAddress,
    KeyReused,
    *_OF_RESTATE,
    more=_BEHIND | {status: (*_WRITING.get(status, ()), StreamFailed.code) for status in _CUT},
)
PREFLIGHT = _codes(more={403: ("origin-not-allowed",), 405: ("method-not-allowed",), 500: ("internal",)})


def merged(one: Codes, other: Codes) -> Codes:
    """Return the codes of both."""
    return {status: one.get(status, frozenset()) | other.get(status, frozenset()) for status in sorted({*one, *other})}


CONTROL = merged(PUBLISH, _codes(AlreadyAnswered, NoSuchQuestion))

_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def responses(codes: Codes, *, with_body: bool = True) -> dict[str, Any]:
    """Return the responses of an operation that is refused with these; the answer to `HEAD` has no body."""
    return {str(status): _response(status, sorted(known), with_body=with_body) for status, known in codes.items()}


def _response(status: int, codes: list[str], *, with_body: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"description": f"{http.HTTPStatus(status).phrase}: {', '.join(codes)}"}
    if names := _HEADERS.get(status):
        found["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    if with_body:
        shape = {"status": {"const": status}, "code": {"enum": codes}}
        schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": shape}]}
        found["content"] = {PROBLEM: {"schema": schema}}
    return found


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "What was refused, and why (RFC 9457). Decide by `code`; `detail` is for people.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "pattern": f"^{PROBLEM_TYPE}[a-z-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "pattern": "^[a-z-]+$"},
        "detail": {"type": "string"},
        "nextOffset": {"type": ["integer", "null"], "description": "Of a body of lines, all before it stands."},
        "count": {"type": "integer", "description": "So many lines of the body were published."},
        "requested": {"type": "integer", "description": "The offset that was asked for and is gone."},
        "head": {"type": "integer", "description": "The offset of the oldest message that is still there."},
        "tail": {"type": "integer", "description": "The offset that the next message gets."},
    },
}
HEADERS: Mapping[str, Any] = {
    "WWW-Authenticate": {
        "description": "How a token is sent (RFC 6750).",
        "schema": {"type": "string"},
        "required": True,
    },
    "Allow": {"description": "What is possible here instead.", "schema": {"type": "string"}, "required": True},
    "Retry-After": {
        "description": "Seconds after which another try may succeed.",
        "schema": {"type": "integer", "minimum": 0},
        "required": True,
    },
}
