"""Streams inside a topic: who may go on with one, and what of a batch is new. Pure arithmetic, as in `log`.

A stream has an id that its writer chose. In its first form it has *attempts*: a durable step that is retried opens
the stream again, and from that moment on the attempts that were opened earlier are refused, whenever their batches
arrive. The first batch of the new attempt says `restart` if the one before it had written anything.

In its second form it *counts*: each batch says how many messages of the stream came before it, and those that are
there already are passed over, so that a repeated request adds nothing however it was cut into batches. A digest of
the messages so far tells a repetition from another request that uses the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import msgspec

from restate_pubsub.errors import InvalidRequest, KeyReused, StreamReplaced, StreamStopped
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.digest import digest
from restate_pubsub.protocol.messages import Message, restart_message


class KnownStream(msgspec.Struct, omit_defaults=True, rename="camel", frozen=True):
    """What a topic remembers of one stream.

    `offset` is where its first message is, `next_offset` follows its last, `count` is how many there are. `attempt`
    writes it, `successor` was opened since and has not written yet. Of a counted stream, `digest` is that of all its
    messages, and `opening` that of the first. `done` says that its writer came to its end. `stopped` is where the
    event is that stopped it, for `reason`; nothing is written to it after that. The rest is for `remembered`: its
    `number` in the index, the `life` of the topic in which it was opened, and the round of forgetting and the number
    of the topic's `halts` at which it was written or opened last.
    """

    offset: int
    next_offset: int
    count: int
    attempt: str | None = None
    successor: str | None = None
    digest: str | None = None
    opening: str | None = None
    done: bool = False
    stopped: int | None = None
    reason: str | None = None
    number: int = -1
    life: int = 0
    touched: int = 0
    halts: int = 0


class Halt(NamedTuple):
    """The latest stop of all streams: each that was unfinished then is stopped.

    It is the topic's so many-th (`rank`), and its event is at `offset`. Of the streams that came before the index's
    number `upto`, none is unfinished since.
    """

    rank: int
    offset: int
    upto: int
    reason: str | None = None

    def over(self, known: KnownStream) -> KnownStream:
        """Return what is known of a stream with attempts under this halt."""
        if known.halts >= self.rank or known.done or known.stopped is not None:
            return known
        return msgspec.structs.replace(
            known, stopped=self.offset, reason=self.reason, next_offset=max(known.next_offset, self.offset + 1)
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of a batch is appended: `messages`, of which the first `announced` say that the stream was restarted.

    `known` is what the topic remembers of the stream then, None for a batch without one.
    """

    known: KnownStream | None
    messages: Sequence[Message]
    announced: int = 0


def writer_name(ref: StreamRef) -> str:
    """Return a short name of a stream's attempt, by which its messages are told from all others'."""
    whose = f"{ref.start is None}\n{ref.attempt or ''}\n{ref.id}"
    return sha256(whose.encode()).hexdigest()[:16]


def admit(known: KnownStream | None, ref: StreamRef, messages: Sequence[Message], tail: int) -> Admitted:
    """Decide over a batch of a stream on a topic that ends at `tail`; `known` is what the topic remembers of it.

    Raises:
        StreamStopped: the stream was stopped; no attempt of it is admitted any more.
        StreamReplaced: another attempt of the stream was opened later, or the topic does not know the stream.
        InvalidRequest: the batch leaves out messages of the stream.
        KeyReused: the stream's messages were others when it was sent before.

    """
    if ref.start is not None:
        return _counted(known or KnownStream(tail, tail, 0), ref, ref.start, messages, tail)
    if known is not None and known.stopped is not None:
        raise StreamStopped.at(ref.id, known.stopped, known.reason)
    if known is None:
        if not ref.first:
            raise StreamReplaced.unknown(ref.id)
        known = KnownStream(tail, tail, 0)
    if ref.first and not messages:
        return Admitted(_opened(known, ref), ())
    if ref.attempt == known.attempt and known.successor is None:
        return Admitted(_ended(_grown(known, messages, tail), ref), messages)
    if ref.attempt != known.successor and not ref.first:
        raise StreamReplaced.by(ref.id, known.offset)
    if not messages:  # it only asks, or has nothing to say instead of what stands there
        return Admitted(_ended(known, ref) if ref.last else known, ())
    announced = 1 if known.count else 0
    if announced:
        messages = [restart_message(ref.id, known.offset, known.count), *messages]
    grown = _grown(KnownStream(tail, tail, 0, ref.attempt), messages, tail, announced)
    return Admitted(_ended(grown, ref), messages, announced)


def stop(known: KnownStream | None, message: Message, reason: str | None, tail: int) -> Admitted:
    """Stop a stream, with an event at `tail`, the first time; also one that is yet to be opened.

    It is remembered as long as that event is in the log.
    """
    if known is not None and known.stopped is not None:
        return Admitted(known, ())
    known = known or KnownStream(tail, tail, 0)
    return Admitted(msgspec.structs.replace(known, next_offset=tail + 1, stopped=tail, reason=reason), [message])


def _opened(known: KnownStream, ref: StreamRef) -> KnownStream:
    if known.attempt == ref.attempt:
        return known
    return _unfinished(msgspec.structs.replace(known, successor=ref.attempt))


def _ended(known: KnownStream, ref: StreamRef) -> KnownStream:
    return msgspec.structs.replace(known, done=True) if ref.last else _unfinished(known)


def _unfinished(known: KnownStream) -> KnownStream:
    """Return the stream as one that goes on; if it had ended, it gets a new number in the index."""
    return msgspec.structs.replace(known, done=False, number=-1) if known.done else known


def _grown(known: KnownStream, messages: Sequence[Message], tail: int, announced: int = 0) -> KnownStream:
    if not messages:
        return known
    return msgspec.structs.replace(
        known,
        offset=known.offset if known.count else tail + announced,
        next_offset=tail + len(messages),
        count=known.count + len(messages) - announced,
    )


def _counted(known: KnownStream, ref: StreamRef, start: int, messages: Sequence[Message], tail: int) -> Admitted:
    have = known.count
    if start > have:
        msg = f"stream {ref.id!r}: the batch begins at message {start}, but only {have} are here"
        raise InvalidRequest(msg)
    stop = start + len(messages)
    opening = digest("", messages[:1]) if start == 0 and messages else known.opening
    if known.opening is not None and opening != known.opening:
        raise KeyReused.other_messages(ref.id)
    # A batch that ends before what is here cannot be compared: only the digest of all is kept.
    compared = ref.digest is not None and known.digest is not None and stop >= have
    if compared and known.digest != digest(ref.digest or "", messages[: have - start]):
        raise KeyReused.other_messages(ref.id)
    if (known.done and stop > have) or (ref.last and stop < have):
        raise KeyReused.other_length(ref.id, have)
    new = messages[have - start :]
    grown = _grown(known, new, tail)
    if ref.digest is not None and stop >= have:
        whole = digest(ref.digest, messages)
        grown = msgspec.structs.replace(grown, digest=whole, opening=opening, done=known.done or ref.last)
    return Admitted(grown, new)
