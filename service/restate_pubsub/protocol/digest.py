"""A digest of the messages of a request, by which a repetition is told from another request under the same key."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from restate_pubsub.protocol.messages import Message


def digest(before: str, messages: Sequence[Message]) -> str:
    """Return the digest of a stream's messages: `before` is that of the ones before these, "" at its beginning.

    It does not depend on how they are cut into batches.
    """
    for message in messages:
        one = sha256(before.encode())
        one.update(b"%b\n%b" % ((message.event or "").encode(), message.data))
        before = one.hexdigest()[:32]
    return before
