"""Two replicas behind a load balancer are replaced one after the other, under load."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import behind_a_balancer
from support.harness import Service
from support.traffic import FULL, UNLIMITED, Writers, agree, reading, report
from support.waiting import until

READERS = 40
DRAIN = 20 if FULL else 6


async def test_a_rolling_restart_is_a_reconnect_for_each_reader(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Each stream ends once for each replica that it was on; goodbyes are spread over half of the drain time."""
    drain = {"PUBSUB_DRAIN_TIMEOUT": f"{DRAIN}s"}
    replicas = [Service(restate, env=drain | UNLIMITED) for _ in range(2)]
    balancer = await behind_a_balancer(parts, replicas)
    await balancer.up(2)
    url = f"{balancer.url}/pubsub/{topic}"
    async with (
        Writers(restate.ingress_url, topic) as writers,
        reading([url] * READERS) as readers,
    ):
        await until(lambda: all(reader.messages for reader in readers), "the first message everywhere")
        since = time.monotonic()
        for replica in replicas:
            assert await replica.metric("restate_pubsub_streams") > 0
            begin = time.monotonic()
            assert 0 == await replica.stop(signal.SIGTERM, DRAIN + 5)
            goodbyes = sorted(end - begin for reader in readers for end in reader.ends if end > begin)
            assert goodbyes[-1] - goodbyes[0] > DRAIN / 4, f"all at once: {goodbyes}"
            gaps = [after - before for before, after in itertools.pairwise(goodbyes)]
            assert max(gaps) < DRAIN / 4, f"in clumps: {goodbyes}"
            await replica.start(register=False)
            await balancer.up(2)
            await writers.some()
        await writers.stop()
        await agree(writers, readers)
        report("rolling restart of two replicas", writers, readers, since)
