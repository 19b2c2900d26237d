"""Scenes that reviewers have found: each was once a violation of docs/guarantee.md."""

from __future__ import annotations

import msgspec
import pytest

from restate_pubsub.errors import StreamReplaced, TopicClosed
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import remembered, state
from restate_pubsub.topic.memory import Call
from restate_pubsub.topic.policy import Policy, Retention
from restate_pubsub.topic.waiters import is_awakeable
from simulation import guarantee
from simulation.world import World


@pytest.fixture
def world() -> World:
    """Return a world with a replica, watched."""
    world = World()
    world.replica()
    guarantee.watch(world)
    return world


def opened(world: World, attempt: str) -> Call:
    return world.append(stream=StreamRef("s", attempt, first=True))


def written(world: World, attempt: str, text: str) -> Call:
    return world.append(text, stream=StreamRef("s", attempt))


def keyed(world: World, key: str) -> Call:
    return world.append(key, stream=StreamRef(key, start=0, digest="", last=True))


def stopped_before(world: World, call: Call, name: str, key: str) -> None:
    """Run a call up to before a command, and kill it."""
    world.next_exclusive()
    for at in range(1000):
        world.stop_at(call, 0 if at == 0 else 1)
        world.step(call, world.replicas[0])
        replay = world.topic.start(world.replicas[0].handlers, call)
        replay.stop()
        if call.done:
            break
        commands = [entry.command for entry in call.journal]
        if any(command.name == name and command.arguments[0] == key for command in commands):
            world.kill(call)
            return
    pytest.fail(f"{name} {key} was never reached")


@pytest.mark.parametrize("prefix", ["sign_1", "prom_1"])
@pytest.mark.parametrize("last", "AQgw")
def test_the_last_letter_of_an_awakeable_has_bits_that_are_zero(prefix: str, last: str) -> None:
    """28 bytes are 37 letters and a third: Restate takes no other, and would try for ever."""
    assert is_awakeable(f"{prefix}{'A' * 37}{last}")
    assert not any(is_awakeable(f"{prefix}{'A' * 37}{other}") for other in "BCxyz019_-")


def test_a_token_stream_does_not_outlive_a_delete_that_was_killed(world: World) -> None:
    """It was open without messages; it is refused, as after any other delete."""
    world.append("m")
    opened(world, "a")
    world.settle()
    call = world.send("delete")
    stopped_before(world, call, "set", state.METADATA_KEY)
    late = written(world, "a", "late")
    world.settle()
    assert isinstance(late.outcome, StreamReplaced)
    guarantee.at_rest(world)


def test_a_stream_is_known_although_the_call_that_forgot_it_was_killed(world: World) -> None:
    """It was opened anew before it was forgotten altogether; what it wrote since is replaced when it opens again."""
    opened(world, "a")
    world.settle()
    written(world, "a", "x1")
    world.settle()
    world.send("truncate", b"5")
    world.settle(fire=False)
    world.send("sweep", b"{}")
    world.settle(fire=False)
    forgetting = next(call for call in world.topic.delayed if call.handler == "forget")
    world.topic.delayed.remove(forgetting)
    world.topic.inbox.append(forgetting)
    stopped_before(world, forgetting, "set", state.METADATA_KEY)
    opened(world, "b")
    written(world, "b", "x2")
    world.append(stream=StreamRef("other", "a", first=True))
    world.settle()
    opened(world, "c")
    written(world, "c", "x3")
    world.settle()
    assert guarantee.streams(world, "s") in ("x3", "x1x3")
    guarantee.at_rest(world)


def test_keys_are_forgotten_although_an_old_stream_is_alive(world: World) -> None:
    """The oldest stream goes to the end of the index, and hundreds behind it are forgotten in one round."""
    world.replicas[0] = world.replica(Policy(retention=Retention(messages=10)))
    opened(world, "a")
    world.settle()
    for at in range(700):
        keyed(world, f"k{at}")
    written(world, "a", "alive")
    world.settle()
    world.send("sweep", b"{}")
    world.settle()
    world.append("one more")
    world.settle()
    left = [key for key in world.topic.state if key.startswith(("k_", "i_"))]
    assert len(left) < 3 * 10
    assert "s_s" in world.topic.state


@pytest.mark.parametrize("handler", ["expire", "forget"])
def test_a_timer_that_was_killed_is_started_again(world: World, handler: str) -> None:
    """After as many messages as the guarantee says."""
    world.replicas[0] = world.replica(Policy(retention=Retention(messages=10, idle=60)))
    keyed(world, "k")
    for at in range(30):
        world.append(str(at))
    world.settle(fire=False)
    world.send("sweep", b"{}")
    world.settle(fire=False)
    assert [call for call in world.topic.delayed if call.handler == handler]
    world.topic.delayed.clear()  # an operator kills them
    for _ in range(3):
        world.append(*(f"m{at}" for at in range(400)))
        world.settle(fire=False)
    world.send("sweep", b"{}")
    world.settle(fire=False)
    assert [call for call in world.topic.delayed if call.handler == handler]


def test_delete_removes_what_a_killed_publish_has_left(world: World) -> None:
    """Also if nothing was ever acknowledged."""
    call = world.append("secret")
    stopped_before(world, call, "set", "m_0")
    assert world.topic.state == {"m_0": b'"secret"'}
    world.send("delete")
    world.settle()
    assert not [key for key in world.topic.state if key.startswith("m_")]


@pytest.mark.parametrize("between", ["subscribe", "truncate", "repeat"])
def test_streams_of_the_version_before_are_taken_over_by_whoever_saves(world: World, between: str) -> None:
    """A call that does not set the metadata leaves them as they are."""
    entry = {"offset": 0, "nextOffset": 1, "count": 1}
    world.topic.state |= {
        "m_0": b'"old"',
        state.METADATA_KEY: b'{"head":0,"tail":1,"openBytes":5,"openData":{"0":"old"},"swept":0,"size":5}',
        state.OLD_STREAMS_KEY: msgspec.json.encode({"k": entry}),
    }
    world.log[0] = Message(b'"old"')
    if between == "subscribe":
        world.send("subscribe", msgspec.json.encode({"offset": 0, "id": f"sign_1{'A' * 38}"}))
    elif between == "truncate":
        world.send("truncate", b"0")
    else:
        world.append("old", stream=StreamRef("k", start=0))
    world.settle()
    world.append("other", stream=StreamRef("other", start=0, digest="", last=True))
    world.settle()
    again = world.append("old", stream=StreamRef("k", start=0))
    world.settle()
    assert again.outcome == b'{"offset":0,"nextOffset":1}'
    guarantee.at_rest(world)
    assert {"k_k", "k_other"} <= set(world.topic.state)


def test_nobody_is_shown_what_a_killed_batch_has_left(world: World) -> None:
    """A reader that looks for a message that retention has just taken finds the page of a batch that was killed."""
    world.replicas[0] = world.replica(Policy(retention=Retention(messages=2)))
    world.append(*(f"m{at}" for at in range(64)))
    world.settle()
    killed = world.append(*(f"phantom{at}" for at in range(200)))
    world.next_exclusive()
    world.stop_at(killed, 30)
    while not killed.done and world.step(killed, world.replicas[0]):
        if "p_1" in world.topic.state:
            break
    world.kill(killed)
    assert "p_1" in world.topic.state
    world.append("x" * 17_000)
    world.append("y" * 17_000)
    world.settle(fire=False)
    for cut in range(40):
        pull = world.send_shared("pull", msgspec.json.encode({"offset": 64, "timeout": 0}))
        for _ in range(cut):
            if not pull.done:
                world.step(pull, world.replicas[0])
        world.append("z" * 17_000)
        world.settle(fire=False)
        if isinstance(pull.outcome, bytes):
            batch = calls.decode_pull_response(pull.outcome, 64)
            assert not any(b"phantom" in message.data for message in batch.messages)


def test_what_is_forgotten_is_forgotten_an_hour_later() -> None:
    """The constant that the guarantee names."""
    assert remembered.FORGET_SECONDS == 3600


@pytest.mark.parametrize("texts", [("one",), ("one", "two")])
def test_a_close_that_is_added_to_a_known_key_says_where_the_messages_are(world: World, texts: tuple[str, ...]) -> None:
    """They are where they were, although others came after them."""
    ref = StreamRef("k", start=0, digest="", last=True)
    first = world.append(*texts, stream=ref)
    world.append("of somebody else")
    again = world.append(*texts, stream=ref, close=True)
    world.settle()
    assert first.outcome is not None
    assert first.outcome == again.outcome
    late = world.append("late")
    world.settle()
    assert isinstance(late.outcome, TopicClosed)
    guarantee.at_rest(world)


def test_the_first_write_of_a_topic_waits_for_nothing_but_what_it_reads(world: World) -> None:
    """The settings are journaled before all that goes by them, and nobody waits for that; a retry has them."""
    call = world.append("a")
    world.next_exclusive()
    other = world.replica(Policy(message_bytes=1, retention=Retention(messages=1)))
    world.stop_at(call, 4)
    while world.step(call, world.replicas[0]):
        pass
    assert ["get", "get", "note", "set"] == [command.name for command in world.commands[call.id]]
    while not call.done:
        world.step(call, other)
    guarantee.watch(world)
    topic = state.decode_topic(world.topic.state[state.METADATA_KEY])
    assert (1, Policy()) == (topic.bounds.tail, topic.policy)
