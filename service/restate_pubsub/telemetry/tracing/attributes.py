"""What spans say of topics, in the words of OpenTelemetry's conventions for messaging."""

from __future__ import annotations

from opentelemetry.trace import Span, StatusCode

SYSTEM = "restate_pubsub"
"""`messaging.system`, for which the conventions allow a name of one's own."""
TYPES = {"publish": "send", "append": "send", "pull": "receive", "deliver": "process"}
"""`messaging.operation.type` of those operations that the conventions have a word for."""


def about(operation: str, topic: str, messages: int | None = None) -> dict[str, str | int]:
    """Return the attributes that say what is done with which topic, and with how many messages."""
    found: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.destination.name": topic,
    }
    if operation in TYPES:
        found["messaging.operation.type"] = TYPES[operation]
    if messages is not None:
        found["messaging.batch.message_count"] = messages
    return found


def failed(span: Span, reason: str) -> None:
    """Mark a span as failed."""
    span.set_status(StatusCode.ERROR, reason)
