"""A Restate cluster of three nodes on this machine, nodes killed while streaming."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Balancer
from support.harness import Service, free_port, restate_server
from support.traffic import FULL, Writers, agree, reading, report
from support.waiting import until

READERS = 5


@pytest.fixture
async def nodes(tmp_path: Path) -> list[RestateServer]:
    """Return three nodes that replicate log and metadata; not started."""
    ports = [free_port() for _ in range(3)]
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    return [
        restate_server(
            tmp_path / f"node-{at}",
            node=f"node-{at}",
            RESTATE_CLUSTER_NAME="pubsub-faults",
            RESTATE_BIND_PORT=str(port),
            RESTATE_ADVERTISED_ADDRESS=addresses[at],
            RESTATE_DEFAULT_REPLICATION="2",
            RESTATE_METADATA_CLIENT__ADDRESSES=json.dumps(addresses),
            RESTATE_AUTO_PROVISION=str(at == 0).lower(),
        )
        for at, port in enumerate(ports)
    ]


@pytest.mark.skipif(not FULL, reason="three servers on a busy machine take their time: make test-faults")
@pytest.mark.timeout(420)
async def test_a_node_of_the_cluster_is_killed(
    nodes: list[RestateServer], parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Each node in turn, so that it is once the topic's leader; the other two go on."""
    for node in nodes:
        parts.push_async_callback(node.stop)
    await asyncio.gather(*(node.start() for node in nodes))
    ports = [int(node.ingress_url.rpartition(":")[2]) for node in nodes]
    balancer = await parts.enter_async_context(Balancer(nodes[0].base_dir, ports, ready="/restate/health"))
    service = await Service(nodes[0], RESTATE_INGRESS_URL=balancer.url).start()
    parts.push_async_callback(service.stop)
    async with (
        Writers(balancer.url, topic) as writers,
        reading([service.topic_url(topic)] * READERS) as readers,
    ):
        await writers.some()
        begin = time.monotonic()
        for at, node in enumerate(nodes):
            since = time.monotonic()
            await node.kill()
            await writers.some(100, 120)
            await node.start()
            await until(lambda since=since: all(one.silence(since) for one in readers), "messages")  # type: ignore[misc]
            print(f"FAULT node {at} killed: silence {max(reader.silence(since) for reader in readers):.2f} s")
            await balancer.up(3)
        await writers.stop()
        await agree(writers, readers)
        assert {1} == {reader.connects for reader in readers}
        report("each node of a cluster of three killed in turn", writers, readers, begin)
