"""The Virtual Object: one topic per key. It loads, lets `topic.log` compute, and applies.

Nothing a handler does depends on a clock, on randomness, or on anything else that a replay would see
differently. The order of the commands carries the guarantees: messages before the metadata that counts them,
the metadata before anybody is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

import msgspec
import restate
from restate import ObjectContext, ObjectSharedContext, RunOptions

from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout, TopicClosed
from restate_pubsub.protocol import calls, names
from restate_pubsub.protocol.calls import StreamRef, Subscription
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.limits import DEFAULT_PULL_TIMEOUT, Limits
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import log as topic_log
from restate_pubsub.topic import state as stored
from restate_pubsub.topic import streams
from restate_pubsub.topic.log import Bounds, Retention
from restate_pubsub.topic.read import RAW, get, read
from restate_pubsub.topic.write import clear_written, seal, sweep, write

log = logging.getLogger(__name__)

SUSPECT_AFTER = 2.0
"""Seconds a write may wait for Restate to confirm before its readers here ask Restate themselves."""
SWEEP_PAGES_PER_WRITE = 2
"""A write fills at most the pages it brings, and clears two more: truncation is paid in small coins."""
SWEEP_PAGES_PER_CALL = 64
QUIET_CHECKS = 4
"""The idle timer runs in quarters: a topic goes between one and one and a quarter of its idle time."""


class LocalReaders(Protocol):
    """The readers that live in this process, so that a message need not go through Restate to reach them."""

    @property
    def replica(self) -> str:
        """This process's name among all; it is the `subscriber` that its own pulls name."""

    def follows(self, topic: str) -> bool:
        """Whether anybody here reads the topic. Must not raise."""

    def deliver(self, topic: str, batch: Batch) -> None:
        """Take durable news of a topic. Must not raise."""

    def heard(self, topic: str, tail: int) -> None:
        """A write ran here that was not handed over: the topic goes up to `tail`. Must not raise."""

    def suspect(self, topic: str) -> None:
        """A write was cut off before it was delivered: ask Restate. Must not raise."""


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """How topics behave. `local` is None where no readers live in the object's process."""

    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    pull_timeout: float = DEFAULT_PULL_TIMEOUT
    local: LocalReaders | None = None
    on_write: Callable[[str, int], None] = lambda _handler, _messages: None


class Topic:
    """The handlers of one object name."""

    def __init__(self, name: str, options: TopicOptions) -> None:
        """Keep the name (a topic sends to itself) and the options."""
        self.name = name
        self.options = options

    # --- writes ------------------------------------------------------------------------------------------------

    async def publish(self, ctx: ObjectContext, raw: bytes) -> bytes:
        """Append one message: any JSON."""
        message = Message(compact(raw, self.options.limits.message_bytes))
        offset, _ = await self._append(ctx, "publish", [message], close=False)
        return msgspec.json.encode({"offset": offset})

    async def append(self, ctx: ObjectContext, raw: bytes) -> bytes:
        """Append a batch of messages in one atomic step, and close the topic if asked to."""
        messages, close, stream = calls.decode_append(raw, self.options.limits)
        offset, stop = await self._append(ctx, "append", messages, close=close, stream=stream)
        return msgspec.json.encode({"offset": offset, "nextOffset": stop})

    async def close(self, ctx: ObjectContext) -> bytes:
        """End the topic: readers end at its tail, further messages are refused. Closing twice is closing once."""
        bounds, waiting = await self._load(ctx)
        if not bounds.closed:
            bounds = self._timed(ctx, replace(bounds, closed=True))
            self._save(ctx, bounds)
            await self._announce(ctx, waiting, Batch(bounds.tail, (), bounds.tail, closed=True, head=bounds.head))
        return msgspec.json.encode({"nextOffset": bounds.tail})

    async def truncate(self, ctx: ObjectContext, raw: bytes) -> None:
        """Drop messages from the head; more than there are drops all."""
        count = calls.decode_count(raw)
        bounds, waiting = await self._load(ctx)
        if count == 0 or bounds.head == bounds.tail:
            return
        bounds = topic_log.truncated(bounds, bounds.head + count)
        await self._sweep_on(ctx, bounds)
        await self._announce(ctx, waiting, self._moved(bounds))

    async def sweep(self, ctx: ObjectContext) -> None:
        """Clear what truncation still owes, a part at a time, so that no call is long."""
        bounds, _ = await self._load(ctx)
        await self._sweep_on(ctx, bounds)

    async def delete(self, ctx: ObjectContext) -> None:
        """Forget the topic's messages and state; only the counter stays."""
        bounds, waiting = await self._load(ctx)
        await self._delete(ctx, bounds, waiting)

    async def expire(self, ctx: ObjectContext, raw: bytes) -> None:
        """Delete the topic if nobody wrote to it since; a send that a topic delays to itself."""
        check = msgspec.json.decode(raw, type=IdleCheck)
        bounds, waiting = await self._load(ctx)
        if bounds.timer != check.timer:
            return  # the topic was deleted since, or has another timer
        if self.options.retention.idle is None:
            self._save(ctx, replace(bounds, timer=0))
        elif check.tail == bounds.tail and check.quiet + 1 >= QUIET_CHECKS:
            await self._delete(ctx, bounds, waiting)
        else:
            quiet = check.quiet + 1 if check.tail == bounds.tail else 0
            self._check_later(ctx, IdleCheck(check.timer, bounds.tail, quiet))

    async def subscribe(self, ctx: ObjectContext, raw: bytes) -> None:
        """Resolve an awakeable when there is something from `offset` on."""
        wanted = calls.decode_subscribe(raw)
        bounds, waiting = await self._load(ctx)
        others = [entry for entry in waiting if not _replaces(wanted, entry)]
        if not wanted.cancel:
            if wanted.offset < bounds.head:
                gone = OffsetGone(wanted.offset, bounds.head)
                ctx.reject_awakeable(wanted.id, gone.message, gone.status)
            elif wanted.offset < bounds.tail:
                batch = await read(ctx, bounds, wanted.offset, self.options.limits)
                ctx.resolve_awakeable(wanted.id, calls.encode_notification(replace(batch, head=bounds.head)), RAW)
            elif bounds.closed:
                done = Batch(wanted.offset, (), wanted.offset, closed=True, head=bounds.head)
                ctx.resolve_awakeable(wanted.id, calls.encode_notification(done), RAW)
            else:
                others.append(Subscription(wanted.offset, wanted.id, wanted.subscriber))
        # Pulls that are replaced or crowded out end with nothing, and are not left to their timeouts.
        replaced = [entry for entry in waiting if _replaces(wanted, entry) and entry.id != wanted.id]
        for entry in (*replaced, *others[:-MAX_WAITING]):
            again = Batch(entry.offset, (), entry.offset)
            ctx.resolve_awakeable(entry.id, calls.encode_notification(again), RAW)
        self._save_waiting(ctx, waiting, others[-MAX_WAITING:])

    # --- reads -------------------------------------------------------------------------------------------------

    async def pull(self, ctx: ObjectSharedContext, raw: bytes) -> bytes:
        """Return messages from `offset` on, or wait for some: 408 when none came in time."""
        request = calls.decode_pull(raw)
        named = request.subscriber is not None
        self._check_topic(ctx)
        bounds = stored.decode_bounds((await get(ctx, stored.METADATA_KEY))[0])
        offset = bounds.tail if request.offset is None else request.offset
        if offset < bounds.head:
            raise OffsetGone(offset, bounds.head)
        if offset < bounds.tail:
            batch = await read(ctx, bounds, offset, self.options.limits, request.limit)
            if not batch.messages:  # truncated while we read
                bounds = stored.decode_bounds((await get(ctx, stored.METADATA_KEY))[0])
                if offset < bounds.head:
                    raise OffsetGone(offset, bounds.head)
                msg = f"Message {offset} is missing from the state of topic {ctx.key()!r}: truncate past it to go on"
                raise PubsubError(msg)
        elif bounds.closed:
            batch = Batch(offset, (), offset, closed=True)
        else:
            batch = await self._wait(ctx, offset, request)
            if request.limit is not None and len(batch.messages) > request.limit:
                batch = _cut(batch, request.limit)
        batch = replace(batch, head=bounds.head if batch.head is None else batch.head)
        return calls.encode_pull_response(batch if named else replace(batch, head=None), with_offset=named)

    async def info(self, ctx: ObjectSharedContext) -> bytes:
        """Describe the topic: its bounds, whether it is closed, its size, who waits, what is kept."""
        self._check_topic(ctx)
        raw, waiting = await get(ctx, stored.METADATA_KEY, stored.SUBSCRIPTION_KEY)
        bounds, retention = stored.decode_bounds(raw), self.options.retention
        return msgspec.json.encode(
            {
                "head": bounds.head,
                "tail": bounds.tail,
                "closed": bounds.closed,
                "bytes": bounds.size,
                "subscribers": len(stored.decode_subscriptions(waiting)),
                "retention": {"messages": retention.messages, "bytes": retention.size, "idleSeconds": retention.idle},
            }
        )

    async def _wait(self, ctx: ObjectSharedContext, offset: int, request: calls.PullRequest) -> Batch:
        timeout = self.options.pull_timeout if request.timeout is None else request.timeout
        late = PullTimeout(f"Nothing was published to topic {ctx.key()!r} from offset {offset} on in {timeout:g} s")
        if timeout == 0:
            raise late
        awakeable, news = ctx.awakeable(RAW)
        self._send(ctx, "subscribe", msgspec.json.encode(Subscription(offset, awakeable, request.subscriber)))
        tag, value = await restate.select(news=news, timeout=ctx.sleep(timedelta(seconds=timeout)))
        if tag == "timeout":
            if request.subscriber is None:  # a named subscriber's next call replaces this one
                cancel = Subscription(offset, awakeable, cancel=True)
                self._send(ctx, "subscribe", msgspec.json.encode(cancel))
            raise late
        return calls.decode_notification(value, offset)

    # --- shared parts ------------------------------------------------------------------------------------------

    def _check_topic(self, ctx: ObjectContext | ObjectSharedContext) -> None:
        names.check_topic(ctx.key(), self.options.limits)

    async def _load(self, ctx: ObjectContext, *keys: str) -> tuple[Any, ...]:
        """Read the bounds, who waits, and the values of `keys`, in one round trip."""
        self._check_topic(ctx)
        bounds, waiting, *more = await get(ctx, stored.METADATA_KEY, stored.SUBSCRIPTION_KEY, *keys)
        return stored.decode_bounds(bounds), stored.decode_subscriptions(waiting), *more

    def _save(self, ctx: ObjectContext, bounds: Bounds) -> None:
        ctx.set(stored.METADATA_KEY, stored.encode_bounds(bounds), RAW)

    def _save_waiting(self, ctx: ObjectContext, before: Sequence[Subscription], after: Sequence[Subscription]) -> None:
        if list(after) == list(before):
            return
        if not after:
            ctx.clear(stored.SUBSCRIPTION_KEY)
        else:
            ctx.set(stored.SUBSCRIPTION_KEY, stored.encode_subscriptions(after), RAW)

    def _send(
        self, ctx: ObjectContext | ObjectSharedContext, handler: str, arg: bytes, delay: float | None = None
    ) -> None:
        wait = None if delay is None else timedelta(seconds=delay)
        ctx.generic_send(self.name, handler, arg, key=ctx.key(), send_delay=wait)

    async def _append(
        self,
        ctx: ObjectContext,
        handler: str,
        messages: Sequence[Message],
        *,
        close: bool,
        stream: StreamRef | None = None,
    ) -> tuple[int, int]:
        """Append, and return the offsets of the batch's own messages."""
        bounds, waiting, *more = await self._load(ctx, *([] if stream is None else [stored.STREAMS_KEY]))
        first = bounds.tail
        announced = 0
        if stream is not None:
            known = stored.decode_streams(more[0])
            admitted = streams.admit(known, stream, messages, first)
            if not admitted.messages and stream.id in known and (bounds.closed or not close):
                return known[stream.id].offset, known[stream.id].next_offset  # all of it was done before
            messages, announced = admitted.messages, admitted.announced
        if bounds.closed:
            raise TopicClosed.at(ctx.key(), bounds.tail)
        if not messages and not close:
            return first, first
        data = [message.data for message in messages]
        events = {at: message.event for at, message in enumerate(messages, first) if message.event}
        plan = topic_log.plan_append(bounds, data, events, close=close)
        await write(ctx, bounds, plan, messages)
        grown = topic_log.retained(plan.bounds, self.options.retention)
        grown = await sweep(ctx, grown, self.options.retention, SWEEP_PAGES_PER_WRITE + len(plan.pages))
        grown = self._timed(ctx, grown)
        self._save(ctx, grown)
        # A write may be killed between any two commands: what says that messages are there comes after them, and what
        # they replace goes last, when their readers have the news.
        if stream is not None and messages:
            ctx.set(stored.STREAMS_KEY, stored.encode_streams(admitted.streams), RAW)
        await self._announce(ctx, waiting, Batch(first, messages, grown.tail, closed=close, head=grown.head))
        if self.options.local is not None:
            self.options.local.heard(ctx.key(), grown.tail)
        clear_written(ctx, plan)
        if plan.later is not None and grown.swept < plan.later.stop:
            await seal(ctx, bounds, plan, grown.swept, messages)
        self.options.on_write(handler, len(messages))
        return first + announced, grown.tail

    async def _sweep_on(self, ctx: ObjectContext, bounds: Bounds) -> None:
        """Sweep, save, and go on in another call while something is left."""
        bounds = await sweep(ctx, bounds, self.options.retention, SWEEP_PAGES_PER_CALL)
        self._save(ctx, bounds)
        if topic_log.plan_sweep(bounds, Retention(), SWEEP_PAGES_PER_CALL):
            self._send(ctx, "sweep", b"")

    async def _delete(self, ctx: ObjectContext, bounds: Bounds, waiting: Sequence[Subscription]) -> None:
        if bounds.tail == 0:
            return
        bounds = topic_log.emptied(bounds)
        ctx.clear_all()
        self._save(ctx, bounds)
        self._save_waiting(ctx, (), waiting)
        await self._announce(ctx, waiting, self._moved(bounds))

    def _timed(self, ctx: ObjectContext, bounds: Bounds) -> Bounds:
        """Start the idle timer where it is wanted and none is pending; the tail, which only grows, names it."""
        if self.options.retention.idle is None or bounds.timer or bounds.tail == 0:
            return bounds
        self._check_later(ctx, IdleCheck(bounds.tail, bounds.tail, 0))
        return replace(bounds, timer=bounds.tail)

    def _check_later(self, ctx: ObjectContext, check: IdleCheck) -> None:
        idle = self.options.retention.idle or 0
        self._send(ctx, "expire", msgspec.json.encode(check), delay=idle / QUIET_CHECKS)

    def _moved(self, bounds: Bounds) -> Batch:
        """Return the news that the head has moved: nothing new, but readers must not be shown what is gone."""
        return Batch(bounds.tail, (), bounds.tail, closed=bounds.closed, head=bounds.head)

    async def _announce(self, ctx: ObjectContext, waiting: Sequence[Subscription], news: Batch) -> None:
        """Tell everybody who waits: this process's readers directly, all others through their awakeables.

        Which replica runs is journaled first. That its entry is confirmed proves that all before it is durable;
        and the commands after it depend on the journaled name alone, so a retry elsewhere makes the same ones.
        """
        if not waiting:
            return
        executor = None
        if self.options.local is not None:
            executor = await self._deliver(ctx, self.options.local, news)
        left = []
        for entry in waiting:
            # Its pull goes on waiting, write after write; at the end of a topic nobody needs to wait any more.
            if entry.subscriber is not None and entry.subscriber == executor and not news.closed:
                left.append(entry)
            elif (cut := _news_for(entry, news, self.options.limits)) is not None:
                ctx.resolve_awakeable(entry.id, calls.encode_notification(cut), RAW)
            else:
                left.append(entry)
        self._save_waiting(ctx, waiting, left)

    async def _deliver(self, ctx: ObjectContext, local: LocalReaders, news: Batch) -> str:
        """Journal which replica runs this and has readers; hand it the news once that is confirmed.

        Returns the replica's name, or nothing where its readers have gone: then its old pull is answered like any.
        """
        topic, delivered = ctx.key(), False
        # Restate may be cut off just here and finish the write elsewhere: then only a pull brings it.
        doubt = asyncio.get_running_loop().call_later(SUSPECT_AFTER, local.suspect, topic)

        async def replica() -> str:  # a coroutine: the SDK would run a plain function in a thread
            return local.replica if local.follows(topic) else ""

        try:
            executor = await ctx.run_typed("replica", replica, RunOptions(type_hint=str))
            if executor == local.replica:
                local.deliver(topic, news)
            delivered = True
            return executor
        finally:
            doubt.cancel()
            if not delivered:
                local.suspect(topic)


MAX_WAITING = 1000
"""Anonymous pulls that one topic keeps; beyond, the oldest is answered with nothing and asks again."""


class IdleCheck(msgspec.Struct):
    """The input of `expire`: the timer, the tail it saw last, and for how many checks it has not moved."""

    timer: int
    tail: int
    quiet: int


def _replaces(wanted: Subscription, entry: Subscription) -> bool:
    if wanted.cancel:
        return entry.id == wanted.id
    return wanted.subscriber is not None and entry.subscriber == wanted.subscriber


def _cut(batch: Batch, count: int) -> Batch:
    stop = batch.offset + count
    return replace(batch, messages=batch.messages[:count], next_offset=stop, closed=False)


def _news_for(entry: Subscription, news: Batch, limits: Limits) -> Batch | None:
    """Return what of the news goes to one who waits, None if nothing does."""
    beyond = entry.offset > news.next_offset or (entry.offset == news.next_offset and bool(news.messages))
    if beyond or (entry.subscriber is None and entry.offset == news.next_offset):
        # A reader's offset never goes back: one who waits beyond the tail is only ever told of the end.
        return replace(news, offset=entry.offset, messages=(), next_offset=entry.offset) if news.closed else None
    if entry.subscriber is None:
        skip = max(entry.offset - news.offset, 0)
        news = replace(news, offset=news.offset + skip, messages=news.messages[skip:], head=None)
    if len(news.messages) > limits.pull_messages:
        news = _cut(news, limits.pull_messages)
    return news
