"""Many topics on which nothing happens for longer than a pull waits."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from restate_pubsub import create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, query
from support.traffic import FULL, PATIENT, UNLIMITED, reading
from support.waiting import until

TOPICS = 1000 if FULL else 80
PULL_TIMEOUT = 30 if FULL else 3
IDLE = 3 * PULL_TIMEOUT
AT_ONCE = 16


async def held(restate: RestateServer) -> dict[str, int]:
    """Count what Restate keeps."""
    counts = {}
    for table in ("sys_invocation", "state", "sys_journal", "sys_inbox", "sys_promise"):
        rows = await query(restate, f"select count(*) as n from {table}")  # noqa: S608
        counts[table] = int(rows[0]["n"])
    return counts


@pytest.mark.timeout(400)
async def test_idle_topics_cost_restate_nothing_that_grows(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Each waits with one invocation and one subscription, however often its pull has timed out; then it is written."""
    service = await Service(restate, PUBSUB_FEED_PULL_TIMEOUT=f"{PULL_TIMEOUT}s", env=UNLIMITED).start()
    parts.push_async_callback(service.stop)
    topics = [f"{topic}/{at}" for at in range(TOPICS)]
    turn = asyncio.Semaphore(AT_ONCE)
    acknowledged: dict[str, float] = {}
    client = await parts.enter_async_context(create_pubsub_client(restate.ingress_url, retry=PATIENT))

    async def write(name: str, number: int) -> None:
        async with turn:
            await client.publish(name, {"number": number}, idempotency_key=f"{name}-{number}")
            acknowledged[name] = time.monotonic()

    async def all_wait() -> bool:
        rows = await query(restate, "select count(*) as n from state where key = 'subscription'")
        return int(rows[0]["n"]) == TOPICS

    await asyncio.gather(*(write(name, 0) for name in topics))
    async with reading([service.topic_url(name) for name in topics]) as readers:
        await until(lambda: all(reader.next == 1 for reader in readers), "the first message everywhere", 90)
        await until(all_wait, "every feed to wait", 60)
        before = await held(restate)
        await asyncio.sleep(IDLE)
        assert await service.metric("restate_pubsub_pulls_total") >= 2 * TOPICS
        await until(all_wait, "every feed to wait", 60)
        after = await held(restate)
        print(f"FAULT {TOPICS} topics idle for {IDLE} s: before {before}, after {after}")
        await asyncio.gather(*(write(name, 1) for name in topics))
        await until(lambda: all(reader.next == 2 for reader in readers), "the second message everywhere", 60)
        late = max(reader.messages[1].when - acknowledged[name] for name, reader in zip(topics, readers, strict=True))
        print(f"FAULT … then written: acknowledged but not shown {late:.2f} s")
        assert not [reader.faults for reader in readers if reader.faults]
        assert {(0, 1)} == {tuple(message.data["number"] for message in reader.messages) for reader in readers}
    for table, count in before.items():
        assert after[table] <= count * 1.1 + 10, f"{table} grew: {before} {after}"
