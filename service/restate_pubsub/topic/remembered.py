"""Which streams a topic remembers, and when it forgets them.

Each stream has a state key of its own, so a write costs the same however many there are. An index names them in the
order in which they came. A stream is remembered for as long as a message of it is in the log, and then for an hour:
`due` finds those whose messages are gone and sends a call to `forget` them.
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
LOOKED_AT = 64
"""Streams that one call looks at."""


class Forget(msgspec.Struct):
    """The input of `forget`: which call it is, and how far in the index it goes."""

    upto: int
    round: int


def known_of(topic: Topic, ref: StreamRef, stored: KnownStream | None) -> KnownStream | None:
    """Return what the topic remembers of a stream, given its own state key.

    The metadata knows better of the stream that was written last: a write that is killed may leave the key as it was.
    What is older than the topic, since it was deleted, is forgotten.
    """
    if topic.last_stream is not None and topic.last_stream.key == state.stream_key(ref):
        stored = topic.last_stream.known
    return stored if stored is not None and stored.offset >= topic.since else None


async def adopt(ctx: ExclusiveContext, topic: Topic) -> Topic:
    """Take over the streams that the version before has written into one key."""
    old = state.decode_old_streams((await ctx.get(state.OLD_STREAMS_KEY))[0])
    ours = dict(zip(old, map(state.decode_stream, await ctx.get(*old) if old else []), strict=True))
    first, number = topic.streams or (0, 0)
    for key, known in old.items():
        mine = ours[key]
        if mine is None or mine.next_offset < known.next_offset:
            ctx.set(key, state.encode_stream(known))
            ctx.set(state.index_key(number), key.encode())
            number += 1
    ctx.clear(state.OLD_STREAMS_KEY)
    return replace(topic, streams=(first, number))


def remember(ctx: ExclusiveContext, topic: Topic, ref: StreamRef, known: KnownStream, *, new: bool) -> Topic:
    """Let the metadata say what a stream has written, before it is set; `remembered` sets the stream's own key after.

    So a stream's count and its messages are there in one step.
    """
    key = state.stream_key(ref)
    last = topic.last_stream
    if last is not None and last.key != key:
        ctx.set(last.key, state.encode_stream(last.known))
    first, number = topic.streams or (0, 0)
    if new:
        ctx.set(state.index_key(number), key.encode())
        number += 1
    known = msgspec.structs.replace(known, touched=topic.round)
    return replace(topic, last_stream=LastStream(key, known), streams=(first, number))


def remembered(ctx: ExclusiveContext, topic: Topic) -> None:
    """Set the key of the stream that was written last."""
    if topic.last_stream is not None:
        ctx.set(topic.last_stream.key, state.encode_stream(topic.last_stream.known))


async def _oldest(ctx: ExclusiveContext, topic: Topic, count: int) -> Sequence[tuple[str, KnownStream | None]]:
    first, stop = topic.streams or (0, 0)
    numbers = range(first, min(first + count, stop))
    keys = [(raw or b"").decode() for raw in await ctx.get(*map(state.index_key, numbers))] if numbers else []
    found = dict(zip(keys, await ctx.get(*keys), strict=True)) if keys else {}
    known = {key: state.decode_stream(raw) for key, raw in found.items()}
    if topic.last_stream is not None and topic.last_stream.key in known:
        known[topic.last_stream.key] = topic.last_stream.known
    return [(key, known[key]) for key in keys]


def _gone(topic: Topic, known: KnownStream | None) -> bool:
    return known is None or known.next_offset <= topic.bounds.head


async def due(ctx: ExclusiveContext, topic: Topic) -> tuple[Topic, Forget | None]:
    """Return a call that forgets streams in an hour, if there are some whose messages are gone."""
    if topic.forgetting or not topic.bounds.head:
        return topic, None
    count = 0
    for _, known in await _oldest(ctx, topic, LOOKED_AT):
        if not _gone(topic, known):
            break
        count += 1
    if not count:
        return topic, None
    upto = (topic.streams or (0, 0))[0] + count
    call = Forget(upto, topic.round)
    return replace(topic, forgetting=upto, round=topic.round + 1), call


async def forget(ctx: ExclusiveContext, topic: Topic, call: Forget) -> tuple[Topic, Sequence[str]]:
    """Return the topic without the streams that nobody has written since the call was sent, and the keys to clear.

    Those that were written since go to the end of the index.
    """
    if topic.forgetting != call.upto or topic.streams is None:
        return topic, ()
    first, number = topic.streams
    cleared: list[str] = []
    for at, (key, known) in enumerate(await _oldest(ctx, topic, call.upto - first), first):
        cleared.append(state.index_key(at))
        if _gone(topic, known) and (known is None or known.touched <= call.round):
            cleared.append(key)
        else:
            ctx.set(state.index_key(number), key.encode())
            number += 1
    last = topic.last_stream if topic.last_stream is not None and topic.last_stream.key not in cleared else None
    return replace(topic, streams=(call.upto, number), forgetting=0, last_stream=last), cleared


async def strays(ctx: ExclusiveContext, topic: Topic, keys: Sequence[str]) -> list[str]:
    """Return which of all the topic's keys are of streams that the index does not name."""
    first, stop = topic.streams or (0, 0)
    indexed = {key for key, _ in await _oldest(ctx, topic, stop - first)}
    names = {state.index_key(number) for number in range(first, stop)}
    return [
        key
        for key in keys
        if (key.startswith(("s_", "k_")) and key not in indexed) or (key.startswith("i_") and key not in names)
    ]
