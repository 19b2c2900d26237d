"""A replica opens a topic by a pull that says where the topic is, while somebody writes and replicas come and go."""

from __future__ import annotations

import pytest

from restate_pubsub.protocol.messages import Place
from restate_pubsub.topic.memory import Call
from simulation import guarantee
from simulation.world import FAR, Feed, World

COMMANDS = 10
"""More than an opening gives before it waits."""
WRITES = 14
"""More than such a write gives."""


def world_of_two() -> tuple[World, Feed]:
    """Return a topic of two messages that the first of two replicas opens."""
    world = World()
    for _ in range(2):
        world.replica()
    guarantee.watch(world)
    world.append("a", "b")
    world.settle(fire=False)
    feed = Feed(world, world.replicas[0], None)
    feed.pull()
    return world, feed


def opening(world: World) -> Call:
    return world.shared[-1]


def steps(world: World, call: Call, count: int, replica: int) -> None:
    """Take a call through so many of its awaited commands, or until it waits or ends."""
    for _ in range(count):
        if call.done or world.waiting(call):
            return
        world.step(call, world.replicas[replica])


def write(world: World, count: int, replica: int) -> Call:
    """Take the write that is due through so many of its awaited commands."""
    call = world.next_exclusive()
    assert call is not None
    steps(world, call, count, replica)
    return call


def test_where_it_runs_in_this_process_one_call_says_where_the_topic_is_and_waits() -> None:
    world, feed = world_of_two()
    pull = opening(world)
    world.settle(fire=False)
    assert feed.located
    world.append("c")
    world.settle(fire=False)
    assert feed.pulling is pull
    assert [2] == [at for at, _ in feed.seen]
    world.settle()
    guarantee.at_rest(world)


def test_elsewhere_it_answers_at_once() -> None:
    """A pull from there is the second call, and nobody is left waiting by the first."""
    world, feed = world_of_two()
    pull = opening(world)
    steps(world, pull, FAR, 1)
    assert pull.done
    world.settle(world.replicas[1], fire=False)
    assert feed.located
    assert feed.pulling is not pull
    world.append("c")
    world.settle(world.replicas[1])
    guarantee.at_rest(world)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("writer", [0, 1])
@pytest.mark.parametrize("runs", [0, 1])
def test_a_write_between_any_two_of_its_commands(runs: int, writer: int, *, killed: bool) -> None:
    """Whoever runs which of them, and wherever the write is cut off: what follows the position comes."""
    for before in range(COMMANDS):
        for during in range(WRITES):
            world, feed = world_of_two()
            steps(world, opening(world), before, runs)
            world.append("c", "d")
            call = write(world, during, writer)
            steps(world, opening(world), COMMANDS, runs)
            if killed and not call.done:
                world.kill(call)
            world.settle(world.replicas[writer])
            world.append("e")
            world.settle(world.replicas[writer])
            assert feed.began <= world.tail
            guarantee.at_rest(world)


@pytest.mark.parametrize("second", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
def test_it_runs_again_anywhere(first: int, second: int) -> None:
    """A write comes between; what it had journaled, it does again."""
    for command in range(COMMANDS):
        for written in (False, True):
            world, _ = world_of_two()
            pull = opening(world)
            world.stop_at(pull, command)
            while not pull.done and not world.waiting(pull) and world.step(pull, world.replicas[first]):
                pass
            if written:
                world.append("c")
                while (call := world.next_exclusive()) is not None and not call.done:
                    world.step(call, world.replicas[0])
            steps(world, pull, FAR, second)
            world.settle(world.replicas[second])
            world.append("d")
            world.settle(world.replicas[first])
            guarantee.at_rest(world)


def test_an_opening_that_was_given_up_waits_for_nothing() -> None:
    """Its feed has gone, and another one of the topic has an opening of its own."""
    world, feed = world_of_two()
    late = opening(world)
    steps(world, late, 0, 0)
    world.readers.remove(feed)
    again = Feed(world, world.replicas[0], None)
    again.pull()
    world.settle()
    assert late.done
    assert again.located
    world.append("c")
    world.settle()
    guarantee.at_rest(world)


def test_a_position_that_was_told_by_a_run_that_got_lost_is_where_the_feed_goes_on() -> None:
    """Before it was journaled the run was lost; the next one reads another position, and a pull brings the rest."""
    world, feed = world_of_two()
    assert feed.opened(feed.opening, Place(0, 2))
    world.append("c")
    write(world, FAR, 1)
    world.settle()
    assert [2] == [at for at, _ in feed.seen]
    guarantee.at_rest(world)
