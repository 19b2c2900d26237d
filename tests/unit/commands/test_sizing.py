"""The arithmetic of `restate-pubsub size`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restate_pubsub.commands.sizing import MEASURED, Costs, Load, Room, event_bytes, plan, read_at, told, use

LOAD = Load(streams=600, readers=3, answers_per_second=0.5, answer_tokens=500, tokens_per_second=25, linger=0.1)
ROOM = Room(share=0.5, streams=10_000, node_cores=4)
COSTS = Costs(
    write=2,
    delivery=0.5,
    event=0.25,
    handover=1,
    stream=0.125,
    topic=0.25,
    restate_write=4,
    restate_handover=0.5,
    restate_topic=0.125,
    restate_rest=20,
    process_bytes=1000,
    stream_bytes=10,
    topic_bytes=20,
)


def test_a_load_is_what_its_answers_make() -> None:
    """Ten answers at one time, ten calls a second each, as the linger says."""
    assert (200, 250, 10) == (LOAD.topics, LOAD.tokens, LOAD.talking)
    assert (100, 300, 750) == (LOAD.writes, LOAD.deliveries, LOAD.events)


@pytest.mark.parametrize("linger", [0, 0.001])
def test_there_are_never_more_calls_than_tokens(linger: float) -> None:
    """Whatever the linger."""
    assert 250 == replace(LOAD, linger=linger).writes


@pytest.mark.parametrize(
    ("replicas", "readers", "expected"), [(1, 1, 1), (1, 9, 1), (2, 1, 1), (2, 2, 1.5), (3, 2, 5 / 3), (4, 1000, 4)]
)
def test_a_topic_is_read_where_its_streams_fall(replicas: int, readers: float, expected: float) -> None:
    """At random: two streams on two replicas are at both of them half of the time."""
    assert expected == pytest.approx(read_at(replace(LOAD, readers=readers), replicas))


@pytest.mark.parametrize(("replicas", "expected"), [(1, 0), (2, 0.5), (4, 0.75)])
def test_a_write_tells_the_replicas_that_read_and_where_it_does_not_run(replicas: int, expected: float) -> None:
    """A topic of one reader: none with one replica, half of the time with two."""
    assert expected == pytest.approx(told(replace(LOAD, readers=1), replicas))


def test_what_a_load_takes_is_the_sum_of_its_costs() -> None:
    """On one replica: every cost by itself, and no handover."""
    found = use(LOAD, COSTS, 1)
    assert (100 * 2 + 300 * 0.5 + 750 * 0.25 + 600 * 0.125 + 200 * 0.25) / 1000 == pytest.approx(found.service)
    assert (100 * 4 + 200 * 0.125 + 20) / 1000 == pytest.approx(found.restate)
    assert 1000 + 600 * 10 + 200 * 20 == pytest.approx(found.memory)


def test_more_replicas_cost_their_handovers_and_their_feeds() -> None:
    """Two: 1.75 of them read a topic of three streams, and a write tells 0.875 of another one."""
    one, two = use(LOAD, COSTS, 1), use(LOAD, COSTS, 2)
    assert (100 * 0.875 * 1 + 200 * 0.75 * 0.25) / 1000 == pytest.approx(two.service - one.service)
    assert (100 * 0.875 * 0.5 + 200 * 0.75 * 0.125) / 1000 == pytest.approx(two.restate - one.restate)
    assert 1000 + 200 * 0.75 * 20 == pytest.approx(two.memory - one.memory)


def test_the_plan_is_the_smallest_that_fits() -> None:
    """No replica is busier than allowed, and with one less each would be."""
    load = replace(LOAD, answers_per_second=2)
    found = plan(load, COSTS, ROOM)
    assert found is not None
    assert found.replicas > 1
    assert use(load, COSTS, found.replicas).service / found.replicas <= ROOM.share
    assert use(load, COSTS, found.replicas - 1).service / (found.replicas - 1) > ROOM.share
    assert found.cpu <= 1


def test_a_replica_takes_no_more_streams_than_it_may() -> None:
    """However little they do."""
    found = plan(replace(LOAD, streams=25_000, answers_per_second=0.001), replace(COSTS, stream=0), ROOM)
    assert found is not None
    assert 3 <= found.replicas


def test_restate_s_nodes_and_partitions_follow_from_its_cores() -> None:
    """A partition keeps one core busy at most."""
    found = plan(replace(LOAD, answers_per_second=10), replace(COSTS, write=0, handover=0), ROOM)
    assert found is not None
    assert found.use.restate / ROOM.share == pytest.approx(found.restate_cores)
    assert (found.nodes - 1) * ROOM.node_cores < found.restate_cores <= found.nodes * ROOM.node_cores
    assert found.partitions - 1 < found.restate_cores <= found.partitions


def test_a_load_that_no_number_of_replicas_carries_has_no_plan() -> None:
    """Every replica reads every topic: what each spends on that does not become less."""
    everywhere = replace(LOAD, streams=1e9, readers=1e9 / 3000, answers_per_second=1e-9)
    assert plan(everywhere, replace(COSTS, stream=0), replace(ROOM, streams=10**9)) is None


def test_an_event_is_as_long_as_its_frame() -> None:
    """Its `id`, its `data`, and the line ends."""
    assert len(b"id: 1000\ndata: 12345\n\n") == event_bytes(5)


def test_every_measured_cost_is_one() -> None:
    """None is negative, and a write costs something on both sides."""
    assert all(getattr(MEASURED, name) >= 0 for name in Costs.__slots__)
    assert MEASURED.write > 0
    assert MEASURED.restate_write > 0
