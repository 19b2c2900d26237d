"""How much, against real processes: over a limit one is told when to try again, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, Stream, get, publish, stream, topic_name
from support.waiting import until


@pytest.fixture(scope="module")
async def small(restate: RestateServer, service: Service) -> AsyncIterator[Service]:
    """Return a service with small limits, behind one trusted proxy."""
    assert service.process is not None
    small = Service(
        restate,
        PUBSUB_TRUSTED_PROXIES="1",
        PUBSUB_MAX_STREAMS="6",
        PUBSUB_MAX_STREAMS_PER_CLIENT="3",
        PUBSUB_MAX_STREAMS_PER_TOPIC="4",
        PUBSUB_PUBLISH_ENABLED="true",
        PUBSUB_PUBLISH_RATE_PER_CLIENT="2",
        PUBSUB_FEED_LINGER="0s",
    )
    await small.start(register=False)
    yield small
    await small.stop()


async def open_from(stack: contextlib.AsyncExitStack, service: Service, topic: str, client: str) -> Stream:
    return await stack.enter_async_context(stream(service.topic_url(topic), x_forwarded_for=f"8.8.8.8, {client}"))


async def refused(service: Service, topic: str, client: str) -> tuple[int, str, int]:
    status, body, headers = await get(service.topic_url(topic), x_forwarded_for=f"9.9.9.9, {client}")
    return status, body["code"], int(headers["retry-after"])


async def test_streams_are_bounded_by_client_by_topic_and_in_all(
    restate: RestateServer, small: Service, topic: str
) -> None:
    """429 for the client's own limit, 503 for others; those that are open go on, and a place that is left is free."""
    refusals = await small.metric("restate_pubsub_refused_total") if "refused_total{" in await text(small) else 0.0
    async with contextlib.AsyncExitStack() as stack:
        readers = [await open_from(stack, small, topic, "192.0.2.1") for _ in range(2)]
        async with contextlib.AsyncExitStack() as leaving:
            await open_from(leaving, small, topic, "192.0.2.1")
            assert await refused(small, topic, "192.0.2.1") == (429, "too-many-streams-of-client", 10)
            readers.append(await open_from(stack, small, topic, "192.0.2.2"))
            assert await refused(small, topic, "192.0.2.2") == (503, "too-many-streams-of-topic", 10)
            for _ in range(2):
                await open_from(stack, small, topic_name(), "2001:db8::1")
            assert await refused(small, topic_name(), "192.0.2.3") == (503, "too-many-streams", 10)
        await small.has_streams(5)
        await open_from(stack, small, topic_name(), "2001:db8::ffff")
        assert await refused(small, topic_name(), "2001:db8::2") == (429, "too-many-streams-of-client", 10)
        assert await small.metric("restate_pubsub_refused_total") == refusals + 4
        await publish(restate, topic, "to those that are open")
        for reader in readers:
            assert (await reader.next()).data == "to those that are open"
    await small.has_streams(0)


async def text(service: Service) -> str:
    return str((await get(f"{service.url}/metrics"))[1])


async def test_publishes_are_bounded_by_client(small: Service, topic: str) -> None:
    """Twice the rate at once; others publish on."""

    async def send(session: aiohttp.ClientSession, client: str) -> tuple[int, str | None]:
        headers = {"x-forwarded-for": client}
        async with session.post(small.topic_url(topic), json=1, headers=headers) as response:
            return response.status, response.headers.get("retry-after")

    async with aiohttp.ClientSession() as session:
        answers = await asyncio.gather(*(send(session, "192.0.2.7") for _ in range(12)))
        assert {200, 429} == {status for status, _ in answers}
        assert {"1"} == {after for status, after in answers if status == 429}
        assert (await send(session, "192.0.2.8"))[0] == 200


async def test_refusals_that_mount_for_one_address_are_said_once(small: Service, topic: str) -> None:
    """With the setting that decides whether a proxy's clients count as one."""

    async def send(session: aiohttp.ClientSession) -> int:
        async with session.post(small.topic_url(topic), json=1, headers={"x-forwarded-for": "192.0.2.9"}) as response:
            return response.status

    async with aiohttp.ClientSession() as session:
        statuses = await asyncio.gather(*(send(session) for _ in range(80)))
    assert 40 < statuses.count(429)
    (line,) = [line for line in small.log.splitlines() if "all of its clients count as one" in line]
    assert "PUBSUB_TRUSTED_PROXIES" in line


async def test_new_streams_over_the_rate_wait_and_then_are_refused(restate: RestateServer, service: Service) -> None:
    """A browser gives up for good on a 503, so a herd is let in one by one as long as that takes seconds."""
    assert service.process is not None
    slow = await Service(restate, PUBSUB_STREAM_RATE="4").start(register=False)
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def come(topic: str) -> tuple[int, float]:
            async with aiohttp.ClientSession() as session, session.get(slow.topic_url(topic)) as response:
                return response.status, loop.time() - began

        answers = await asyncio.gather(*(come(topic_name()) for _ in range(40)))
        let_in = sorted(at for status, at in answers if status == 200)
        assert {200, 503} == {status for status, _ in answers}
        assert 20 <= len(let_in) <= 26
        assert let_in[3] < 1.0
        assert let_in[-1] > 3.5
        assert await slow.metric("restate_pubsub_refused_total") == 40 - len(let_in)
    finally:
        await slow.stop()


async def test_new_topics_are_bounded_by_client_and_in_all(restate: RestateServer, service: Service) -> None:
    """Problem documents with codes of their own; a topic that is read here already costs nothing."""
    assert service.process is not None
    small = await Service(
        restate,
        PUBSUB_TRUSTED_PROXIES="1",
        PUBSUB_MAX_TOPICS="30",
        PUBSUB_TOPIC_RATE_PER_CLIENT="1",
        PUBSUB_FEED_LINGER="0s",
    ).start(register=False)
    try:
        async with contextlib.AsyncExitStack() as stack:
            known = topic_name()
            await open_from(stack, small, known, "192.0.2.1")

            async def come() -> str:
                url = small.topic_url(topic_name())
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(url, headers={"x-forwarded-for": "192.0.2.1"}) as response,
                ):
                    if response.status == 200:
                        return "open"
                    assert 429 == response.status
                    assert 1 <= int(response.headers["retry-after"]) <= 6
                    return str((await response.json())["code"])

            answers = await asyncio.gather(*(come() for _ in range(40)))
            assert {"open", "topic-rate-of-client"} == set(answers)
            assert 19 <= answers.count("open") <= 28  # 19 at once, and those that waited up to five seconds
            await open_from(stack, small, known, "192.0.2.1")
            await until(lambda: topics(small, 1), "the topics that were left to go")
            for client in range(29):
                await open_from(stack, small, topic_name(), f"198.51.100.{client}")
            assert await refused(small, topic_name(), "192.0.2.3") == (503, "too-many-topics", 10)
            await open_from(stack, small, known, "192.0.2.3")
        await until(lambda: topics(small, 0), "all to go")
    finally:
        await small.stop()


async def topics(service: Service, count: int) -> bool:
    return await service.metric("restate_pubsub_topics") == count


async def test_a_stream_ends_at_its_age_and_the_reader_goes_on(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """As `EventSource` does it: nothing is lost and nothing comes twice; ages differ."""
    assert service.process is not None
    short = await Service(restate, PUBSUB_STREAM_MAX_AGE="1s").start(register=False)
    loop = asyncio.get_running_loop()
    ages: list[float] = []
    try:

        async def follow() -> list[Any]:
            seen: list[Any] = []
            last = ""
            while len(seen) < 30:
                began = loop.time()
                async with stream(short.topic_url(topic), **({"last_event_id": last} if last else {})) as reader:
                    with contextlib.suppress(EOFError):
                        while len(seen) < 30:
                            seen.append((await reader.next()).data)
                            last = reader.last_id
                    ages.append(loop.time() - began)
            return seen

        async def write() -> None:
            for number in range(30):
                await publish(restate, topic, number)
                await asyncio.sleep(0.1)  # so that the topic is written to for longer than streams last

        *seen, _ = await asyncio.gather(follow(), follow(), follow(), write())
        assert [list(range(30))] * 3 == seen
        ended = sorted(ages)[3:]
        assert all(0.6 < age < 1.4 for age in ended)
        assert max(ended) - min(ended) > 0.01
    finally:
        await short.stop()


async def test_a_frozen_reader_is_cut_and_counted_and_costs_others_nothing(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """It takes nothing from its socket; the others get every message while it is stuck, and at once."""
    assert service.process is not None
    strict = await Service(restate, PUBSUB_SEND_TIMEOUT="2s", PUBSUB_HEARTBEAT="500ms").start(register=False)
    loop = asyncio.get_running_loop()
    frozen = socket.socket()
    frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        frozen.connect(("127.0.0.1", strict.port))
        frozen.sendall(f"GET /pubsub/{topic} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        async with stream(strict.topic_url(topic)) as reader:
            await strict.has_streams(2)
            message = "x" * 200_000
            lags: list[float] = []
            for number in range(40):
                began = loop.time()
                await publish(restate, topic, {"n": number, "x": message})
                assert (await reader.next()).data["n"] == number
                lags.append(loop.time() - began)
            await strict.has_streams(1, 10)
            assert await strict.metric("restate_pubsub_slow_readers_total") == 1
            assert 1 == strict.log.count("a reader took nothing and was cut off")
            assert sorted(lags)[len(lags) // 2] < 0.5
    finally:
        frozen.close()
        await strict.stop()


async def test_rings_give_up_memory_and_readers_still_get_everything(restate: RestateServer, service: Service) -> None:
    """With room for one topic's messages and ten topics written to at once."""
    assert service.process is not None
    tight = await Service(
        restate, PUBSUB_RING_BYTES="64KiB", PUBSUB_RINGS_MAX_BYTES="64KiB", PUBSUB_STREAM_MAX_AGE="0s"
    ).start(register=False)
    try:
        topics = [topic_name() for _ in range(10)]
        async with contextlib.AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(stream(tight.topic_url(topic))) for topic in topics]

            async def write(topic: str) -> None:
                for number in range(8):
                    await publish(restate, topic, {"n": number, "x": "x" * 20_000})

            await asyncio.gather(*map(write, topics))
            for reader in readers:
                assert [event.data["n"] for event in await reader.take(8)] == list(range(8))
            assert await tight.metric("restate_pubsub_ring_bytes") <= 64 * 1024
    finally:
        await tight.stop()


async def test_a_proxy_that_nobody_declared_is_told_once(restate: RestateServer, service: Service) -> None:
    """Behind it all clients count as one: the log says which setting is missing."""
    assert service.process is not None
    plain = await Service(restate).start(register=False)
    try:
        for _ in range(2):
            async with stream(plain.topic_url(topic_name()), x_forwarded_for="192.0.2.1"):
                pass
        assert plain.log.count("PUBSUB_TRUSTED_PROXIES") == 1
    finally:
        await plain.stop()
