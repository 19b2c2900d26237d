"""Durable topics in Restate, live streams in the browser.

In a Restate endpoint: `create_pubsub_object` (the topics) and `create_pubsub_publisher` (write to them from any
handler). From any other program: `create_pubsub_client`. All errors are `PubsubError`s; `errors.py` draws the tree.
"""

from restate_pubsub.client.publisher import create_pubsub_publisher
from restate_pubsub.client.pubsub_client import Appended, PubsubClient, Received, RetryPolicy, create_pubsub_client
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import (
    CallFailed,
    InvalidMessage,
    InvalidRequest,
    InvalidTopic,
    OffsetGone,
    PubsubError,
    PullTimeout,
    StreamFailed,
    StreamReplaced,
    TooLarge,
    TopicClosed,
    Unavailable,
)
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.topic.policy import Retention
from restate_pubsub.topic.virtual_object import create_pubsub_object

__all__ = [
    "Appended",
    "CallFailed",
    "InvalidMessage",
    "InvalidRequest",
    "InvalidTopic",
    "Limits",
    "OffsetGone",
    "PubsubClient",
    "PubsubError",
    "PullTimeout",
    "Received",
    "Retention",
    "RetryPolicy",
    "StreamFailed",
    "StreamReplaced",
    "TokenStream",
    "TooLarge",
    "TopicClosed",
    "Unavailable",
    "create_pubsub_client",
    "create_pubsub_object",
    "create_pubsub_publisher",
]
