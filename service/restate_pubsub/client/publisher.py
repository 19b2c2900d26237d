"""Publish from inside a Restate handler: a one-way send that Restate delivers exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from restate import Context

from restate_pubsub.protocol import calls, messages, names
from restate_pubsub.protocol.json_text import dump

Publish = Callable[..., None]


def create_pubsub_publisher(name: str = "pubsub") -> Publish:
    """Return `publish(ctx, topic, message, event=None)` for the pubsub object `name`.

    It needs no `await` and no key: the send is part of the handler's journal, so it happens once however often the
    handler is retried. Messages of one handler arrive in the order in which they were sent.

    Raises (from `publish`):
        InvalidMessage, InvalidRequest: the message has no JSON form, or the event's name cannot be one.

    """

    def publish(ctx: Context, topic: str, message: Any, *, event: str | None = None) -> None:
        if event is None:
            ctx.generic_send(name, "publish", dump(message), key=topic)
            return
        names.check_event(event)
        body = calls.encode_append([messages.Message(dump(message), event)], close=False)
        ctx.generic_send(name, "append", body, key=topic)

    return publish
