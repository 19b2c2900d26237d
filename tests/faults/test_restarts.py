"""Processes die and come back: Restate, the service, and one replica after the other."""

from __future__ import annotations

import contextlib
import time

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service
from support.traffic import FULL, Writers, agree, reading, report

READERS = 5


async def test_restate_is_killed_and_restarted_three_times(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """What was acknowledged is there, what was not is tried again, and readers keep their connections."""
    service = await Service(restate).start()
    parts.push_async_callback(service.stop)
    async with Writers(restate.ingress_url, topic) as writers, reading([service.topic_url(topic)] * READERS) as readers:
        await writers.some()
        since = time.monotonic()
        for _ in range(3):
            await restate.kill()
            await restate.start()
            await writers.some(100 if FULL else 30)
        await writers.stop()
        await agree(writers, readers)
        assert {1} == {reader.connects for reader in readers}
        report("restate-server killed and restarted", writers, readers, since)


async def test_the_service_is_killed_and_restarted(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Readers reconnect where they were; writes under way are finished by the new process."""
    service = await Service(restate).start()
    parts.push_async_callback(service.stop)
    async with Writers(restate.ingress_url, topic) as writers, reading([service.topic_url(topic)] * READERS) as readers:
        await writers.some()
        since = time.monotonic()
        for _ in range(3 if FULL else 1):
            await service.kill()
            await service.start(register=False)
            await writers.some(60)
        await writers.stop()
        await agree(writers, readers)
        report("service killed and restarted", writers, readers, since)
