"""What every handler that writes begins and ends with: load a topic, agree on its policy, tell who waits, heal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import msgspec

from restate_pubsub.protocol.calls import StreamRef, Subscription, encode_notification
from restate_pubsub.protocol.limits import DEFAULT_PULL_TIMEOUT, Limits
from restate_pubsub.protocol.messages import Batch, Place
from restate_pubsub.protocol.names import check_topic
from restate_pubsub.topic import remembered, state, waiters
from restate_pubsub.topic.context import ExclusiveContext, Reading
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


class Readers(Protocol):
    """Whom a write hands its news to, so that they need not go through Restate: this process, and its peers.

    None of it may raise.
    """

    @property
    def replica(self) -> str:
        """This process's name among all."""

    def meet(self, subscriber: str) -> None:
        """Somebody pulls, who may be a peer: its news can be handed over later if it is reached by then."""

    def opened(self, topic: str, subscriber: str, opening: str, place: Place) -> bool:
        """Tell the topic's position to the replica that opens it; return whether its pull is to wait from the tail.

        It is not where the replica is another one, where it has given up this opening, or where it has yet to be given
        what lies before the tail.
        """

    def read(self, subscriber: str, reading: str, batch: Batch) -> bool:
        """Hand what was read to the replica that asked for it; return whether it takes it, and needs no answer.

        It does not where it is another one, or has given up this reading.
        """

    def takers(self, topic: str, waiting: Iterable[str], news: Batch) -> list[str]:
        """Return the marks of the replicas that can be handed the news: this one, if it reads the topic, and peers.

        `waiting` are the subscribers of the pulls that wait.
        """

    def deliver(self, topic: str, news: Batch, takers: Collection[str], waiting: Iterable[str]) -> None:
        """Hand durable news to those of the subscribers that are takers, and to this process if it is one.

        Those that cannot be reached from here are passed over.
        """

    def expect_tail(self, topic: str, tail: int) -> None:
        """A write ran here that may not have been handed over: the topic goes up to `tail`."""

    def delivery_uncertain(self, topic: str, takers: Collection[str], waiting: Iterable[str]) -> None:
        """A write was cut off before it was delivered: whoever reads here, or at one of `takers`, asks Restate."""


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """How topics behave. `readers` is None where news go through Restate alone.

    `sent_along` returns the state that came with the call that runs, None where not all of it did; without it, nobody
    is told to ask `history`.
    """

    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    pull_timeout: float = DEFAULT_PULL_TIMEOUT
    readers: Readers | None = None
    on_write: Callable[[str, int], None] = lambda _handler, _messages: None
    tracing: Tracing | None = None
    sent_along: Callable[[], Mapping[str, bytes] | None] | None = None


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


async def pull_settings(ctx: Reading, options: TopicOptions) -> PullSettings:
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


async def remind(ctx: ExclusiveContext, options: TopicOptions, waiting: Sequence[Subscription], bounds: Bounds) -> None:
    """Have everybody who waits look, whether they have missed anything; this process's readers are told directly."""
    executor = b""
    readers = options.readers
    if readers is not None:

        def here() -> bytes:
            known = moved(bounds)
            takers = readers.takers(ctx.key, (), known)
            readers.deliver(ctx.key, known, takers, ())
            return ",".join(takers).encode()

        executor = await ctx.note("reminded", here)
    tell(ctx, waiters.overdue(waiting, bounds, executor.decode()), waiting)


async def announce(ctx: ExclusiveContext, options: TopicOptions, waiting: Sequence[Subscription], news: Batch) -> None:
    """Tell everybody who waits: replicas that can be reached directly, all others through their awakeables.

    Which these are is journaled first. That its entry is confirmed proves that all before it is durable; and the
    commands after it depend on what is journaled alone, so a retry elsewhere makes the same ones.

    That the head has moved is told to this process's readers even if no pull waits just now: nothing else would make
    them look, and whoever came meanwhile would be shown what is gone.
    """
    if waiting or not news.messages:
        takers: Sequence[str] = ()
        if options.readers is not None:
            takers, trace = await _deliver(ctx, options.readers, waiting, news, options.tracing)
            news = replace(news, trace=trace)
        tell(ctx, waiters.announced(waiting, news, takers), waiting)
    if options.readers is not None:
        options.readers.expect_tail(ctx.key, news.next_offset)


async def _deliver(
    ctx: ExclusiveContext, readers: Readers, waiting: Sequence[Subscription], news: Batch, tracing: Tracing | None
) -> tuple[Sequence[str], str]:
    """Journal who takes the news directly, and hand them over once that is confirmed.

    A retry elsewhere hands them to the same replicas, as far as it reaches them: the one before may have died first.

    Returns the takers' marks. With them comes, where it traces, the write's trace: what other replicas are told has to
    be the same in every attempt.
    """
    topic, delivered = ctx.key, False
    subscribers = [entry.subscriber for entry in waiting if entry.subscriber]
    asked: list[str] = []

    def takers() -> bytes:
        asked[:] = readers.takers(topic, subscribers, news)
        trace = "" if tracing is None else tracing.traceparent()
        marks = ",".join(asked)
        return (f"{marks} {trace}" if trace else marks).encode()

    def late() -> None:
        # Restate may be cut off just here and finish the write elsewhere: then only a pull brings it.
        readers.delivery_uncertain(topic, asked, subscribers)

    try:
        marks, _, trace = (await ctx.run("replica", takers, late)).decode().partition(" ")
        told = [mark for mark in marks.split(",") if mark]
        readers.deliver(topic, replace(news, trace=trace) if trace else news, told, subscribers)
        delivered = True
        return told, trace
    finally:
        if not delivered:
            readers.delivery_uncertain(topic, asked, subscribers)
