"""The main flows again, where every handler that waits is suspended and replayed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import (
    Event,
    Service,
    call,
    publish,
    read_all,
    running_restate,
    state_of,
    stream,
    subscribed,
    topic_name,
)


@pytest.fixture(scope="module")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate server that suspends an invocation whenever it waits."""
    folder = tmp_path_factory.mktemp("replay")
    async with running_restate(folder, RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT="0s") as server:
        yield server


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a registered service."""
    service = await Service(restate, PUBSUB_RETAIN_MESSAGES="200").start()
    yield service
    assert "nondeterminis" not in service.log.lower()
    assert "journal mismatch" not in service.log.lower()
    await service.stop()


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name("replay")


def batch(*data: Any, close: bool = False) -> dict[str, Any]:
    """Return the input of `append`."""
    return {"messages": [{"data": item} for item in data], "close": close}


async def test_a_stream_has_each_message_once(restate: RestateServer, service: Service, topic: str) -> None:
    """Live through publishes, batches, page borders and the end."""
    async with stream(service.topic_url(topic)) as reader:
        await subscribed(restate, topic)
        await publish(restate, topic, *range(10))
        await call(restate, topic, "append", batch(*range(10, 140)))
        await publish(restate, topic, *range(140, 150))
        await call(restate, topic, "append", batch(150, close=True))
        events = await reader.to_end()
    assert [Event(str(n + 1), "message", n) for n in range(151)] == events[:-1]
    assert Event("151", "end", {"nextOffset": 151}) == events[-1]
    assert list(range(151)) == await read_all(restate, topic)
    assert {"messagesMetadata", "p_0", "p_1", *(f"m_{n}" for n in range(128, 151))} == set(
        await state_of(restate, topic)
    )


async def test_pulls_wait_and_time_out(restate: RestateServer, service: Service, topic: str) -> None:
    """News, a cut to the limit, 408, and no subscription left behind."""
    assert service.process is not None
    pulls = [
        asyncio.create_task(call(restate, topic, "pull", body))
        for body in ({"offset": 0}, {}, {"offset": 1, "limit": 1}, {"offset": 0, "subscriber": "me"})
    ]
    await subscribed(restate, topic, 4)
    await call(restate, topic, "append", batch("a", "b", "c"))
    answers = [answer["messages"] for _, answer in await asyncio.gather(*pulls)]
    assert [["a", "b", "c"], ["a", "b", "c"], ["b"], ["a", "b", "c"]] == answers
    assert 408 == (await call(restate, topic, "pull", {"offset": 3, "timeout": 0.5}))[0]
    await subscribed(restate, topic, 0)


async def test_concurrent_writers_lose_and_double_nothing(restate: RestateServer, service: Service, topic: str) -> None:
    """Four at once, while it is read."""

    async def write(writer: int) -> None:
        for n in range(15):
            await publish(restate, topic, [writer, n])

    async with stream(service.topic_url(topic)) as reader:
        await asyncio.gather(*map(write, range(4)))
        events = await reader.take(60)
    assert list(range(1, 61)) == [int(event.id) for event in events]
    for writer in range(4):
        assert list(range(15)) == [event.data[1] for event in events if event.data[0] == writer]
    assert [event.data for event in events] == await read_all(restate, topic)


async def test_truncation_retention_and_deletion(restate: RestateServer, service: Service, topic: str) -> None:
    """200 messages are kept here; the rest goes by count, by request, and all at once."""
    async with stream(service.topic_url(topic)) as reader:
        await subscribed(restate, topic)
        await call(restate, topic, "append", batch(*range(300)))
        assert list(range(200, 300)) == [event.data for event in (await reader.take(201))[-100:]]
        info = (await call(restate, topic, "info"))[1]
        assert (100, 300) == (info["head"], info["tail"])
        await call(restate, topic, "truncate", 150)
        assert list(range(250, 300)) == await read_all(restate, topic, 250)
        assert 410 == (await call(restate, topic, "pull", {"offset": 249}))[0]
        await call(restate, topic, "delete")
        assert {"messagesMetadata", "subscription"} >= set(await state_of(restate, topic))
        assert (200, {"offset": 300}) == await call(restate, topic, "publish", "on")
        assert Event("301", "message", "on") == await reader.next()


async def test_bad_input_and_keys(restate: RestateServer, service: Service, topic: str) -> None:
    """Errors are final and keys known, as without replay."""
    assert service.process is not None
    assert 400 == (await call(restate, topic, "publish", b"{"))[0]
    assert 400 == (await call(restate, topic, "truncate", -1))[0]
    for _ in range(2):
        answer = await call(restate, topic, "publish", "once", idempotency_key=topic)
        assert (200, {"offset": 0}) == answer
    await call(restate, topic, "close")
    assert 409 == (await call(restate, topic, "publish", "late"))[0]
    assert ["once"] == await read_all(restate, topic)
