"""What every handler that writes begins and ends with: load a topic, agree on its policy, tell who waits, heal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import msgspec

from restate_pubsub.protocol.calls import StreamRef, Subscription, encode_notification
from restate_pubsub.protocol.limits import DEFAULT_PULL_TIMEOUT, Limits
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.names import check_topic
from restate_pubsub.topic import remembered, state, waiters
from restate_pubsub.topic.context import ExclusiveContext, SharedContext
from restate_pubsub.topic.log import Bounds
from restate_pubsub.topic.policy import JournaledPolicy, Policy
from restate_pubsub.topic.state import Topic
from restate_pubsub.topic.streams import KnownStream
from restate_pubsub.topic.tracing import Tracing
from restate_pubsub.topic.waiters import Told

SWEEP_SECONDS = 10.0
"""A sweep that makes good what a killed call may leave comes so long after the first such call."""
FIRST_READ = (state.METADATA_KEY, state.SUBSCRIPTION_KEY)
"""The state keys with which every handler begins that runs alone on its topic."""
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

    def expect_tail(self, topic: str, tail: int) -> None:
        """A write ran here that may not have been handed over: the topic goes up to `tail`. Must not raise."""

    def delivery_uncertain(self, topic: str) -> None:
        """A write was cut off before it was delivered: ask Restate. Must not raise."""


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """How topics behave. `local` is None where no readers live in the object's process."""

    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    pull_timeout: float = DEFAULT_PULL_TIMEOUT
    local: LocalReaders | None = None
    on_write: Callable[[str, int], None] = lambda _handler, _messages: None
    tracing: Tracing | None = None


class IdleCheck(msgspec.Struct):
    """The input of `expire`: the timer, the tail it saw last, and for how many checks it has not moved."""

    timer: int
    tail: int
    quiet: int


class SweepCall(msgspec.Struct, omit_defaults=True):
    """The input of `sweep`: the tail at which a delayed one was sent, 0 for one that was sent at once."""

    due: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A topic as a handler finds it: its metadata, who waits, and the stream asked for.

    `marked`: whether a call has left keys that nobody counts, None where that was not asked.
    """

    topic: Topic
    waiting: Sequence[Subscription]
    known: KnownStream | None = None
    marked: bool | None = None


async def load(
    ctx: ExclusiveContext, options: TopicOptions, ref: StreamRef | None = None, *, mark: bool = False
) -> Loaded:
    """Read what a handler needs, in one round trip; `mark`: it will probably ask whether the topic is marked.

    Raises:
        InvalidTopic: the topic is new, and its name is not one.

    """
    keys = list(FIRST_READ)
    if ref is not None:
        keys.append(state.stream_key(ref))
    if mark:
        keys.append(state.UNFINISHED_KEY)
    metadata, waiting, *others = await ctx.get(*keys)
    topic = state.decode_topic(metadata)
    if not topic.exists:
        check_topic(ctx.key, options.limits)
    known = None
    if ref is not None:
        known = await remembered.lookup(ctx, topic, ref, state.decode_stream(others[0]))
    marked = others[-1] is not None if mark else None
    return Loaded(topic, state.decode_subscriptions(waiting), known, marked)


async def is_marked(ctx: ExclusiveContext, loaded: Loaded | None = None) -> bool:
    """Whether a call has left keys that nobody counts: it was killed, or there were too many for one call."""
    if loaded is not None and loaded.marked is not None:
        return loaded.marked
    return (await ctx.get(state.UNFINISHED_KEY))[0] is not None


def save(ctx: ExclusiveContext, topic: Topic) -> None:
    """Set the metadata: from this command on the topic is what it says."""
    ctx.set(state.METADATA_KEY, state.encode_topic(topic))


async def current_policy(ctx: ExclusiveContext, options: TopicOptions) -> Policy:
    """Return the settings of the process that runs this, journaled: a retry elsewhere goes by the same."""
    settings = await ctx.note("settings", lambda: msgspec.json.encode(_journaled(options.policy)))
    stored = msgspec.json.decode(settings, type=JournaledPolicy)
    return stored.policy(answers=stored.answers)


class PullSettings(msgspec.Struct, array_like=True):
    """How much a pull gives, and how many seconds it waits, where its caller does not say."""

    messages: int
    size: int
    timeout: float

    @classmethod
    def here(cls, options: TopicOptions) -> Self:
        """Return the settings of this process. What decides which commands a pull makes is journaled first."""
        return cls(options.limits.pull_messages, options.limits.pull_bytes, options.pull_timeout)


async def pull_settings(ctx: SharedContext, options: TopicOptions) -> PullSettings:
    """Return the settings of the process that runs a pull, journaled: a retry elsewhere reads and waits by the same."""
    settings = await ctx.note("settings", lambda: msgspec.json.encode(PullSettings.here(options)))
    return msgspec.json.decode(settings, type=PullSettings)


def _journaled(policy: Policy) -> JournaledPolicy:
    stored = JournaledPolicy.of(policy)
    return msgspec.structs.replace(stored, answers=policy.answers)


def swept_soon(ctx: ExclusiveContext, topic: Topic) -> Topic:
    """Send a sweep that goes on with what is left to clear, unless one is on its way."""
    if topic.sweeping and not topic.is_late(topic.sweeping):
        return topic
    ctx.send("sweep", msgspec.json.encode(SweepCall()))
    return replace(topic, sweeping=max(topic.bounds.tail, 1))


def swept_later(ctx: ExclusiveContext, topic: Topic) -> Topic:
    """Send a sweep that makes good what this call leaves if it is killed, unless one is pending."""
    if topic.sweep_due and not topic.is_late(topic.sweep_due):
        return topic
    due = max(topic.bounds.tail, 1)
    ctx.send("sweep", msgspec.json.encode(SweepCall(due)), SWEEP_SECONDS)
    return replace(topic, sweep_due=due)


def timed(ctx: ExclusiveContext, topic: Topic) -> Topic:
    """Start the idle timer where it is wanted and none is pending."""
    idle = None if topic.policy is None else topic.policy.retention.idle
    if idle is None or topic.empty or (topic.timer and not topic.is_late(topic.timer_at)):
        return topic
    name = topic.timers + 1
    check_later(ctx, IdleCheck(name, topic.bounds.tail, 0), idle)
    return replace(topic, timer=name, timer_at=topic.bounds.tail, timers=name)


def check_later(ctx: ExclusiveContext, check: IdleCheck, idle: float) -> None:
    """Look again whether the topic is idle, after a quarter of the idle time."""
    ctx.send("expire", msgspec.json.encode(check), idle / QUIET_CHECKS)


def tell(ctx: ExclusiveContext, told: Told, before: Sequence[Subscription]) -> None:
    """Answer those who wait, and keep those who go on waiting."""
    encoded: dict[tuple[int, int, bool, int | None], bytes] = {}
    for answer in told.answers:
        if not waiters.is_awakeable(answer.id):
            continue  # what no Restate can resolve would fail this call for ever
        news = answer.news
        key = (news.offset, news.next_offset, news.closed, news.head)
        if key not in encoded:
            encoded[key] = encode_notification(news)
        ctx.resolve(answer.id, encoded[key])
    if list(told.waiting) == list(before):
        return
    if told.waiting:
        ctx.set(state.SUBSCRIPTION_KEY, state.encode_subscriptions(told.waiting))
    else:
        ctx.clear(state.SUBSCRIPTION_KEY)


def moved(bounds: Bounds) -> Batch:
    """Return the news that the head has moved, or that the topic ended: nobody must be shown what is gone."""
    return Batch(bounds.tail, (), bounds.tail, closed=bounds.closed, head=bounds.head)


async def announce(ctx: ExclusiveContext, options: TopicOptions, waiting: Sequence[Subscription], news: Batch) -> None:
    """Tell everybody who waits: this process's readers directly, all others through their awakeables.

    Which replica runs is journaled first. That its entry is confirmed proves that all before it is durable; and the
    commands after it depend on what is journaled alone, so a retry elsewhere makes the same ones.
    """
    if waiting:
        executor = None
        if options.local is not None:
            executor, trace = await _deliver(ctx, options.local, news, options.tracing)
            news = replace(news, trace=trace)
        tell(ctx, waiters.announced(waiting, news, executor), waiting)
    if options.local is not None:
        options.local.expect_tail(ctx.key, news.next_offset)


async def _deliver(ctx: ExclusiveContext, local: LocalReaders, news: Batch, tracing: Tracing | None) -> tuple[str, str]:
    """Journal which replica runs this and has readers; hand it the news once that is confirmed.

    Returns the replica's name, or nothing where its readers have gone: then its old pull is answered like any. With it
    comes, where it traces, the write's trace: what other replicas are told has to be the same in every attempt.
    """
    topic, delivered = ctx.key, False

    def replica() -> bytes:
        name = local.replica if local.follows(topic) else ""
        trace = "" if tracing is None else tracing.traceparent()
        return (f"{name} {trace}" if trace else name).encode()

    def late() -> None:
        # Restate may be cut off just here and finish the write elsewhere: then only a pull brings it.
        local.delivery_uncertain(topic)

    try:
        executor, _, trace = (await ctx.run("replica", replica, late)).decode().partition(" ")
        if executor == local.replica:
            local.deliver(topic, news)
        delivered = True
        return executor, trace
    finally:
        if not delivered:
            local.delivery_uncertain(topic)
