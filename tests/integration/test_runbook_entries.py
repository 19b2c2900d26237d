"""The runbook's entries on readers, each caused in a real process: what it says is seen, and what it advises helps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, get, publish, stream, topic_name
from support.waiting import until

MEGABYTE = 1024**2

pytestmark = pytest.mark.usefixtures("service")


@contextlib.asynccontextmanager
async def serving(restate: RestateServer, **settings: str) -> AsyncIterator[Service]:
    """Run a second process; the object stays the first one's."""
    service = await Service(restate, env=settings).start(register=False)
    try:
        yield service
    finally:
        await service.stop()


async def test_streams_near_the_limit(restate: RestateServer) -> None:
    """RestatePubsubStreamsNearLimit: the share rises over 0.8; at the limit it is 503 `too-many-streams`."""
    async with serving(restate, PUBSUB_MAX_STREAMS="5") as service, contextlib.AsyncExitStack() as readers:
        topic = topic_name()
        for _ in range(5):
            await readers.enter_async_context(stream(service.topic_url(topic)))
        await service.has_streams(5)
        assert 1 == await service.metric("restate_pubsub_streams") / await service.metric(
            "restate_pubsub_streams_limit"
        )
        status, problem, _ = await get(service.topic_url(topic))
        assert (503, "too-many-streams") == (status, problem["code"])


async def test_resets(restate: RestateServer) -> None:
    """RestatePubsubResetsRising: a reader whose place was truncated is told so, and counted."""
    async with serving(restate) as service:
        topic = topic_name()
        await publish(restate, topic, *range(4))
        await call(restate, topic, "truncate", 3)
        async with stream(service.topic_url(topic) + "?offset=0") as reader:
            assert ["reset", "message"] == [event.event for event in await reader.take(2)]
        assert 1 == await service.metric("restate_pubsub_resets_total")


async def test_catch_up(restate: RestateServer) -> None:
    """RestatePubsubCatchupReadsRising: readers from far back are reads of Restate; those from `-K` need none."""
    async with serving(restate, PUBSUB_RING_BYTES="2KiB") as service:
        topic = topic_name()
        for _ in range(8):
            await call(restate, topic, "append", {"messages": [{"data": "x" * 1000}] * 8})
        async with stream(service.topic_url(topic) + "?offset=latest"):
            await service.has_streams(1)
            before = await service.metric("restate_pubsub_catchup_reads_total")
            async with stream(service.topic_url(topic) + "?offset=0") as reader:
                await reader.take(64)
            behind = await service.metric("restate_pubsub_catchup_reads_total")
            assert behind > before


async def test_slow_delivery(restate: RestateServer) -> None:
    """RestatePubsubDeliverySlow: a reader that does not read lets the lag rise over a second."""
    async with serving(restate) as service:
        topic = topic_name()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)  # noqa: FBT003
            loop = asyncio.get_running_loop()
            await loop.sock_connect(slow, ("127.0.0.1", service.port))
            await loop.sock_sendall(slow, f"GET /pubsub/{topic}?offset=latest HTTP/1.1\r\nhost: t\r\n\r\n".encode())
            await service.has_streams(1)
            for _ in range(24):
                await call(restate, topic, "publish", "x" * (MEGABYTE // 2))
            await asyncio.sleep(1.5)  # the time that is measured

            async def lag() -> bool:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        while await loop.sock_recv(slow, MEGABYTE):
                            pass
                name = "restate_pubsub_delivery_lag_seconds"
                return await service.metric(f"{name}_count") > await service.metric(f'{name}_bucket{{le="1.0"}}')

            await until(lag, "a lag over a second")
