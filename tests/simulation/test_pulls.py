"""A pull, stopped before each of its commands, and run again by a replica with other bounds for pulls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from restate_pubsub.errors import OffsetGone, PullTimeout
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.topic import read
from restate_pubsub.topic.memory import Call
from restate_pubsub.topic.policy import Policy
from simulation import guarantee
from simulation.test_stops import TOPICS, Operation
from simulation.world import FAR, World

LONG: Sequence[Operation] = (lambda world: world.append(*"x" * 300),)
"""More pages than one round trip asks for, as the test bounds it."""
LOGS = {**TOPICS, "many pages": LONG}
REQUESTS: dict[str, dict[str, Any]] = {
    "from the head": {"offset": 0},
    "from the middle": {"offset": 2},
    "joined": {"offset": 0, "join": True},
    "a named one": {"offset": 0, "subscriber": "somebody", "timeout": 600},
    "what is next": {},
}
SMALL = Limits(pull_messages=3, pull_bytes=1024)


def scene(log: Sequence[Operation], policy: Policy, *, small_first: bool) -> World:
    """Return a topic and two replicas with other bounds."""
    world = World()
    bounds: list[dict[str, Any]] = [{"limits": SMALL, "pull_timeout": 4.0}, {}]
    for options in bounds if small_first else reversed(bounds):
        world.replica(policy, **options)
    guarantee.watch(world)
    for operation in log:
        operation(world)
    world.settle()
    return world


def run(world: World, call: Call, replica: int) -> None:
    """Run a call until it ends or is stopped; nothing comes that it waits for."""
    while not call.done:
        call.late = world.waiting(call)
        if not world.step(call, world.replicas[replica]):
            return


@pytest.mark.parametrize("small_first", [True, False])
@pytest.mark.parametrize("policy", [Policy(), Policy(pages=False)], ids=["pages", "keys"])
@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize("log", LOGS)
def test_a_replica_with_other_bounds_ends_it(
    monkeypatch: pytest.MonkeyPatch, log: str, asked: str, policy: Policy, *, small_first: bool
) -> None:
    """With the commands that the first one had made, and messages that follow one another."""
    monkeypatch.setattr(read, "PAGES_PER_ROUND", 2)
    for command in (*range(12), 60, 66, FAR):
        world = scene(LOGS[log], policy, small_first=small_first)
        call = world.send_shared("pull", msgspec.json.encode(REQUESTS[asked]))
        world.stop_at(call, command)
        run(world, call, 0)
        if call.done:
            break
        run(world, call, 1)
        assert call.done
        if isinstance(call.outcome, bytes):
            batch = calls.decode_pull_response(call.outcome, REQUESTS[asked].get("offset", world.tail))
            assert batch.next_offset > batch.offset or batch.closed
            there = [world.log[at].data for at in range(batch.offset, batch.next_offset)]
            assert "join" in REQUESTS[asked] or there == [message.data for message in batch.messages]
        else:
            assert isinstance(call.outcome, PullTimeout | OffsetGone)
