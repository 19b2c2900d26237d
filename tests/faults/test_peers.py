"""Replicas hand one another what they write, until they cannot: their readers miss nothing, and do not wait long."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy, behind_a_balancer
from support.harness import Service, publish
from support.traffic import FULL, Writers, agree, reading, report
from support.waiting import until

READERS = 3
CUT = 60.0 if FULL else 8.0
FROZEN = 20.0 if FULL else 6.0
NOTICED = 8.0
"""Seconds: until both sides know that they cannot reach one another, and have asked Restate. The sweep comes after ten,
and the long poll after ten minutes."""
PAUSE = 0.2


async def linked(*services: Service) -> None:
    """Wait until each hands its news to another."""

    async def there() -> bool:
        return all([await service.metric("restate_pubsub_peers_connected") for service in services])

    await until(there, "the replicas to know one another")


async def pair(parts: contextlib.AsyncExitStack, restate: RestateServer) -> tuple[list[Service], list[Proxy]]:
    """Start two replicas that reach one another, each through a proxy."""
    services = [Service(restate) for _ in range(2)]
    proxies = [await parts.enter_async_context(Proxy(service.port)) for service in services]
    for service, proxy in zip(services, proxies, strict=True):
        service.env["PUBSUB_ADVERTISE"] = proxy.url
    await behind_a_balancer(parts, services)
    return services, proxies


def urls(services: Sequence[Service], topic: str) -> list[str]:
    """Return where the readers are, the first replica's first."""
    return [service.topic_url(topic) for service in services for _ in range(READERS)]


@pytest.mark.parametrize("ways", ["both ways", "one way"])
async def test_the_link_between_peers_is_cut(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str, ways: str
) -> None:
    """No byte passes between them while both reach Restate; then it is as before."""
    services, proxies = await pair(parts, restate)
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls(services, topic)) as readers:
        await writers.some()
        await linked(*services)
        since = time.monotonic()
        for proxy in proxies[: 1 if ways == "one way" else 2]:
            proxy.stall()
        await asyncio.sleep(CUT)
        assert await services[1].metric("restate_pubsub_peers_connected") == 0  # it hands to the first
        for proxy in proxies:
            proxy.flow()
        await linked(*services)
        await writers.some()
        await writers.stop()
        await agree(writers, readers)
        report(f"link between peers cut for {CUT:g} s, {ways}: slowest reader", writers, readers, since)
        assert max(reader.latest(writers, since) for reader in readers) < NOTICED


async def test_connections_between_peers_break_again_and_again(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """What was under way is asked for at once."""
    services, proxies = await pair(parts, restate)
    async with Writers(restate.ingress_url, topic, pause=0.02) as writers, reading(urls(services, topic)) as readers:
        await writers.some()
        since = time.monotonic()
        for _ in range(30 if FULL else 8):
            await linked(*services)
            await writers.some(5)
            for proxy in proxies:
                proxy.cut()
        await writers.stop()
        await agree(writers, readers)
        report("connections between peers reset again and again", writers, readers, since)
        assert max(reader.latest(writers, since) for reader in readers) < NOTICED


async def test_a_write_that_got_lost_on_its_way_and_that_nothing_follows(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Its journal says that it was handed over: the peer whose connection broke asks Restate."""
    services, proxies = await pair(parts, restate)
    async with reading(urls(services, topic)) as readers:
        number = 0

        async def written() -> None:
            nonlocal number
            await publish(restate, topic, number)
            number += 1

        while not all([await service.metric("restate_pubsub_peer_news_total") for service in services]):
            await written()
            await asyncio.sleep(0.05)
        for _ in range(4):
            await linked(*services)
            await until(lambda: all(one.next == number for one in readers), "all")
            for proxy in proxies:
                proxy.stall()
            await written()
            began = time.monotonic()
            for proxy in proxies:
                proxy.cut()
                proxy.flow()
            await until(lambda: all(one.next == number for one in readers), "the last", NOTICED)
            assert time.monotonic() - began < NOTICED


async def test_a_peer_is_frozen(restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str) -> None:
    """As by a host that is short of memory. The other's readers go on, and its own have it all when it wakes."""
    services, _ = await pair(parts, restate)
    frozen = services[1].process
    assert frozen is not None
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls(services, topic)) as readers:
        await writers.some()
        await linked(*services)
        since = time.monotonic()
        frozen.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(FROZEN)
        finally:
            frozen.send_signal(signal.SIGCONT)
        await linked(*services)
        await writers.some()
        await writers.stop()
        await agree(writers, readers)
        report(f"peer frozen for {FROZEN:g} s: its own readers", writers, readers[READERS:], since)
        report("… and those of the other", writers, readers[:READERS], since)
        assert max(reader.latest(writers, since) for reader in readers) < FROZEN + NOTICED


async def test_a_peer_is_killed(restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str) -> None:
    """With whatever it had to hand over; twice, and it comes back under its old address as another replica."""
    services, _ = await pair(parts, restate)
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls(services, topic)) as readers:
        await writers.some()
        await linked(*services)
        since = time.monotonic()
        for _ in range(2):
            await services[1].kill()
            await services[1].start(register=False)
            await writers.some(60)
        await linked(*services)
        await writers.stop()
        await agree(writers, readers)
        report("peer killed (-9) and restarted, twice: readers of the other", writers, readers[:READERS], since)
        report("… and its own", writers, readers[READERS:], since)
        assert max(reader.latest(writers, since) for reader in readers[:READERS]) < NOTICED


async def test_a_peer_is_of_another_version(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """One that knows nothing of this, beside two that do, and then in place of one of them."""
    services = [Service(restate) for _ in range(3)]
    services[2].env |= {"PUBSUB_ADVERTISE": "", "PUBSUB_PEERS": ""}
    await behind_a_balancer(parts, services)
    async with Writers(restate.ingress_url, topic, pause=PAUSE) as writers, reading(urls(services, topic)) as readers:
        await writers.some()
        await linked(*services[:2])
        since = time.monotonic()
        await writers.some(60)
        await services[1].stop()
        services[1].env |= {"PUBSUB_ADVERTISE": "", "PUBSUB_PEERS": ""}
        await services[1].start(register=False)
        await writers.some(60)
        await writers.stop()
        await agree(writers, readers)
        report("a replica of another version: slowest of those that stay", writers, readers[:READERS], since)
        assert max(reader.latest(writers, since) for reader in readers[:READERS]) < NOTICED
