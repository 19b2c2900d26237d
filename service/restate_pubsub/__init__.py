"""Durable topics in Restate, live streams in the browser.

In a Restate endpoint: `create_pubsub_object` (the topics) and `create_pubsub_publisher` (write to them from any
handler). From any other program: `create_pubsub_client`. All errors are `PubsubError`s; `errors.py` draws the tree.

Each name is loaded when it is asked for: a publisher needs no HTTP client, and neither needs an SDK as new as the
object's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restate_pubsub.client.asking import NotAnswered, ask
    from restate_pubsub.client.controlling import answer, stop, withdraw
    from restate_pubsub.client.publisher import create_pubsub_publisher
    from restate_pubsub.client.pubsub_client import (
        Appended,
        PubsubClient,
        Received,
        RetryPolicy,
        Stopped,
        create_pubsub_client,
    )
    from restate_pubsub.client.token_stream import TokenStream
    from restate_pubsub.errors import (
        AlreadyAnswered,
        CallAborted,
        CallFailed,
        InvalidMessage,
        InvalidRequest,
        InvalidTopic,
        KeyReused,
        NoSuchQuestion,
        OffsetGone,
        PubsubError,
        PullTimeout,
        StreamFailed,
        StreamReplaced,
        StreamStopped,
        TooLarge,
        TooManyQuestions,
        TopicClosed,
        Unavailable,
        WrongAddress,
    )
    from restate_pubsub.protocol.limits import Limits
    from restate_pubsub.topic.policy import Retention
    from restate_pubsub.topic.virtual_object import create_pubsub_object

__all__ = [
    "AlreadyAnswered",
    "Appended",
    "CallAborted",
    "CallFailed",
    "InvalidMessage",
    "InvalidRequest",
    "InvalidTopic",
    "KeyReused",
    "Limits",
    "NoSuchQuestion",
    "NotAnswered",
    "OffsetGone",
    "PubsubClient",
    "PubsubError",
    "PullTimeout",
    "Received",
    "Retention",
    "RetryPolicy",
    "Stopped",
    "StreamFailed",
    "StreamReplaced",
    "StreamStopped",
    "TokenStream",
    "TooLarge",
    "TooManyQuestions",
    "TopicClosed",
    "Unavailable",
    "WrongAddress",
    "answer",
    "ask",
    "create_pubsub_client",
    "create_pubsub_object",
    "create_pubsub_publisher",
    "stop",
    "withdraw",
]

_MODULES = {
    "NotAnswered": "client.asking",
    "answer": "client.controlling",
    "ask": "client.asking",
    "stop": "client.controlling",
    "withdraw": "client.controlling",
    "create_pubsub_publisher": "client.publisher",
    "Appended": "client.pubsub_client",
    "PubsubClient": "client.pubsub_client",
    "Received": "client.pubsub_client",
    "RetryPolicy": "client.pubsub_client",
    "Stopped": "client.pubsub_client",
    "create_pubsub_client": "client.pubsub_client",
    "TokenStream": "client.token_stream",
    "Limits": "protocol.limits",
    "Retention": "topic.policy",
    "create_pubsub_object": "topic.virtual_object",
}
"""Where a public name is, if not in `errors`."""


if not TYPE_CHECKING:  # a type checker shall know the names above, and no others

    def __getattr__(name: str) -> Any:
        """Load a public name."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        if name == "create_pubsub_object":
            import_module("restate_pubsub.topic.sdk").check_sdk()
        value = getattr(import_module(f"restate_pubsub.{_MODULES.get(name, 'errors')}"), name)
        globals()[name] = value  # the next time Python finds it by itself
        return value
