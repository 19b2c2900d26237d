"""Random kills and stops of everything, while programs write and read: `make soak` does it for as long as asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import behind_a_balancer
from support.harness import Service
from support.traffic import UNLIMITED, Writers, agree, reading, report
from support.waiting import until

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(10**9)))
READERS = 8


async def test_everything_may_die_at_any_time(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Two replicas behind a balancer and Restate: killed and stopped in any order, and every message is there once."""
    print(f"seed {SEED}")
    chosen = random.Random(SEED)
    replicas = [Service(restate, env={"PUBSUB_DRAIN_TIMEOUT": "3s"} | UNLIMITED) for _ in range(2)]
    balancer = await behind_a_balancer(parts, replicas)
    await balancer.up(2)
    async with (
        Writers(restate.ingress_url, topic) as writers,
        reading([f"{balancer.url}/pubsub/{topic}"] * READERS) as readers,
    ):
        await until(lambda: all(reader.messages for reader in readers), "the first message everywhere")
        since = time.monotonic()
        while time.monotonic() < since + SECONDS:
            await asyncio.sleep(chosen.uniform(0.2, 2.0))  # a random moment is what is wanted
            if chosen.random() < 0.3:
                await restate.kill()
                await restate.start()
                continue
            replica = chosen.choice(replicas)
            if chosen.random() < 0.5:
                await replica.kill()
            else:
                await replica.stop(signal.SIGTERM, 10)
            await asyncio.sleep(chosen.uniform(0.0, 1.0))
            await replica.start(register=False)
            await balancer.up(2)
        await writers.stop()
        await agree(writers, readers)
        report("anything, at random", writers, readers, since)
