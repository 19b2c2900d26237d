"""An append, in the order of its commands; the order carries the guarantees (docs/guarantee.md).

A write may be killed between any two commands, or run again from its beginning somewhere else. So what says that
messages are there comes after them, what they replace is cleared after that, and every decision is made by what is
journaled: the topic's state, and values that were taken once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from restate_pubsub.errors import TooLarge, TopicClosed
from restate_pubsub.protocol.calls import StopRequest, StreamRef
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import remembered, state
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.log import PAGE, Joining, plan_append, plan_sweep, retained
from restate_pubsub.topic.policy import Policy
from restate_pubsub.topic.state import Topic
from restate_pubsub.topic.steps import (
    Loaded,
    TopicOptions,
    announce,
    current_policy,
    is_marked,
    load,
    save,
    swept_later,
    swept_soon,
    timed,
)
from restate_pubsub.topic.streams import Admitted, Halt, KnownStream, admit, stop, writer_name
from restate_pubsub.topic.write import clear_obsolete, clear_swept, seal, swept, write

SWEEP_PAGES = 2
"""A write fills at most the pages that it brings, and clears two more: truncation is paid in small coins."""
LIKELY_FILLS = PAGE // 4
"""A batch of so many messages often fills a page: what that needs is read together with all else, in one round trip."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be written, by which handler; `join` names the field in which the messages continue one another.

    With `stop`, its one message is the event that stops `stream`; with `halt`, the one that stops all.
    """

    handler: str
    messages: Sequence[Message]
    close: bool = False
    stream: StreamRef | None = None
    facts: Sequence[tuple[str, bytes]] = ()
    """State keys that are set just before the metadata: whoever finds them looks whether the messages are there."""
    join: str | None = None
    stop: StopRequest | None = None
    halt: Halt | None = None

    @property
    def asks(self) -> bool:
        """Whether a stream with attempts writes nothing, and only asks if it would be refused."""
        ref = self.stream
        return ref is not None and ref.start is None and not (self.messages or ref.first or ref.last)


class Appended(NamedTuple):
    """Where the batch's own messages are: `[offset, next_offset)`."""

    offset: int
    next_offset: int


async def append(ctx: ExclusiveContext, options: TopicOptions, request: Request) -> Appended:
    """Append a batch in one atomic step, and close the topic if asked to.

    Raises:
        TopicClosed, TooLarge, InvalidTopic: refused.
        StreamStopped, StreamReplaced, KeyReused, InvalidRequest: refused for the sake of its stream.

    """
    # 1. Load the topic, who waits, and the stream; agree on the policy.
    loaded = await load(ctx, options, request.stream, mark=len(request.messages) >= LIKELY_FILLS)
    topic, ref = loaded.topic, request.stream
    bounds, first = topic.bounds, topic.bounds.tail
    policy = await _agreed(ctx, options, topic, request)
    retention = policy.retention

    # 2. What of the batch is new.
    admitted = _admitted(request, loaded.known, first)
    messages, known = admitted.messages, admitted.known
    if (done := _done_before(loaded, request, admitted)) is not None:
        return done
    if bounds.closed:
        raise TopicClosed.at(ctx.key, first)

    # 3. What is to be written, and what goes by retention.
    data = [message.data for message in messages]
    events = {at: message.event for at, message in enumerate(messages, first) if message.event}
    join = None if request.join is None else Joining(request.join, "" if ref is None else writer_name(ref))
    plan = plan_append(
        bounds,
        data,
        events,
        close=request.close,
        pages=policy.pages,
        join=join,
        joined_from=first + admitted.announced,
    )
    kept = retained(plan.bounds, retention)
    budget = SWEEP_PAGES + plan.touched
    # 4. A sweep that makes good what a killed write leaves, and a mark while there are keys that nobody counts.
    answer = topic.answer.after(first, messages) if policy.answers else topic.answer
    grown = replace(topic, bounds=plan.bounds, policy=policy, answer=answer, halt=request.halt or topic.halt)
    clears = not plan.small or bool(plan_sweep(kept, retention, budget))
    mark = clears and not await is_marked(ctx, loaded)
    if clears or loaded.waiting:
        grown = swept_later(ctx, grown)
    if mark:
        ctx.set(state.UNFINISHED_KEY, b"true")
    # 5. The messages.
    await write(ctx, bounds, plan, messages)
    sweep = await swept(ctx, kept, retention, budget)
    # 6. The metadata that counts them, with the stream's count in it; sweeps and timers are sent before it says so.
    grown = replace(grown, bounds=sweep.bounds)
    if ref is not None and known is not None:
        grown = await remembered.remember(ctx, grown, ref, known)
    if sweep.more:
        grown = swept_soon(ctx, grown)
    grown = timed(ctx, grown)
    _save(ctx, grown, request)
    if ref is not None:
        remembered.remembered(ctx, grown)
    # 7. The news, to everybody who waits.
    tail = sweep.bounds.tail
    if messages or request.close:
        news = Batch(first, messages, tail, closed=request.close, head=sweep.bounds.head)
        await announce(ctx, options, loaded.waiting, news)
    # 8. What the pages have taken, and what was swept, is cleared; a page that was left for later is sealed.
    clear_obsolete(ctx, plan)
    clear_swept(ctx, sweep)
    await seal(ctx, bounds, plan, sweep.bounds.swept, messages)
    if mark:
        ctx.clear(state.UNFINISHED_KEY)
    options.on_write(request.handler, len(messages))
    return _where(request, admitted, Appended(first + admitted.announced, tail))


def _save(ctx: ExclusiveContext, topic: Topic, request: Request) -> None:
    for key, value in request.facts:
        ctx.set(key, value)
    save(ctx, topic)


def _admitted(request: Request, known: KnownStream | None, tail: int) -> Admitted:
    if request.stream is None:
        return Admitted(None, request.messages)
    if request.stop is not None:
        return stop(known, request.messages[0], request.stop.reason, tail)
    return admit(known, request.stream, request.messages, tail)


def _where(request: Request, admitted: Admitted, written: Appended) -> Appended:
    """Return where the batch is: of a repetition that adds only the close, where it was."""
    ref, known = request.stream, admitted.known
    if admitted.messages or known is None or ref is None or ref.start is None:
        return written
    return Appended(known.offset, known.next_offset)


def _done_before(loaded: Loaded, request: Request, admitted: Admitted) -> Appended | None:
    """Return where the batch is, if nothing of it is new."""
    bounds, known = loaded.topic.bounds, admitted.known
    if admitted.messages or known != loaded.known or (request.close and not bounds.closed):
        return None
    if bounds.closed and request.asks:
        return None
    if known is not None:
        return Appended(known.offset, known.next_offset)
    return None if bounds.closed else Appended(bounds.tail, bounds.tail)


async def _agreed(ctx: ExclusiveContext, options: TopicOptions, topic: Topic, request: Request) -> Policy:
    """Return the policy by which this write goes: the topic's own, or the settings where that is none or refuses."""
    policy = topic.policy
    if policy is not None:
        try:
            policy.check(request.messages, request.handler)
        except TooLarge:
            policy = None
        else:
            return policy
    policy = await current_policy(ctx, options)
    policy.check(request.messages, request.handler)
    return policy
