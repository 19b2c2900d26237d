"""Which streams a topic remembers, and when it forgets them.

Each stream has a state key of its own, so a write costs the same however many there are. An index names them in the
order in which they came, and each stream knows its number there. A stream is remembered for as long as a message of it
is in the log, and then for an hour: when the head has moved, a call is sent that comes an hour later, and goes over the
index part by part. It forgets the streams whose messages were gone when it was sent and that nobody has written since;
all others get a new number at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.topic import state
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.state import LastStream, Topic
from restate_pubsub.topic.streams import KnownStream

FORGET_SECONDS = 3600.0
"""A writer that comes back within this time is known, even if its messages are gone already."""
LOOKED_AT = 256
"""Streams that one call looks at."""


class Forget(msgspec.Struct):
    """The input of `forget`: the round it belongs to, and how far it goes: in the index, and in the log."""

    round: int
    upto: int
    head: int


async def lookup(ctx: ExclusiveContext, topic: Topic, ref: StreamRef, stored: KnownStream | None) -> KnownStream | None:
    """Return what the topic remembers of a stream, given its own state key.

    The metadata knows better of the stream that was written last: a write that is killed may leave the key as it was.
    What is of an earlier life of the topic, before it was deleted, is forgotten.
    """
    key = state.stream_key(ref)
    if topic.streams is None:  # the version before kept its streams in one key
        old = state.decode_old_streams((await ctx.get(state.OLD_STREAMS_KEY))[0]).get(key)
        if old is not None and (stored is None or stored.next_offset < old.next_offset):
            return old
    if topic.last_stream is not None and topic.last_stream.key == key:
        stored = topic.last_stream.known
    return _halted(topic, key, stored) if stored is not None and stored.life == topic.life else None


def _halted(topic: Topic, key: str, known: KnownStream) -> KnownStream:
    """Return a stream as a stop of all has left it: said once in the metadata, so it holds for all in one step.

    A counted stream is a request that is repeated, and no answer that somebody waits to see end.
    """
    return known if topic.halt is None or not is_token_stream(key) else topic.halt.over(known)


def is_token_stream(key: str) -> bool:
    """Whether a state key is that of a stream with attempts."""
    return key.startswith(state.STREAM_PREFIX)


async def _adopted(ctx: ExclusiveContext, topic: Topic) -> Topic:
    """Take over the streams of a topic that something else wrote last, before the metadata is set.

    The version before left all of them in one key; another program may have left the index without its numbers.
    """
    numbers = [int(key[2:]) for key in await ctx.keys() if key.startswith(state.INDEX_PREFIX) and key[2:].isdigit()]
    first, number = min(numbers, default=0), max(numbers, default=-1) + 1
    old = state.decode_old_streams((await ctx.get(state.OLD_STREAMS_KEY))[0])
    ours = dict(zip(old, map(state.decode_stream, await ctx.get(*old) if old else []), strict=True))
    for key, known in old.items():
        mine = ours[key]
        if mine is None or mine.next_offset < known.next_offset:
            ctx.set(key, state.encode_stream(msgspec.structs.replace(known, number=number, life=topic.life)))
            ctx.set(state.index_key(number), key.encode())
            number += 1
    if old:
        ctx.clear(state.OLD_STREAMS_KEY)
    return replace(topic, streams=(first, number))


async def remember(ctx: ExclusiveContext, topic: Topic, ref: StreamRef, known: KnownStream) -> Topic:
    """Let the metadata say what a stream has written, before it is set; `remembered` sets the stream's own key after.

    So a stream's count and its messages are there in one step.
    """
    if topic.streams is None:
        topic = await _adopted(ctx, topic)
    key = state.stream_key(ref)
    last = topic.last_stream
    if last is not None and last.key != key:
        ctx.set(last.key, state.encode_stream(last.known))
    first, stop = topic.streams or (0, 0)
    number = known.number
    if not first <= number < stop or known.life != topic.life:
        ctx.set(state.index_key(stop), key.encode())
        number, stop = stop, stop + 1
    # What is admitted here was not stopped by the latest halt, and is not by it from now on.
    halts = 0 if topic.halt is None else topic.halt.rank
    known = msgspec.structs.replace(known, number=number, life=topic.life, touched=topic.round, halts=halts)
    return replace(topic, last_stream=LastStream(key, known), streams=(first, stop))


def remembered(ctx: ExclusiveContext, topic: Topic) -> None:
    """Set the key of the stream that was written last."""
    if topic.last_stream is not None:
        ctx.set(topic.last_stream.key, state.encode_stream(topic.last_stream.known))


async def _indexed(
    ctx: ExclusiveContext, topic: Topic, numbers: range
) -> Sequence[tuple[int, str, KnownStream | None]]:
    keys = [(raw or b"").decode() for raw in await ctx.get(*map(state.index_key, numbers))] if numbers else []
    known = list(map(state.decode_stream, await ctx.get(*keys) if keys else []))
    last = topic.last_stream
    return [
        (number, key, None if stream is None else _halted(topic, key, stream))
        for number, key, stream in (
            (number, key, last.known if last is not None and last.key == key else stream)
            for number, key, stream in zip(numbers, keys, known, strict=True)
        )
    ]


async def unfinished(ctx: ExclusiveContext, topic: Topic) -> tuple[list[str], bool]:
    """Return the ids of the newest token streams that nobody has ended, and whether there may be more.

    That a writer is still there, nobody knows: one whose process died is unfinished until it is forgotten.
    """
    first, stop = topic.streams or (0, 0)
    settled = 0 if topic.halt is None else topic.halt.upto
    oldest = max(first, settled, stop - LOOKED_AT)
    found = [
        key.removeprefix(state.STREAM_PREFIX)
        for number, key, known in await _indexed(ctx, topic, range(oldest, stop))
        if known is not None
        and is_token_stream(key)
        and (known.number, known.life) == (number, topic.life)
        and not known.done
        and known.stopped is None
    ]
    return found, topic.streams is None or oldest > max(first, settled)


def due(topic: Topic) -> tuple[Topic, Forget | None]:
    """Return a call that forgets streams in an hour, if messages have gone since the last one was sent."""
    first, stop = topic.streams or (0, 0)
    head = topic.bounds.head
    pending = topic.forgetting and not topic.is_late(topic.forgetting)
    if first == stop or pending or topic.forgot >= head:
        return topic, None
    call = Forget(topic.round, stop, head)
    return replace(topic, forgetting=max(topic.bounds.tail, 1), forgot=head, round=topic.round + 1), call


async def forget(ctx: ExclusiveContext, topic: Topic, call: Forget) -> tuple[Topic, Sequence[str], bool]:
    """Go over a part of the index: return the topic then, the keys to clear, and whether the call has to go on."""
    first, stop = topic.streams or (0, 0)
    if call.round + 1 != topic.round or not topic.forgetting:
        return topic, (), False
    upto = min(call.upto, stop, first + LOOKED_AT)
    cleared: list[str] = []
    last = topic.last_stream
    for number, key, known in await _indexed(ctx, topic, range(first, max(first, upto))):
        cleared.append(state.index_key(number))
        if known is None or known.number != number:
            continue  # another number names it
        if known.next_offset <= call.head and known.touched <= call.round:
            cleared.append(key)
            last = None if last is not None and last.key == key else last
            continue
        known = msgspec.structs.replace(known, number=stop)  # noqa: PLW2901
        ctx.set(state.index_key(stop), key.encode())
        ctx.set(key, state.encode_stream(known))
        last = LastStream(key, known) if last is not None and last.key == key else last
        stop += 1
    more = upto < call.upto and upto < stop
    topic = replace(topic, streams=(max(first, upto), stop), last_stream=last)
    return (topic if more else replace(topic, forgetting=0)), cleared, more


async def strays(ctx: ExclusiveContext, topic: Topic, keys: Sequence[str]) -> list[str]:
    """Return which of all the topic's keys are of streams that the index does not name."""
    if topic.streams is None:
        return []
    first, stop = topic.streams
    indexed = {key for _, key, known in await _indexed(ctx, topic, range(first, stop)) if known is not None}
    names = {state.index_key(number) for number in range(first, stop)}
    return [
        key
        for key in keys
        if (key.startswith(("s_", "k_")) and key not in indexed)
        or (key.startswith(state.INDEX_PREFIX) and key not in names)
    ]
