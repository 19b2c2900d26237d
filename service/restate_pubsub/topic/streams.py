"""Streams inside a topic: who may go on with one, what of a batch is new. Pure arithmetic, as in `topic.log`.

A stream has an id that its writer chose. In its first form it has *attempts*: a durable step that is retried opens
the stream again, the log says so with a `restart` event, and a batch of an attempt that was replaced is refused,
so that the words of two attempts are never mixed. In its second form it *counts*: each batch says how many
messages of the stream came before it, and those that are there already are passed over, so that a repeated
request adds nothing however it was cut into batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restate_pubsub.errors import InvalidRequest, StreamReplaced
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.messages import Message, restart_message
from restate_pubsub.topic.state import KnownStream

MAX_KNOWN = 64
"""Streams that one topic remembers: the newest, as a retry comes soon or not at all."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of a batch is appended: `messages`, of which the first `announced` say that the stream was restarted.

    `streams` is what the topic remembers then.
    """

    streams: Mapping[str, KnownStream]
    messages: Sequence[Message]
    announced: int


def admit(streams: Mapping[str, KnownStream], ref: StreamRef, messages: Sequence[Message], tail: int) -> Admitted:
    """Decide over a batch of a stream on a topic that ends at `tail`.

    Raises:
        StreamReplaced: a later attempt of the stream has begun.
        InvalidRequest: the batch leaves out messages of the stream.

    """
    known = streams.get(ref.id)
    announced = 0
    if ref.start is not None:
        have = known.count if known else 0
        if ref.start > have:
            msg = f"stream {ref.id!r}: the batch begins at message {ref.start}, but only {have} are here"
            raise InvalidRequest(msg)
        messages = messages[have - ref.start :]
        known = known or KnownStream(tail, tail, 0)
    elif known is None:
        known = KnownStream(tail, tail, 0, ref.attempt)
    elif known.attempt != ref.attempt:
        if not ref.first:
            raise StreamReplaced.by(ref.id, known.offset)
        if known.count:
            announced = 1
            messages = [restart_message(ref.id, known.offset), *messages]
        known = KnownStream(tail + announced, tail, 0, ref.attempt)
    if not messages:
        return Admitted(streams, messages, announced)
    stop = tail + len(messages)
    offset = known.offset if known.count else tail + announced
    others = {name: other for name, other in streams.items() if name != ref.id}
    kept = dict(list(others.items())[-(MAX_KNOWN - 1) :])
    kept[ref.id] = KnownStream(offset, stop, known.count + len(messages) - announced, known.attempt)
    return Admitted(kept, messages, announced)
