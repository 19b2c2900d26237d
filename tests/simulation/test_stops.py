"""Every handler, stopped before each of its commands: for good, or to be run again, by the same replica or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import pytest

from restate_pubsub.errors import StreamStopped
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.topic import remembered, state
from restate_pubsub.topic.memory import Call
from restate_pubsub.topic.policy import Policy, Retention
from simulation import guarantee
from simulation.world import FAR, FULL, Feed, Reader, World

Operation = Callable[[World], Call]

LARGE = "x" * 9000
"""Forty of them do not fit in a page."""


def batch(count: int, text: str = "b") -> Operation:
    """Return an append of so many messages."""
    return lambda world: world.append(*(f"{text}{at}" for at in range(count)))


def joined(count: int) -> Operation:
    """Return an append of so many messages that continue one another."""
    return lambda world: world.append(*(f"j{at}" for at in range(count)), join=True)


def opened(attempt: str) -> Operation:
    """Return the opening of an attempt of a stream."""
    return lambda world: world.append(stream=StreamRef("s", attempt, first=True))


def tokens(attempt: str, *texts: str) -> Operation:
    """Return a batch of an attempt."""
    return lambda world: world.append(*texts, stream=StreamRef("s", attempt))


def call(handler: str, argument: object = None) -> Operation:
    """Return a call of a handler."""
    return lambda world: world.send(handler, None if argument is None else msgspec.json.encode(argument))


OPERATIONS: dict[str, Operation] = {
    "publish": lambda world: world.append("p"),
    "batch": batch(5),
    "page": batch(70),
    "joined": joined(5),
    "joined page": joined(70),
    "restart": lambda world: world.append("r", "t", stream=StreamRef("s", "b", first=True), join=True),
    "large": lambda world: world.append(*[LARGE] * 3),
    "many large": lambda world: world.append(*[LARGE] * 70),
    "last": lambda world: world.append("z", close=True),
    "close": call("close"),
    "truncate": call("truncate", 3),
    "truncate all": call("truncate", 1000),
    "delete": call("delete"),
    "sweep": call("sweep", {}),
    "open": opened("a"),
    "asks": lambda world: world.append(stream=StreamRef("s", "a")),
    "stop": lambda world: world.stop("s", "enough"),
    "stop all": lambda world: world.stop(),
    "keyed": lambda world: world.append("k", "l", stream=StreamRef("key", start=0, digest="", last=True)),
}

TOPICS: dict[str, Sequence[Operation]] = {
    "new": (),
    "short": (batch(3),),
    "at a border": (batch(63),),
    "long": (batch(66), batch(10)),
    "large": (lambda world: world.append(*[LARGE] * 62),),
    "joined": (joined(30), batch(2), joined(90)),
    "streams": (opened("a"), tokens("a", "x", "y"), batch(2)),
    "closed": (batch(3), call("close")),
    "truncated": (batch(80), call("truncate", 70)),
}

POLICIES = {
    "everything is kept": Policy(),
    "ten are kept": Policy(retention=Retention(messages=10)),
    "so many bytes are kept": Policy(retention=Retention(size=60_000)),
    "without pages": Policy(pages=False),
    "idle": Policy(retention=Retention(messages=100, idle=60)),
}


@dataclass
class Scene:
    """A topic with a reader of every kind, and two replicas; the second has other settings."""

    world: World

    @classmethod
    def of(cls, before: Sequence[Operation], policy: Policy, *, watched: bool = False) -> Scene:
        """Build the topic; its readers have read it, and wait.

        It comes about in the same way each time, so it is enough if that is `watched` once.
        """
        world = World()
        here = world.replica(policy)
        there = world.replica(Policy(message_bytes=10_000_000, batch_messages=9999, retention=policy.retention))
        if watched:
            guarantee.watch(world)
        for operation in before:
            operation(world)
        world.settle(here)
        if not watched:
            guarantee.watch(world)
        Reader(world, _head(world))
        Feed(world, here, _head(world))
        Feed(world, there, _head(world))
        world.settle(here, fire=False)
        return cls(world)

    def stopped(self, operation: Operation, command: int) -> Call:
        """Run an operation up to before its so many-th command."""
        world = self.world
        call = operation(world)
        world.stop_at(call, command)
        world.next_exclusive()
        while not call.done and world.step(call, world.replicas[0]):
            pass
        return call


def _head(world: World) -> int:
    return state.decode_topic(world.topic.state.get(state.METADATA_KEY)).bounds.head


def places(before: Sequence[Operation], policy: Policy, operation: str) -> list[int]:
    """Return before which commands an operation is stopped: of one kind in a row, the first two and the last."""
    scene = Scene.of(before, policy, watched=True)
    commands = scene.world.commands[scene.stopped(OPERATIONS[operation], FAR).id]
    kinds = [(name, str(arguments[0])[:2] if arguments else "") for name, arguments in commands]
    inside = {at for at in range(2, len(kinds) - 1) if len(set(kinds[at - 2 : at + 2])) == 1}
    return [at for at in range(len(kinds)) if at not in inside]


VARIED = ("short", "at a border", "truncated", *(["large"] if FULL else []))
CASES = [
    pytest.param(TOPICS[topic], POLICIES[policy], operation, id=f"{operation}-{topic}-{policy}")
    for topic in TOPICS
    for policy in POLICIES
    for operation in OPERATIONS
    if policy == "everything is kept" or topic in VARIED or (topic, policy) == ("large", "so many bytes are kept")
]


@pytest.mark.parametrize(("before", "policy", "operation"), CASES)
def test_killed(before: Sequence[Operation], policy: Policy, operation: str) -> None:
    """An operator kills the call before any command: all is as it was, or as it should be; a write after it is read."""
    for command in places(before, policy, operation):
        scene = Scene.of(before, policy)
        call = scene.stopped(OPERATIONS[operation], command)
        assert not call.done
        scene.world.kill(call)
        scene.world.settle()
        guarantee.at_rest(scene.world)
        scene.world.append("after")
        scene.world.settle()
        guarantee.at_rest(scene.world)


PAIRS = [
    pytest.param(POLICIES[policy], first, second, id=f"{first}-{second}-{policy}")
    for turn, policy in enumerate(("everything is kept", "ten are kept"))
    for row, first in enumerate(OPERATIONS)
    for column, second in enumerate(OPERATIONS)
    if FULL or (row + column) % 2 == turn  # each pair with one of the two
]


@pytest.mark.parametrize(("policy", "first", "second"), PAIRS)
def test_killed_with_another_call_behind_it(policy: Policy, first: str, second: str) -> None:
    """An operator kills a call before any command, and the next one runs at once, before anything is mended."""
    for command in places(TOPICS["short"], policy, first):
        scene = Scene.of(TOPICS["short"], policy)
        world = scene.world
        call = scene.stopped(OPERATIONS[first], command)
        OPERATIONS[second](world)
        world.kill(call)
        world.settle(fire=False)
        world.append("after")
        world.settle(world.replicas[1])
        guarantee.at_rest(world)


@pytest.mark.parametrize("topic", ["new", "short", "at a border", "streams"])
def test_a_request_that_was_killed_and_is_repeated_is_there_once(topic: str) -> None:
    """Its key is counted in the same step as its messages."""
    for command in places(TOPICS[topic], Policy(), "keyed"):
        scene = Scene.of(TOPICS[topic], Policy())
        scene.world.kill(scene.stopped(OPERATIONS["keyed"], command))
        OPERATIONS["keyed"](scene.world)
        scene.world.settle()
        guarantee.at_rest(scene.world)
        texts = [message.data for _, message in sorted(scene.world.log.items())]
        assert [b'"k"', b'"l"'] == [text for text in texts if text in (b'"k"', b'"l"')]


@pytest.mark.parametrize("topic", ["new", "short", "at a border", "streams", "truncated"])
def test_a_stream_is_stopped_in_the_step_that_says_so(topic: str) -> None:
    """A stop is killed before any command: its event is there, the stream refused, or neither; a second ends it."""
    for command in places(TOPICS[topic], Policy(), "stop"):
        scene = Scene.of(TOPICS[topic], Policy())
        world = scene.world
        world.kill(scene.stopped(OPERATIONS["stop"], command))
        opening = opened("later")(world)
        world.settle()
        said = [message for message in world.log.values() if message.event == "stop"]
        assert isinstance(opening.outcome, StreamStopped) == bool(said)
        OPERATIONS["stop"](world)
        refused = [opened("last")(world), tokens("a", "late")(world), tokens("later", "late")(world)]
        world.settle(world.replicas[1])
        guarantee.at_rest(world)
        assert [StreamStopped] * 3 == [type(call.outcome) for call in refused]
        assert 1 == len([message for message in world.log.values() if message.event == "stop"])


def all_opened(world: World) -> Call:
    """Open three streams, of which one ends and one is silent."""
    for stream in ("ended", STEP, "silent"):
        world.append(stream=StreamRef(stream, "a", first=True))
    world.append("e", stream=StreamRef("ended", "a", last=True))
    last = world.append("w", stream=StreamRef(STEP, "a"))
    world.settle(fire=False)
    return last


INVOCATION = "inv_1gdJBtdVEcM942bjcDmb1c1khoaJe11Hbz"
STEP = f"{INVOCATION}/1"


@pytest.mark.parametrize("topic", ["new", "short", "at a border", "streams", "truncated"])
def test_all_are_stopped_in_the_step_that_says_so(topic: str) -> None:
    """A stop of all is killed before any command: all that were unfinished are refused, or none is."""
    before = (*TOPICS[topic], all_opened)
    reference = Scene.of(before, Policy())
    call = reference.world.stop(cancel=True)
    reference.world.settle()
    for command in range(len(reference.world.commands[call.id])):
        scene = Scene.of(before, Policy())
        world = scene.world
        world.kill(scene.stopped(lambda world: world.stop(cancel=True), command))
        checks = [world.append("more", stream=StreamRef(stream, "a")) for stream in (STEP, "silent")]
        retry = world.append(stream=StreamRef("ended", "b", first=True))
        later = world.append("l", stream=StreamRef("later", "a", first=True, last=True))
        world.settle(world.replicas[1])
        guarantee.at_rest(world)
        said = len([message for message in world.log.values() if message.event == "stop"])
        assert {StreamStopped if said else bytes} == {type(check.outcome) for check in checks}
        assert isinstance(retry.outcome, bytes)
        assert isinstance(later.outcome, bytes)
        assert not said or world.topic.cancelled == [INVOCATION]
        again = world.stop(cancel=True)
        world.settle()
        guarantee.at_rest(world)
        assert isinstance(again.outcome, bytes)
        stopped = msgspec.json.decode(again.outcome)["stopped"]
        assert stopped == [name for name in stopped if name != "later"]
        assert ({STEP, "silent"} <= set(stopped)) != bool(said)
        assert "ended" in stopped  # its later attempt, which is open
        last = [world.append("x", stream=StreamRef(stream, "a")) for stream in (STEP, "silent", "ended")]
        nothing = world.stop()
        world.settle()
        assert {StreamStopped} == {type(check.outcome) for check in last}
        assert isinstance(nothing.outcome, bytes)
        assert [] == msgspec.json.decode(nothing.outcome)["stopped"]


def test_a_stop_of_all_holds_for_streams_that_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the newest are named, but all are stopped."""
    monkeypatch.setattr(remembered, "LOOKED_AT", 2)
    scene = Scene.of((), Policy())
    world = scene.world
    for stream in "abcd":
        world.append(stream=StreamRef(stream, "1", first=True))
    stopped = world.stop()
    refused = [world.append("x", stream=StreamRef(stream, "1")) for stream in "abcd"]
    world.settle()
    guarantee.at_rest(world)
    assert stopped.outcome == b'{"offset":0,"stopped":["c","d"]}'
    assert {StreamStopped} == {type(call.outcome) for call in refused}


def test_a_stop_of_all_is_remembered_as_long_as_its_event() -> None:
    """Forgetting goes over the streams, moves and keeps those whose stop is still there, and forgets them after."""
    scene = Scene.of((all_opened, batch(3)), Policy(retention=Retention(messages=5)))
    world = scene.world
    world.stop()
    world.append("a", "b", "c")  # what the streams wrote is gone, the event is not
    world.settle()
    guarantee.at_rest(world)
    kept = [opened("2")(world), world.append(stream=StreamRef(STEP, "2", first=True))]
    world.settle(fire=False)
    assert isinstance(kept[1].outcome, StreamStopped)
    batch(20)(world)
    world.settle()
    world.append("z")
    world.settle()
    guarantee.at_rest(world)
    new = world.append(stream=StreamRef(STEP, "3", first=True))
    world.settle()
    assert isinstance(new.outcome, bytes)


def test_who_stops_a_stream_cancels_only_what_was_opened_here() -> None:
    """An invocation that writes elsewhere is none of this topic's."""
    scene = Scene.of((), Policy())
    world = scene.world
    foreign = world.stop(STEP, cancel=True)
    world.append(stream=StreamRef(f"{INVOCATION}/2", "a", first=True))
    own = world.stop(f"{INVOCATION}/2", cancel=True)
    world.settle()
    assert foreign.outcome == b'{"offset":0,"stopped":["%b"]}' % STEP.encode()
    assert isinstance(own.outcome, bytes)
    assert [INVOCATION] == msgspec.json.decode(own.outcome)["cancelled"] == world.topic.cancelled


@pytest.mark.parametrize(("before", "policy", "operation"), CASES)
def test_run_again(before: Sequence[Operation], policy: Policy, operation: str) -> None:
    """The process dies before any command, and its successor right after: another with other settings ends the call."""
    for command in places(before, policy, operation):
        scene = Scene.of(before, policy)
        world = scene.world
        call = scene.stopped(OPERATIONS[operation], command)
        assert not call.done
        world.stop_at(call, 0)
        while not call.done and world.step(call, world.replicas[1]):
            pass
        world.settle(world.replicas[1])
        assert call.done
        guarantee.at_rest(world)
        world.append("after")
        world.settle(world.replicas[0])
        guarantee.at_rest(world)
