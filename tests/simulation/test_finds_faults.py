"""The simulation finds what it is for: with an old fault put back, it fails."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from restate_pubsub.protocol import calls
from restate_pubsub.protocol.calls import StreamRef, Subscription
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import append as append_module_
from restate_pubsub.topic import clearing, handlers, remembered, steps, streams, waiters
from restate_pubsub.topic.log import Bounds, Sweep
from restate_pubsub.topic.memory import MemoryContext
from restate_pubsub.topic.policy import Policy
from restate_pubsub.topic.state import Topic
from simulation import test_peers, test_pulls, test_stops
from simulation.histories import History
from simulation.world import HISTORIES, World

append_module: Any = append_module_
Patch = pytest.MonkeyPatch


def stops(topic: str, policy: str, operation: str) -> None:
    """Stop one operation everywhere, both ways."""
    before, kept = test_stops.TOPICS[topic], test_stops.POLICIES[policy]
    test_stops.test_killed(before, kept, operation)
    test_stops.test_run_again(before, kept, operation)


def pair(first: str, second: str) -> None:
    """Kill one operation everywhere, with another behind it."""
    test_stops.test_killed_with_another_call_behind_it(test_stops.POLICIES["everything is kept"], first, second)


def repeated() -> None:
    """Kill a keyed request everywhere, and repeat it."""
    test_stops.test_a_request_that_was_killed_and_is_repeated_is_there_once("short")


def histories() -> None:
    """Let random histories happen."""
    for seed in range(HISTORIES):
        History(seed).run()


def handed() -> None:
    """Let a write that hands its news over run again elsewhere."""
    test_peers.test_it_runs_again("a page", "both reach it", "nobody reaches it", 2)


def lost() -> None:
    """Lose what a write has handed over."""
    test_peers.test_it_is_killed("a message", "both reach it")


def pulled(log: str, asked: str) -> None:
    """Let another replica end a pull."""
    with pytest.MonkeyPatch.context() as patch:
        test_pulls.test_a_replica_with_other_bounds_ends_it(patch, log, asked, Policy(), small_first=False)


def nothing_is_mended(patch: Patch) -> None:
    """No sweep follows a write: who was not told waits for the next one."""
    for module in (append_module, handlers, clearing):
        patch.setattr(module, "swept_later", lambda _ctx, topic: topic)


def later_news_pass_for_earlier(patch: Patch) -> None:
    """A pull without a name is given news that begin later than where it waits, as if they began there."""

    def news_for(entry: Subscription, news: Batch) -> Batch | None:
        if entry.subscriber is None and entry.offset < news.offset:
            return replace(news, offset=entry.offset, next_offset=entry.offset + len(news.messages), head=None)
        return real(entry, news)

    real = waiters._news_for
    patch.setattr(waiters, "_news_for", news_for)


def keys_go_before_the_metadata(patch: Patch) -> None:
    """What is swept is cleared before the metadata says that it is gone."""
    real = append_module.swept

    async def swept(ctx: Any, *arguments: Any) -> Sweep:
        sweep = await real(ctx, *arguments)
        append_module.clear_swept(ctx, sweep)
        return sweep  # type: ignore[no-any-return]

    for module in (append_module, clearing):
        patch.setattr(module, "swept", swept)


def settings_decide(patch: Patch) -> None:
    """A write goes by the settings of the process that runs it, not by the topic's policy."""

    async def agreed(_ctx: Any, options: steps.TopicOptions, _topic: Topic, _request: Any) -> Policy:
        return options.policy

    patch.setattr(append_module, "_agreed", agreed)


def settings_bound_pulls(patch: Patch) -> None:
    """A pull reads as much as the settings of the process that runs it allow."""

    async def here(_ctx: Any, options: steps.TopicOptions) -> steps.PullSettings:
        return steps.PullSettings.here(options)

    patch.setattr(handlers, "pull_settings", here)


def counts_come_after(patch: Patch) -> None:
    """A stream's count is set by itself, after its messages are counted."""

    async def remember(ctx: Any, topic: Topic, ref: StreamRef, known: streams.KnownStream) -> Topic:
        grown = await real(ctx, topic, ref, known)
        pending.append((ctx, f"{'s' if ref.start is None else 'k'}_{ref.id}", known))
        return replace(grown, last_stream=None)

    def remembered_(_ctx: Any, _topic: Topic) -> None:
        ctx, key, known = pending.pop()
        ctx.set(key, msgspec.json.encode(known))

    pending: list[Any] = []
    real = remembered.remember
    patch.setattr(remembered, "remember", remember)
    patch.setattr(remembered, "remembered", remembered_)


def the_first_batch_decides(patch: Patch) -> None:
    """An attempt takes over with its first batch, whenever it was opened."""

    def admit(known: Any, ref: StreamRef, messages: Sequence[Message], tail: int) -> streams.Admitted:
        late = known is not None and ref.attempt not in (None, known.attempt) and messages
        return real(known, replace_ref(ref) if late else ref, messages, tail)  # type: ignore[no-any-return]

    def replace_ref(ref: StreamRef) -> StreamRef:
        return msgspec.structs.replace(ref, first=True)

    real = append_module.admit
    patch.setattr(append_module, "admit", admit)


def a_stop_is_an_event_and_no_more(patch: Patch) -> None:
    """A stopped stream admits what its writers still say."""

    def admit(known: Any, ref: StreamRef, messages: Sequence[Message], tail: int) -> streams.Admitted:
        going_on = None if known is None else msgspec.structs.replace(known, stopped=None)
        return real(going_on, ref, messages, tail)  # type: ignore[no-any-return]

    real = append_module.admit
    patch.setattr(append_module, "admit", admit)


def only_the_newest_are_known(patch: Patch) -> None:
    """A stream is forgotten when others come after it."""
    real = remembered.lookup

    async def lookup(ctx: Any, topic: Topic, ref: StreamRef, stored: Any) -> Any:
        last = topic.last_stream
        return await real(ctx, topic, ref, stored) if last is None or last.key.endswith(f"_{ref.id}") else None

    patch.setattr(remembered, "lookup", lookup)


def keys_are_ids(patch: Patch) -> None:
    """An idempotency key and a token stream's id are one name."""
    patch.setattr(append_module.state, "stream_key", lambda ref: f"s_{ref.id}")


def names_are_random(patch: Patch) -> None:
    """A stream's name is another one each time it is read, as that of an escaped emoji was."""
    real = calls.decode_append

    def decode_append(raw: bytes) -> Any:
        asked = real(raw)
        if asked.stream is None:
            return asked
        return asked._replace(stream=msgspec.structs.replace(asked.stream, id=asked.stream.id + secrets.token_hex(4)))

    patch.setattr(calls, "decode_append", decode_append)


def any_id_is_taken(patch: Patch) -> None:
    """`subscribe` takes any text for the id of an awakeable, and so does whoever resolves it."""
    patch.setattr(handlers, "is_awakeable", lambda _text: True)
    patch.setattr(waiters, "is_awakeable", lambda _text: True)


def takers_are_asked_for_again(patch: Patch) -> None:
    """Who takes the news of a write is decided by the process that runs it, not by its journal."""

    async def run(self: MemoryContext, name: str, value: Callable[[], bytes], late: Any = None) -> bytes:
        journaled = await real(self, name, value, late)
        return value() if name == "replica" else journaled

    real = MemoryContext.run
    patch.setattr(MemoryContext, "run", run)


def handing_over_is_all(patch: Patch) -> None:
    """A sweep does not tell replicas to look: what was handed over and got lost stays lost."""

    def overdue(waiting: Sequence[Subscription], bounds: Bounds, _executor: str = "") -> waiters.Told:
        told = real([entry for entry in waiting if entry.subscriber is None], bounds)
        named = [entry for entry in waiting if entry.subscriber is not None]
        return waiters.Told(told.answers, [*told.waiting, *named])

    real = waiters.overdue
    patch.setattr(waiters, "overdue", overdue)


def nobody_asks_again(patch: Patch) -> None:
    """A pull does not look whether it is among those who wait."""
    patch.setattr(handlers, "CONFIRM_SECONDS", 1e9)


def one_name_twice() -> None:
    """Write a stream, and a request with more lines under a key of the same name."""
    world = World()
    world.replica()
    world.append(stream=StreamRef("one", "a", first=True))
    world.append("x", "y", "z", stream=StreamRef("one", "a"))
    keyed = world.append("1", "2", "3", "4", stream=StreamRef("one", start=0, digest="", last=True))
    world.settle()
    assert keyed.outcome == b'{"offset":3,"nextOffset":7}'


def bad_id() -> None:
    """Subscribe with text that is no awakeable's id, and write."""
    world = World()
    world.replica()
    world.send("subscribe", b'{"offset":0,"id":"x"}')
    world.append("m")
    world.settle()


FAULTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (nothing_is_mended, lambda: stops("short", "everything is kept", "publish")),
    (nothing_is_mended, lambda: stops("short", "everything is kept", "batch")),
    (nothing_is_mended, lambda: stops("short", "everything is kept", "close")),
    (later_news_pass_for_earlier, lambda: pair("publish", "batch")),
    (keys_go_before_the_metadata, lambda: stops("truncated", "everything is kept", "truncate")),
    (keys_go_before_the_metadata, lambda: stops("short", "ten are kept", "page")),
    (settings_decide, histories),
    (settings_bound_pulls, lambda: pulled("many pages", "from the head")),
    (settings_bound_pulls, lambda: pulled("short", "what is next")),
    (counts_come_after, repeated),
    (the_first_batch_decides, histories),
    (a_stop_is_an_event_and_no_more, histories),
    (only_the_newest_are_known, histories),
    (takers_are_asked_for_again, handed),
    (handing_over_is_all, lost),
    (nobody_asks_again, histories),
    (any_id_is_taken, bad_id),
    (keys_are_ids, one_name_twice),
    (names_are_random, lambda: stops("short", "everything is kept", "keyed")),
]


@pytest.mark.parametrize("look", [one_name_twice, bad_id, handed, lost])
def test_without_the_fault_it_passes(look: Callable[[], None]) -> None:
    """What is told apart by a fault holds without it."""
    look()


@contextlib.contextmanager
def with_fault(put_back: Callable[[Patch], None]) -> Iterator[None]:
    """Put a fault back for a while."""
    with pytest.MonkeyPatch.context() as patch:
        put_back(patch)
        yield


@pytest.mark.parametrize(("fault", "look"), FAULTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_fault_that_is_put_back_is_found(fault: Callable[[Patch], None], look: Callable[[], None]) -> None:
    """One of its checks fails."""
    with with_fault(fault), pytest.raises(Exception):  # noqa: B017, PT011 - whichever check it is
        look()
