"""A write hands its news to a peer: stopped before each of its commands, for good or to run again elsewhere."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from restate_pubsub.topic.memory import Call
from simulation import guarantee
from simulation.world import Feed, World

WRITES = {"a message": 1, "a page": 70}
COMMANDS = 24
"""More than such a write gives."""
LINKS = {
    "both reach it": {("replica-0", "replica-1"), ("replica-2", "replica-1")},
    "the first reaches it": {("replica-0", "replica-1")},
    "the second reaches it": {("replica-2", "replica-1")},
    "nobody reaches it": set(),
}


def world_of_three(links: set[tuple[str, str]]) -> World:
    """Return three replicas, with readers on the first two that wait."""
    world = World()
    for _ in range(3):
        world.replica()
    for replica in world.replicas[:2]:
        Feed(world, replica)
    guarantee.watch(world)
    world.append("before")
    world.settle(world.replicas[2], fire=False)
    world.links |= links
    return world


def until_stopped(world: World, call: Call, command: int) -> None:
    """Run a call on the first replica up to a command."""
    world.next_exclusive()
    world.stop_at(call, command)
    while not call.done and world.step(call, world.replicas[0]):
        pass


@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("then", ["both reach it", "nobody reaches it"])
@pytest.mark.parametrize("write", WRITES)
def test_it_runs_again(write: str, links: str, then: str, second: int) -> None:
    """On any replica, which reaches others than the one before; what is under way may be lost, with nobody noticing."""
    for command, lost in product(range(COMMANDS), (False, True)):
        world = world_of_three(LINKS[links])
        call = world.append(*map(str, range(WRITES[write])))
        until_stopped(world, call, command)
        if lost:
            for link in permutations([replica.replica for replica in world.replicas], 2):
                world.cut(*link, noticed=False)
        world.links = set(LINKS[then])
        while not call.done:
            assert world.step(call, world.replicas[second])
        world.settle(world.replicas[second])
        guarantee.at_rest(world)


@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("write", WRITES)
def test_it_is_killed(write: str, links: str) -> None:
    """For good, by an operator; or it went through and what it handed over is lost."""
    for command in range(COMMANDS):
        world = world_of_three(LINKS[links])
        call = world.append(*map(str, range(WRITES[write])))
        until_stopped(world, call, command)
        if not call.done:
            world.kill(call)
        for link in LINKS[links]:
            world.cut(*link, noticed=False)
        world.settle(world.replicas[2])
        guarantee.at_rest(world)


def test_a_peer_goes_on_waiting() -> None:
    """Its pull is not answered by what it was handed, write after write."""
    world = world_of_three(LINKS["the first reaches it"])
    pulling = [world.replicas[at].feed.pulling for at in (0, 1)]  # type: ignore[union-attr]
    for text in ("a", "b", "c"):
        call = world.append(text)
        world.next_exclusive()
        while not call.done:
            world.step(call, world.replicas[0])
        while world.handed:
            world.arrive("replica-0", "replica-1")
    assert [world.replicas[at].feed.pulling for at in (0, 1)] == pulling  # type: ignore[union-attr]
    assert [world.replicas[at].feed.at for at in (0, 1)] == [4, 4]  # type: ignore[union-attr]
