"""A write is cut off between its journal entry and its local delivery: its readers must learn of it all the same."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import behind_a_balancer
from support.harness import Service, free_port, publish, subscribed
from support.traffic import FULL, Writers, agree, reading, report
from support.waiting import until

PATCHED = (str(Path(__file__).parent / "patched.py"),)
READERS = 3
MESSAGES = 300 if FULL else 120
LATEST = 10.0
"""Seconds: far below the ten minutes of the long poll, which brings what nothing else does."""
PAUSE = 0.2
"""Slow enough that feeds wait for most writes: only those are handed over where they are written."""


@pytest.mark.parametrize("fault", ["raise", "cut"])
async def test_a_cut_write_reaches_the_readers_of_its_process(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str, fault: str
) -> None:
    """The feed asks Restate at once; nobody waits for the long poll's end."""
    service = await Service(restate, program=PATCHED, FAULT=fault, FAULT_EVERY="5").start()
    parts.push_async_callback(service.stop)
    async with (
        Writers(restate.ingress_url, topic, pause=PAUSE) as writers,
        reading([service.topic_url(topic)] * READERS) as readers,
    ):
        await writers.some()
        since = time.monotonic()
        await writers.some(MESSAGES)
        await writers.stop()
        await agree(writers, readers)
        report(f"write cut off ({fault}), one replica", writers, readers, since)
        assert max(reader.latest(writers, since) for reader in readers) < LATEST
    assert await service.metric("restate_pubsub_suspected_writes_total") >= 3


@pytest.mark.parametrize("fault", ["raise", "cut"])
async def test_a_cut_write_is_finished_by_the_other_replica(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str, fault: str
) -> None:
    """Its retry runs elsewhere and believes the delivery done; the replica that was cut off must ask by itself."""
    replicas = [Service(restate, program=PATCHED, FAULT=fault, FAULT_EVERY="5") for _ in range(2)]
    await behind_a_balancer(parts, replicas)
    urls = [replica.topic_url(topic) for replica in replicas for _ in range(READERS)]
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls) as readers:
        await writers.some()
        since = time.monotonic()
        await writers.some(MESSAGES)
        await writers.stop()
        await agree(writers, readers)
        report(f"write cut off ({fault}), two replicas", writers, readers, since)
        assert max(reader.latest(writers, since) for reader in readers) < LATEST
    assert sum([await replica.metric("restate_pubsub_suspected_writes_total") for replica in replicas]) >= 3


async def test_a_cut_write_that_nothing_follows_is_shown(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """No later write tells the replica that was cut off what it lacks; it asks because it was cut off."""
    replicas = [Service(restate, program=PATCHED, FAULT="raise", FAULT_EVERY="1") for _ in range(2)]
    await behind_a_balancer(parts, replicas)

    async with reading([replica.topic_url(topic) for replica in replicas]) as readers:
        for number in range(4):
            await subscribed(restate, topic, 2)
            await publish(restate, topic, number)
            await until(lambda number=number: all(one.next == number + 1 for one in readers), "it", LATEST)  # type: ignore[misc]
        assert [[0, 1, 2, 3]] * 2 == [[message.data for message in one.messages] for one in readers]


@pytest.mark.parametrize("count", [1, 2])
async def test_a_process_that_dies_before_its_delivery_twice(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str, count: int
) -> None:
    """The write's journal names a replica that is gone; its successor, which dies there too, and all others get it."""
    healthy = [Service(restate, port=free_port()) for _ in range(count - 1)]
    dying = Service(restate, program=PATCHED, FAULT="die", FAULT_EVERY="5")
    replicas = [dying, *healthy]
    await behind_a_balancer(parts, replicas)
    urls = [replica.topic_url(topic) for replica in replicas for _ in range(READERS)]
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls) as readers:
        since = time.monotonic()
        for lives in (2, 1, 0):
            if lives == 0:
                dying.env["FAULT"] = ""
            if lives < 2:
                await dying.start(register=False)
            if lives:
                assert dying.process is not None
                assert await asyncio.wait_for(dying.process.wait(), 60) == 1
        await writers.some(60)
        await writers.stop()
        await agree(writers, readers)
        name = "one replica" if count == 1 else "two replicas"
        report(f"process died before its delivery, twice, {name}: its own readers", writers, readers[:READERS], since)
        if healthy:
            report("… and those of the other", writers, readers[READERS:], since)
