"""The handlers of the Virtual Object, one topic per key: they load, let the pure modules compute, and apply.

Nothing here depends on a clock, on randomness, on a setting, or on anything else that a replay would see differently;
what does is journaled first. The longest one has a file of its own, `append`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from restate_pubsub.errors import InvalidRequest, OffsetGone, PubsubError, PullTimeout
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.answers import Answer
from restate_pubsub.protocol.calls import Subscription
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.limits import JOINED_READ, WHOLE_MAX_BYTES
from restate_pubsub.protocol.messages import Batch, Message, Place
from restate_pubsub.protocol.names import check_topic
from restate_pubsub.topic import asking, remembered, state, waiters
from restate_pubsub.topic.append import Request, append
from restate_pubsub.topic.clearing import cut, delete
from restate_pubsub.topic.context import ExclusiveContext, Reading, SharedContext
from restate_pubsub.topic.log import Bounds, truncated
from restate_pubsub.topic.read import read
from restate_pubsub.topic.sent_along import Snapshot
from restate_pubsub.topic.state import Topic
from restate_pubsub.topic.steps import (
    QUIET_CHECKS,
    IdleCheck,
    PullSettings,
    SweepCall,
    TopicOptions,
    announce,
    check_later,
    current_policy,
    is_marked,
    load,
    moved,
    pull_settings,
    save,
    swept_later,
    tell,
    timed,
)
from restate_pubsub.topic.stopping import stop
from restate_pubsub.topic.unseal import unseal
from restate_pubsub.topic.waiters import NEWS_BYTES, NEWS_MESSAGES, is_awakeable

CONFIRM_SECONDS = 10.0
"""A pull that has waited for so long looks whether it is among those who wait."""
STREAM_BYTES = 1024
"""What a remembered stream counts there, with its keys."""


class Handlers:
    """The handlers of one object."""

    def __init__(self, options: TopicOptions) -> None:
        """Keep the options."""
        self.options = options

    # --- writes ------------------------------------------------------------------------------------------------

    async def publish(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Append one message: any JSON."""
        done = await append(ctx, self.options, Request("publish", [Message(compact(raw))]))
        return msgspec.json.encode({"offset": done.offset})

    async def append(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Append a batch of messages in one atomic step, and close the topic if asked to."""
        asked = calls.decode_append(raw)
        request = Request("append", asked.messages, asked.close, asked.stream, join=asked.join)
        done = await append(ctx, self.options, request)
        return msgspec.json.encode({"offset": done.offset, "nextOffset": done.next_offset})

    async def stop(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Stop a token stream for good, or all: an event says so, and no attempt writes any more. Twice is once."""
        return msgspec.json.encode(await stop(ctx, self.options, calls.decode_stop(raw)))

    async def close(self, ctx: ExclusiveContext) -> bytes:
        """End the topic: readers end at its tail, further messages are refused. Closing twice is closing once."""
        loaded = await load(ctx, self.options)
        topic = loaded.topic
        if not topic.bounds.closed:
            policy = topic.policy or await current_policy(ctx, self.options)
            topic = replace(topic, bounds=replace(topic.bounds, closed=True), policy=policy)
            if loaded.waiting:
                topic = swept_later(ctx, topic)
            topic = timed(ctx, topic)
            save(ctx, topic)
            await announce(ctx, self.options, loaded.waiting, moved(topic.bounds))
        return msgspec.json.encode({"nextOffset": topic.bounds.tail})

    async def truncate(self, ctx: ExclusiveContext, raw: bytes) -> None:
        """Drop messages from the head; more than there are drops all."""
        count = calls.decode_count(raw)
        loaded = await load(ctx, self.options)
        bounds = loaded.topic.bounds
        if count and bounds.head < bounds.tail:
            await cut(ctx, self.options, loaded, truncated(bounds, bounds.head + count))

    async def delete(self, ctx: ExclusiveContext) -> None:
        """Forget the topic's messages and state; only the counter stays."""
        await delete(ctx, self.options, await load(ctx, self.options))

    async def expire(self, ctx: ExclusiveContext, raw: bytes) -> None:
        """Delete the topic if nobody wrote to it since; a send that a topic delays to itself."""
        check = msgspec.json.decode(raw, type=IdleCheck)
        loaded = await load(ctx, self.options)
        topic = loaded.topic
        if topic.timer != check.timer:
            return  # the topic was deleted since, or has another timer
        idle = None if topic.policy is None else topic.policy.retention.idle
        moved = check.tail != topic.bounds.tail
        if idle is None or topic.empty:
            save(ctx, replace(topic, timer=0))
        elif not moved and check.quiet + 1 >= QUIET_CHECKS and not await asking.any_open(ctx, topic):
            await delete(ctx, self.options, loaded)
        else:
            check_later(ctx, IdleCheck(check.timer, topic.bounds.tail, 0 if moved else check.quiet + 1), idle)

    async def sweep(self, ctx: ExclusiveContext, raw: bytes) -> None:
        """Clear what is not counted any more, a part at a time, and make good what a killed call has left undone."""
        call = msgspec.json.decode(raw, type=SweepCall) if raw else SweepCall()
        loaded = await load(ctx, self.options)
        topic = loaded.topic
        topic = replace(topic, policy=await current_policy(ctx, self.options))
        if not call.due:
            topic = replace(topic, sweeping=0)
        elif call.due == topic.sweep_due:
            topic = replace(topic, sweep_due=0)
        topic, forget = remembered.due(topic)
        if forget is not None:
            ctx.send("forget", msgspec.json.encode(forget), remembered.FORGET_SECONDS)
        await cut(ctx, self.options, replace(loaded, topic=topic), topic.bounds, look=True)

    async def forget(self, ctx: ExclusiveContext, raw: bytes) -> None:
        """Forget streams whose messages have been gone for an hour; a send that a topic delays to itself."""
        call = msgspec.json.decode(raw, type=remembered.Forget)
        loaded = await load(ctx, self.options)
        topic, gone, more = await remembered.forget(ctx, loaded.topic, call)
        if topic == loaded.topic:
            return
        if more:
            ctx.send("forget", raw)
        topic = swept_later(ctx, topic)
        mark = not await is_marked(ctx)
        if mark:
            ctx.set(state.UNFINISHED_KEY, b"true")
        save(ctx, topic)
        for key in gone:
            ctx.clear(key)
        if mark:
            ctx.clear(state.UNFINISHED_KEY)

    async def ask(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Append a question; whoever answers it resolves its awakeable."""
        return msgspec.json.encode({"offset": await asking.ask(ctx, self.options, *calls.decode_question(raw, "ask"))})

    async def answer(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Append an answer and resolve the question's awakeable with it; the first one counts."""
        question, data = calls.decode_question(raw, "answer")
        return msgspec.json.encode({"offset": await asking.answer(ctx, self.options, question, data)})

    async def withdraw(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Say that nobody waits for an answer any more."""
        asked = calls.decode_withdraw(raw)
        if asked.finish:
            await asking.finish(ctx, self.options, asked.id)
            return msgspec.json.encode({"withdrawn": False})
        return msgspec.json.encode({"withdrawn": await asking.withdraw(ctx, self.options, asked.id)})

    async def unseal(self, ctx: ExclusiveContext, raw: bytes) -> bytes:
        """Turn pages back into keys, a part at a time, so that the TypeScript object can go on with the topic."""
        done = await unseal(ctx, self.options, await load(ctx, self.options), calls.decode_unseal(raw))
        return msgspec.json.encode({"pages": done.pages, "next": done.next})

    async def subscribe(self, ctx: ExclusiveContext, raw: bytes) -> None:
        """Resolve an awakeable when there is something from `offset` on."""
        wanted = calls.decode_subscribe(raw)
        if not is_awakeable(wanted.id) and not (wanted.cancel and wanted.subscriber and not wanted.id):
            msg = f"subscribe: id {wanted.id[:80]!r} is not an awakeable's: send the id that ctx.awakeable() gives"
            raise InvalidRequest(msg)
        loaded = await load(ctx, self.options)
        bounds = loaded.topic.bounds
        if wanted.cancel or (wanted.offset >= bounds.tail and not bounds.closed):
            tell(ctx, waiters.subscribed(loaded.waiting, wanted, bounds), loaded.waiting)
            return
        if wanted.offset < bounds.head:
            gone = OffsetGone(wanted.offset, bounds.head)
            ctx.reject(wanted.id, gone.message, gone.status)
        else:
            batch = Batch(wanted.offset, (), wanted.offset, closed=True)
            if wanted.offset < bounds.tail:
                batch = await read(ctx, bounds, wanted.offset, NEWS_MESSAGES, NEWS_BYTES)
            ctx.resolve(wanted.id, calls.encode_notification(replace(batch, head=bounds.head)))
        others = Subscription(0, "", wanted.subscriber, cancel=True)  # what it has waiting from before
        tell(ctx, waiters.subscribed(loaded.waiting, others, bounds), loaded.waiting)

    # --- reads -------------------------------------------------------------------------------------------------

    async def pull(self, ctx: SharedContext, raw: bytes) -> bytes:
        """Return messages from `offset` on, or wait for some: 408 when none came in time."""
        request = calls.decode_pull(raw)
        check_topic(ctx.key, self.options.limits)
        if request.subscriber is not None and self.options.readers is not None:
            self.options.readers.meet(request.subscriber)
        topic = await _topic(ctx)
        bounds = topic.bounds
        offset = bounds.tail if request.offset is None else request.offset
        batch = await self._read(ctx, bounds, offset, request)
        if batch is None and request.opening is not None:
            place = Place(bounds.head, bounds.tail, self._whole(topic))
            if not await self._opened(ctx, place, request):
                batch = Batch(offset, (), offset, head=bounds.head, whole=place.whole)
        if batch is None:
            batch = await self._wait(ctx, offset, request)
        return _answered(batch, request)

    async def history(self, ctx: SharedContext, raw: bytes) -> bytes:
        """Return messages as `pull` does, out of the state that Restate sends along: 408 where `pull` is to be asked.

        It never waits, and makes no entry in the journal. Who asks from this very process is given them as they are.
        """
        request = calls.decode_pull(raw)
        check_topic(ctx.key, self.options.limits)
        sent = None if self.options.sent_along is None else self.options.sent_along()
        if sent is None:
            msg = f"Not all of topic {ctx.key!r} came with the call: ask pull"
            raise PullTimeout(msg)
        topic = Snapshot(ctx.key, sent)
        bounds = await _bounds(topic)
        offset = bounds.tail if request.offset is None else request.offset
        batch = await self._read(topic, bounds, offset, request)
        if batch is None:
            msg = f"Topic {ctx.key!r} has nothing yet from offset {offset} on: ask pull, which waits"
            raise PullTimeout(msg)
        readers, who, word = self.options.readers, request.subscriber or "", request.reading
        if readers is not None and word is not None and readers.read(who, word, batch):
            batch = Batch(offset, (), offset, head=batch.head)
        return _answered(batch, request)

    async def _read(self, ctx: Reading, bounds: Bounds, offset: int, request: calls.PullRequest) -> Batch | None:
        """Return what there is from `offset` on, None where that is nothing."""
        if offset < bounds.head:
            raise OffsetGone(offset, bounds.head)
        if offset >= bounds.tail:
            return Batch(offset, (), offset, closed=True, head=bounds.head) if bounds.closed else None
        if bounds.has_inlined(offset):  # then nothing more is asked for: the settings decide no command
            settings = PullSettings.here(self.options)
        else:
            settings = await pull_settings(ctx, self.options)
        most = settings.messages * (JOINED_READ if request.join else 1)
        count = min(request.limit or most, most)
        batch = await read(ctx, bounds, offset, count, settings.size, join=request.join, max_entries=settings.messages)
        if not batch.messages:  # truncated while we read
            bounds = await _bounds(ctx)
            if offset < bounds.head:
                raise OffsetGone(offset, bounds.head)
            msg = f"Message {offset} is missing from the state of topic {ctx.key!r}: truncate past it to go on"
            raise PubsubError(msg)
        return replace(batch, head=bounds.head)

    async def _opened(self, ctx: SharedContext, place: Place, request: calls.PullRequest) -> bool:
        """Tell who opens the topic where it is, and return whether that has worked: it has, if it is this process.

        Journaled: a retry elsewhere goes on to wait, or does not. Nobody is told twice, unless the first call of all
        was lost; then the position may be another one.
        """
        readers, who, word = self.options.readers, request.subscriber or "", request.opening or ""

        def told() -> bytes:
            here = readers is not None and readers.opened(ctx.key, who, word, place)
            return msgspec.json.encode(here)

        return msgspec.json.decode(await ctx.note("opened", told), type=bool)

    async def _wait(self, ctx: SharedContext, offset: int, request: calls.PullRequest) -> Batch:
        timeout = request.timeout
        if timeout is None:
            timeout = (await pull_settings(ctx, self.options)).timeout
        late = PullTimeout(f"Nothing was published to topic {ctx.key!r} from offset {offset} on in {timeout:g} s")
        if timeout == 0:
            raise late

        awakeable = ctx.awakeable()
        ask = msgspec.json.encode(Subscription(offset, awakeable, request.subscriber))
        ctx.send("subscribe", ask)
        value = await ctx.wait(awakeable, min(timeout, CONFIRM_SECONDS))
        if value is None and timeout > CONFIRM_SECONDS:
            waiting = state.decode_subscriptions((await ctx.get(state.SUBSCRIPTION_KEY))[0])
            if all(entry.id != awakeable for entry in waiting):
                ctx.send("subscribe", ask)  # an operator may have killed the first one: then nobody would tell us
            value = await ctx.wait(awakeable, timeout - CONFIRM_SECONDS)
        if value is None:
            ctx.send("subscribe", msgspec.json.encode(Subscription(offset, awakeable, cancel=True)))
            raise late
        told = calls.decode_notification(value, offset)
        exact = request.subscriber is not None or told.offset <= offset
        if (told.messages and exact) or told.closed:
            return _cut(told, request.limit)
        # Told to look: there is more than was handed over, or something before it.
        found = await self._read(ctx, await _bounds(ctx), offset, request)
        return replace(found or Batch(offset, (), offset, head=told.head), trace=told.trace)

    async def info(self, ctx: SharedContext) -> bytes:
        """Describe the topic: its bounds, whether it is closed, its size, who waits, what is kept."""
        check_topic(ctx.key, self.options.limits)
        raw, waiting = await ctx.get(state.METADATA_KEY, state.SUBSCRIPTION_KEY)
        topic = state.decode_topic(raw)
        bounds, retention = topic.bounds, (topic.policy or self.options.policy).retention
        return msgspec.json.encode(
            {
                "head": bounds.head,
                "tail": bounds.tail,
                "closed": bounds.closed,
                "bytes": bounds.size,
                "whole": self._whole(topic) is not None,
                "answer": _described(topic.answer),
                "subscribers": len(state.decode_subscriptions(waiting)),
                "retention": {"messages": retention.messages, "bytes": retention.size, "idleSeconds": retention.idle},
            }
        )

    def _whole(self, topic: Topic) -> int | None:
        """Return a topic's bytes if `history` may be asked: all that is stored is known to be small, and in pages."""
        bounds, (first, stop) = topic.bounds, topic.streams or (0, 0)
        counted = bounds.sized_from <= bounds.swept and topic.streams is not None
        size = bounds.size + (stop - first) * STREAM_BYTES
        pages = topic.policy is not None and topic.policy.pages
        known = self.options.sent_along is not None and counted and pages
        return size if known and size <= WHOLE_MAX_BYTES else None


async def _topic(ctx: Reading) -> Topic:
    return state.decode_topic((await ctx.get(state.METADATA_KEY))[0])


async def _bounds(ctx: Reading) -> Bounds:
    return (await _topic(ctx)).bounds


def _answered(batch: Batch, request: calls.PullRequest) -> bytes:
    """Return a pull's answer; who names itself is told more."""
    named = request.subscriber is not None
    return calls.encode_pull_response(batch if named else replace(batch, head=None, trace=""), with_offset=named)


def _described(answer: Answer) -> dict[str, Any] | None:
    return {"start": answer.start, "end": answer.stop or None, "chunks": answer.chunks} if answer.chunks else None


def _cut(batch: Batch, limit: int | None) -> Batch:
    if limit is None or len(batch.messages) <= limit:
        return batch
    return replace(batch, messages=batch.messages[:limit], next_offset=batch.offset + limit, closed=False)
