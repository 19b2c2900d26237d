"""A connection that neither refuses nor answers, in either direction."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy, behind_a_proxy
from support.harness import Service, call
from support.traffic import FULL, Writers, agree, reading, report

STALL = 60.0 if FULL else 13.0
"""Longer than the ten seconds after which a sweep has replicas look."""
READERS = 3


def port_of(url: str) -> int:
    """Return a URL's port."""
    return int(url.rpartition(":")[2])


async def test_the_ingress_stalls(restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str) -> None:
    """Readers of the replica that runs the writes notice nothing; those of the other have it all afterwards."""
    proxy = await parts.enter_async_context(Proxy(port_of(restate.ingress_url)))
    writing, other = replicas = [Service(restate, RESTATE_INGRESS_URL=proxy.url) for _ in range(2)]
    await writing.start()
    await other.start(register=False)
    for replica in replicas:
        parts.push_async_callback(replica.stop)
    urls = [replica.topic_url(topic) for replica in replicas for _ in range(READERS)]
    async with (
        Writers(restate.ingress_url, topic, pause=0.2) as writers,
        reading(urls) as readers,
    ):
        await writers.some()
        before = await writing.metric("restate_pubsub_messages_arrived_total")
        since = time.monotonic()
        proxy.stall()
        await asyncio.sleep(STALL)
        assert await writing.metric("restate_pubsub_messages_arrived_total") > before
        proxy.flow()
        await writers.some()
        await writers.stop()
        await agree(writers, readers)
        report(f"ingress stalled for {STALL:g} s: replica that runs the writes", writers, readers[:READERS], since)
        assert max(reader.latest(writers, since) for reader in readers[:READERS]) < 3
        report(f"ingress stalled for {STALL:g} s: the other", writers, readers[READERS:], since)


async def test_restate_s_connection_to_the_service_stalls(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Writes wait for the stall's end, and then all happen, once."""
    service = Service(restate)
    proxy = await behind_a_proxy(parts, service)
    async with (
        Writers(restate.ingress_url, topic) as writers,
        reading([service.topic_url(topic)] * READERS) as readers,
    ):
        await writers.some()
        since = time.monotonic()
        proxy.stall()
        await asyncio.sleep(STALL)
        proxy.flow()
        await writers.some(60)
        await writers.stop()
        await agree(writers, readers)
        report(f"Restate's connection to the service stalled for {STALL:g} s", writers, readers, since)


@pytest.mark.skipif(not FULL, reason="needs a stall that is longer than the waits of Restate's invoker")
async def test_both_sides_stall(restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str) -> None:
    """A service that is alone for a minute goes on where it was."""
    ingress = await parts.enter_async_context(Proxy(port_of(restate.ingress_url)))
    service = Service(restate, RESTATE_INGRESS_URL=ingress.url)
    proxy = await behind_a_proxy(parts, service)
    async with (
        Writers(restate.ingress_url, topic) as writers,
        reading([service.topic_url(topic)] * READERS) as readers,
    ):
        await writers.some()
        since = time.monotonic()
        for one in (ingress, proxy):
            one.stall()
        await asyncio.sleep(STALL)
        for one in (ingress, proxy):
            one.flow()
        await writers.some(60)
        await writers.stop()
        await agree(writers, readers)
        report(f"both connections stalled for {STALL:g} s", writers, readers, since)
    status, info = await call(restate, topic, "info")
    assert (200, writers.acknowledged) == (status, info["tail"])
