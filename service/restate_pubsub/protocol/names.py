"""Names and numbers that cross the wire, and what they may be: topics, events, token streams, offsets."""

from __future__ import annotations

import re

from restate_pubsub.errors import InvalidRequest, InvalidTopic
from restate_pubsub.protocol.limits import Limits

MAX_OFFSET = 2**53 - 1
"""The largest integer that every JSON reader takes exactly (RFC 8259, section 6)."""


PROBLEM_TYPE = "urn:restate-pubsub:problem:"
"""What the `type` of each of the service's problem documents begins with."""

CLIENT_HEADER = "restate-pubsub-client"
"""In every call of this project's clients to the ingress: the service refuses those that came to it by mistake."""

MAX_EVENT_LENGTH = 64

MAX_SUBSCRIBER_LENGTH = 128

MAX_STREAM_ID_LENGTH = 256
MAX_DIGEST_LENGTH = 64

EVENT_NAME = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_EVENT_LENGTH}}}")

BASE62 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
INVOCATION = re.compile(r"inv_1([0-9A-Za-z]{11})([0-9A-Za-z]{22})")

RESTART_EVENT = "restart"

HEARTBEAT_EVENT = "heartbeat"

STOP_EVENT, QUESTION_EVENT, ANSWER_EVENT = "stop", "question", "answer"

MAX_REASON_LENGTH = 256

RESERVED_EVENTS = frozenset(
    {"reset", "end", RESTART_EVENT, HEARTBEAT_EVENT, STOP_EVENT, QUESTION_EVENT, ANSWER_EVENT, "error", "open"}
)
"""Names that streams use themselves, and the two that `EventSource` fires on its own account."""


def check_stream_id(stream: str) -> None:
    """Refuse a stream id that is empty or too long."""
    if any("\ud800" <= letter <= "\udfff" for letter in stream):
        msg = f"stream id {stream[:40]!r} holds half a surrogate pair, which is no text"
        raise InvalidRequest(msg)
    if not 0 < len(stream) <= MAX_STREAM_ID_LENGTH:
        msg = f"stream id {stream[:40]!r} has {len(stream)} characters; 1 to {MAX_STREAM_ID_LENGTH} are allowed"
        raise InvalidRequest(msg)


def invocation_of(stream: str) -> str | None:
    """Return the invocation that a stream is named after (`<id>`, or `<id>/<number>`), None if it is not.

    An id that Restate cannot read would fail the call that cancels it, for ever. So its two numbers are checked: a
    partition's key of 8 bytes and the invocation's own 16, each in base 62.
    """
    name = stream.partition("/")[0]
    found = INVOCATION.fullmatch(name)
    if found is None or _base62(found[1]) >= 2**64 or _base62(found[2]) >= 2**128:
        return None
    return name


def _base62(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * 62 + BASE62.index(digit)
    return number


def check_reason(reason: str | None) -> None:
    """Refuse a reason for a stop that is too long."""
    if reason is not None and any("\ud800" <= letter <= "\udfff" for letter in reason):
        msg = f"reason {reason[:40]!r} holds half a surrogate pair, which is no text"
        raise InvalidRequest(msg)
    if reason is not None and len(reason) > MAX_REASON_LENGTH:
        msg = f"reason {reason[:40]!r}… has {len(reason)} characters; at most {MAX_REASON_LENGTH} are allowed"
        raise InvalidRequest(msg)


def check_event(event: str | None) -> None:
    """Refuse an event name that a stream could not carry or would take for its own."""
    if event is None:
        return
    if not EVENT_NAME.fullmatch(event):
        msg = f"event {event[:80]!r}: use 1 to {MAX_EVENT_LENGTH} of the characters A-Z a-z 0-9 _ . : -"
        raise InvalidRequest(msg)
    if event in RESERVED_EVENTS:
        reserved = ", ".join(sorted(RESERVED_EVENTS))
        msg = f"event {event!r} is one that streams send themselves ({reserved}): use another name"
        raise InvalidRequest(msg)


def check_topic(topic: str, limits: Limits) -> None:
    """Refuse a topic name that is empty, too long, or not Unicode text."""
    if not topic:
        msg = "The topic is empty; name one"
        raise InvalidTopic(msg)
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        msg = "The topic holds half a surrogate pair, which UTF-8 cannot carry"
        raise InvalidTopic(msg) from None
    if size > limits.topic_bytes:
        msg = f"The topic {topic[:40]!r}… has {size} bytes; at most {limits.topic_bytes} are allowed"
        raise InvalidTopic(msg)


def check_offset(offset: int | None, what: str) -> None:
    """Refuse an offset that no topic can have."""
    if offset is not None and not 0 <= offset <= MAX_OFFSET:
        msg = f"{what}: offset {offset} is not between 0 and {MAX_OFFSET}"
        raise InvalidRequest(msg)
