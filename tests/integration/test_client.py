"""The client on a real Restate: codes, calls that an operator ends, wrong addresses, its own event streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from restate_pubsub import (
    CallAborted,
    InvalidRequest,
    OffsetGone,
    PubsubClient,
    RetryPolicy,
    Stopped,
    StreamFailed,
    StreamReplaced,
    StreamStopped,
    TopicClosed,
    Unavailable,
    WrongAddress,
    create_pubsub_client,
)
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy, behind_a_proxy
from support.harness import Event, Service, call, get, query, read_all, stream, topic_name
from support.waiting import until


@pytest.fixture
async def client(restate: RestateServer, service: Service) -> AsyncIterator[PubsubClient]:  # noqa: ARG001
    """Return a client of the object."""
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


# --- codes -----------------------------------------------------------------------------------------------------


async def test_errors_carry_codes_and_facts(restate: RestateServer, client: PubsubClient, topic: str) -> None:
    """In the ingress's JSON, beside the texts that other clients match; a waiting reader's, too."""
    await client.append(topic, [1, 2, 3])
    await client.truncate(topic, 2)
    status, answer = await call(restate, topic, "pull", {"offset": 0})
    assert (410, "Offset 0 is lower than the head 2") == (status, answer["message"])
    assert {"code": "offset-gone", "offset": "0", "head": "2"} == answer["metadata"]
    with pytest.raises(OffsetGone) as gone:
        await anext(client.pull(topic, 1))
    assert (1, 2) == (gone.value.offset, gone.value.head)
    await client.close(topic)
    with pytest.raises(TopicClosed) as closed:
        await client.publish(topic, 4)
    assert 3 == closed.value.tail


async def test_a_replaced_attempt_is_told_where_the_new_one_began(client: PubsubClient, topic: str) -> None:
    """As a number, not in a text."""
    with pytest.raises(StreamFailed) as failed:
        async with client.stream(topic, id="step") as first:
            await first.write("old")
            await until(lambda: first.acknowledged, "the first token")
            async with client.stream(topic, id="step") as second:
                await second.write("new")
            await first.write("late")
    assert isinstance(failed.value.cause, StreamReplaced)
    assert 2 == failed.value.cause.offset  # after the `restart`


# --- a stop ----------------------------------------------------------------------------------------------------


async def test_a_stopped_stream_s_writer_is_told_and_what_was_said_stays(client: PubsubClient, topic: str) -> None:
    """From its next call on, at `write` or at the block's end, and so is a retry before it pays the model again."""
    with pytest.raises(StreamStopped) as stopped:
        async with client.stream(topic, id="step") as stream:
            await stream.write("said")
            await until(lambda: stream.acknowledged, "the first token")
            assert Stopped(1, ("step",)) == await client.stop(topic, "step", reason="enough")
            await stream.write("unsaid")
    assert (1, "enough", True) == (stopped.value.offset, stopped.value.reason, stopped.value.final)
    with pytest.raises(StreamStopped, match="enough"):
        async with client.stream(topic, id="step"):
            pytest.fail("the retry began")
    assert Stopped(1, ("step",)) == await client.stop(topic, "step")  # twice is once
    async with client.stream(topic, id="another") as other:
        await other.write("goes on")
    await client.close(topic)
    assert [("said", None), ({"id": "step", "reason": "enough"}, "stop"), ("goes on", None)] == [
        (message.data, message.event) async for message in client.pull(topic, 0)
    ]


async def test_a_stream_is_stopped_before_it_begins(client: PubsubClient, topic: str) -> None:
    """The click came before the writer's first call."""
    await client.stop(topic, "step")
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="step"):
            pytest.fail("it began")


async def test_a_stop_without_an_id_stops_all_that_are_unfinished(client: PubsubClient, topic: str) -> None:
    """The one that has ended is none of them, nor is one that comes later; a retry of the stopped ones is refused."""
    async with client.stream(topic, id="ended") as ended:
        await ended.write("all")
    silent = client.stream(topic, id="silent")
    await silent.__aenter__()
    with pytest.raises(StreamStopped, match="enough"):
        async with client.stream(topic, id="speaks") as speaks:
            await speaks.write("said")
            await until(lambda: speaks.acknowledged, "the token")
            assert Stopped(2, ("silent", "speaks")) == await client.stop(topic, reason="enough")
            await speaks.write("unsaid")
    with pytest.raises(StreamStopped, match="enough"):
        await silent.__aexit__(None, None, None)
    for name in ("silent", "speaks"):
        with pytest.raises(StreamStopped):
            async with client.stream(topic, id=name):
                pytest.fail("the retry began")
    for name in ("ended", "later"):
        async with client.stream(topic, id=name) as later:
            await later.write(name)
    tail = (await client.bounds(topic)).tail
    assert Stopped(tail) == await client.stop(topic)  # nothing is unfinished
    await client.close(topic)
    said = [(message.data, message.event) async for message in client.pull(topic, 0)]
    assert [
        ("all", None), ("said", None), ({"reason": "enough"}, "stop"),
        ({"id": "ended", "offset": 0, "count": 1}, "restart"), ("ended", None), ("later", None),
    ] == said  # fmt: skip


async def test_a_stop_of_all_holds_when_its_event_is_truncated(client: PubsubClient, topic: str) -> None:
    """It is in the topic's metadata, not in its messages."""
    stream = client.stream(topic, id="step")
    await stream.__aenter__()
    await client.stop(topic)
    await client.truncate(topic, 100)
    await client.publish(topic, "more")
    with pytest.raises(StreamStopped):
        await stream.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "stop",
    [{"id": ""}, {"id": "s", "reason": "x" * 257}, {"id": "s", "cancel": True}, {"id": 1}, {"stream": "s"}, [], "s"],
    ids=str,
)
async def test_a_bad_stop_stops_nothing(restate: RestateServer, topic: str, stop: Any) -> None:
    """It is a 400, and the topic has no event of it."""
    status, answer = await call(restate, topic, "stop", stop)
    assert (400, "invalid-request") == (status, answer["metadata"]["code"])
    status, answer = await call(restate, topic, "info", None)
    assert 0 == answer["tail"]


async def test_nobody_publishes_a_stop_as_an_event(client: PubsubClient, topic: str) -> None:
    """Readers would take it for one."""
    with pytest.raises(InvalidRequest, match="stop"):
        await client.publish(topic, {}, event="stop")


# --- an operator's hand ----------------------------------------------------------------------------------------


async def invocation(restate: RestateServer, topic: str, handler: str) -> str:
    """Return the id of a call that has not ended yet."""
    sql = (
        f"select id from sys_invocation where target_service_key = '{topic}' and target_handler_name = '{handler}' "  # noqa: S608
        "and status != 'completed'"
    )

    async def found() -> list[dict[str, Any]]:
        return await query(restate, sql)

    rows: list[dict[str, Any]] = await until(found, f"a {handler} that runs")
    return str(rows[0]["id"])


async def end(restate: RestateServer, how: str, topic: str, handler: str) -> None:
    """Kill or cancel it, as Restate's UI does."""
    url = f"{restate.admin_url}/invocations/{await invocation(restate, topic, handler)}/{how}"
    async with aiohttp.ClientSession() as session, session.patch(url) as response:
        assert response.status in (200, 202), await response.text()


@pytest.mark.parametrize("how", ["kill", "cancel"])
async def test_a_reader_survives_a_pull_that_was_ended(
    restate: RestateServer, client: PubsubClient, topic: str, how: str
) -> None:
    """The topic is open: it goes on."""
    reading = asyncio.ensure_future(anext(client.pull(topic, 0)))
    await end(restate, how, topic, "pull")
    await invocation(restate, topic, "pull")  # it asks again
    await client.publish(topic, "news")
    assert (0, "news", None) == await asyncio.wait_for(reading, 20)


@contextlib.asynccontextmanager
async def stuck(restate: RestateServer) -> AsyncIterator[tuple[PubsubClient, Proxy]]:
    """Give a client of an object of its own, whose service Restate reaches through a proxy that can stall."""
    name = topic_name("stuck").replace("-", "")
    async with contextlib.AsyncExitStack() as stack:
        proxy = await behind_a_proxy(stack, Service(restate, PUBSUB_OBJECT_NAME=name))
        yield await stack.enter_async_context(create_pubsub_client(restate.ingress_url, name)), proxy


@pytest.mark.parametrize("how", ["kill", "cancel"])
async def test_a_write_that_was_ended_is_no_closed_topic(restate: RestateServer, topic: str, how: str) -> None:
    """It says that nobody knows; under its key the answer stays, under another the topic takes it."""
    async with stuck(restate) as (client, proxy):
        await client.publish(topic, 0)
        proxy.stall()
        writing = asyncio.ensure_future(client.publish(topic, 1, idempotency_key="k"))
        await invocation(restate, topic, "publish")
        if how == "cancel":  # it takes effect when the service is heard of again
            await end(restate, how, topic, "publish")
            proxy.cut()
            proxy.flow()
        else:
            await end(restate, how, topic, "publish")
        with pytest.raises(CallAborted, match=r"killed|cancel") as aborted:
            await asyncio.wait_for(writing, 60)
        assert not aborted.value.final
        proxy.cut()
        proxy.flow()
        with pytest.raises(CallAborted):
            await client.publish(topic, 1, idempotency_key="k")
        at = await client.publish(topic, 2, idempotency_key="another")
        found = await read_all(restate, topic, name=client._ingress.name)
        assert at == len(found) - 1
        assert found in ([0, 2], [0, 1, 2])


@pytest.mark.parametrize("kind", ["plain", "id", "counted"])
async def test_a_token_stream_whose_call_was_ended_is_never_doubled_and_never_silently_short(
    restate: RestateServer, topic: str, kind: str
) -> None:
    """A counted one goes on; another says how far it got, and what it does not know."""
    async with stuck(restate) as (client, proxy):
        writer = TokenStream(
            client, topic, client.limits, stream_id=None if kind == "plain" else "s", resume=kind == "counted"
        )
        failed = None
        try:
            async with writer as tokens:
                await tokens.write(0)
                await until(lambda: tokens.acknowledged, "the first token")
                proxy.stall()
                await tokens.write(1)
                await end(restate, "kill", topic, "append")
                proxy.cut()
                proxy.flow()
                await until(lambda: tokens._failed or tokens.acknowledged == 2, "an outcome", 60)
                await tokens.write(2)
        except StreamFailed as error:
            failed = error
        found = await read_all(restate, topic, name=client._ingress.name)
        if kind == "counted":
            assert (failed, found) == (None, [0, 1, 2])
            return
        assert failed is not None
        assert (1, 1, False) == (failed.acknowledged, failed.uncertain, failed.final)
        assert found in ([0], [0, 1])
        if kind == "id":  # the step runs again: readers are told to drop what may be there
            async with client.stream(topic, id="s") as again:
                await again.write("new")
            before = len(found)
            found = await read_all(restate, topic, before, name=client._ingress.name)
            assert [{"id": "s", "offset": 0, "count": before}, "new"] == found


async def test_tail_survives_a_pull_that_was_killed(restate: RestateServer, service: Service, topic: str) -> None:
    """And prints what comes."""
    tailing = asyncio.ensure_future(service.command("tail", topic))
    await end(restate, "kill", topic, "pull")
    await invocation(restate, topic, "pull")
    await call(restate, topic, "append", {"messages": [{"data": 1}], "close": True})
    assert (0, "1\n") == await asyncio.wait_for(tailing, 30)


# --- the wrong address -----------------------------------------------------------------------------------------


async def test_the_admin_api_is_refused_at_once(restate: RestateServer, topic: str) -> None:
    """By writes and reads, with the way out."""
    async with create_pubsub_client(restate.admin_url) as client, asyncio.timeout(10):
        for attempt in (client.publish(topic, 1), anext(client.pull(topic)), client.delete(topic)):
            with pytest.raises(WrongAddress, match="admin API, not its ingress"):
                await attempt


@pytest.mark.parametrize("enabled", ["true", "false"])
async def test_the_service_itself_is_no_ingress(restate: RestateServer, topic: str, enabled: str) -> None:
    """Nothing is published into topics that are called like handlers."""
    service = Service(restate, PUBSUB_PUBLISH_ENABLED=enabled)
    try:
        await service.start(register=False)
        async with create_pubsub_client(service.url) as client, asyncio.timeout(10):
            for attempt in (client.publish(topic, 1), client.append(topic, [1]), client.delete(topic)):
                with pytest.raises(WrongAddress, match="service itself"):
                    await attempt
            for reading in (client.info(topic), anext(client.pull(topic)), anext(client.pull(topic, 0))):
                with pytest.raises(WrongAddress, match="service itself"):
                    await reading
    finally:
        await service.stop()
    for handler in ("publish", "append", "delete", "info", "pull"):
        assert [] == await read_all(restate, f"{topic}/{handler}")


@pytest.mark.parametrize(
    ("url", "name", "text"),
    [
        ("{ingress}", "nobody", "'nobody' is not registered with Restate at"),
        ("https{rest}", "pubsub", "use http:// instead of https://"),
        ("http://127.0.0.1:1", "pubsub", "nothing listens there"),
        ("http://no-such-host.invalid", "pubsub", "its name is not known here"),
        ("http://127.0.0.1:{node}", "pubsub", "not Restate's ingress (status 404"),
    ],
)
async def test_what_is_wrong_is_said_at_once_and_tried_on(
    restate: RestateServer, topic: str, caplog: pytest.LogCaptureFixture, url: str, name: str, text: str
) -> None:
    """In the log within a second, by writes and reads; the final error has the same cause."""
    rest = restate.ingress_url.removeprefix("http")
    node = restate._env["RESTATE_BIND_PORT"]
    address = url.format(ingress=restate.ingress_url, rest=rest, node=node)
    async with create_pubsub_client(address, name, retry=RetryPolicy(longest=0.3, seconds=1.5)) as client:
        for attempt in (client.publish(topic, 1), anext(client.pull(topic, 0))):
            caplog.clear()
            trying = asyncio.ensure_future(attempt)
            await until(lambda: caplog.messages, "a warning")
            assert text in caplog.messages[0]
            trying.cancel()
            await asyncio.gather(trying, return_exceptions=True)
        with pytest.raises(Unavailable, match=r"gave up after 1\.5 s") as caught:
            await client.publish(topic, 1)
        assert text in caught.value.message


# --- the client's own event streams ----------------------------------------------------------------------------


async def events(frames: AsyncIterator[bytes], count: int = 1000) -> list[Event]:
    """Parse frames as a browser would, until `count` events are there or the stream ends."""
    found: list[Event] = []
    last_id = ""
    async for chunk in frames:
        for block in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            last_id = fields.get("id", last_id)
            if "data" in fields:
                found.append(Event(last_id, fields.get("event", "message"), json.loads(fields["data"])))
            assert 2000 <= int(fields.get("retry", 2000)) <= 4000
        if len(found) >= count:
            break
    return found


@pytest.mark.parametrize("offset", [0, 2, 4])
async def test_the_client_s_events_are_those_of_the_service(
    service: Service, client: PubsubClient, topic: str, offset: int
) -> None:
    """Messages, `reset` where they are gone, `end`; with the same ids."""
    await client.append(topic, [1, 2, 3, (4, "tool"), 5])
    await client.truncate(topic, 3)
    await client.close(topic)
    mine = await events(client.sse(topic, offset))
    async with stream(service.topic_url(topic, f"offset={offset}")) as reader:
        assert await reader.to_end() == mine
    assert "end" == mine[-1].event


@pytest.mark.parametrize("offset", [2, 9])
async def test_at_the_end_of_a_closed_topic_there_is_the_end_alone(
    service: Service, client: PubsubClient, topic: str, offset: int
) -> None:
    """The service answers 204 there; who serves `client.sse` can, by what `info` says."""
    await client.append(topic, [1, 2], close=True)
    assert [(str(offset), "end", {"nextOffset": offset})] == await events(client.sse(topic, offset))
    status, _, _ = await get(service.topic_url(topic, f"offset={offset}"))
    info = await client.info(topic)
    assert (204, True) == (status, info["closed"] and offset >= info["tail"])


async def test_an_offset_past_the_tail_of_an_open_topic_is_reset(
    service: Service, client: PubsubClient, topic: str
) -> None:
    """The counter was lost: as the service does."""
    await client.append(topic, [1, 2])
    mine = await events(client.sse(topic, 7), 3)
    async with stream(service.topic_url(topic, "offset=7")) as reader:
        assert await reader.take(3) == mine
    assert ("0", "reset", {"requested": 7, "head": 0, "tail": 2}) == mine[0]


async def test_the_latest_begins_with_its_place(client: PubsubClient, topic: str) -> None:
    """So that a reader that loses its connection before the first message misses none."""
    await client.append(topic, [1, 2])
    frames = client.sse(topic)
    assert b"retry: " in await anext(frames)
    assert b"id: 2\n\n" == await anext(frames)
    await client.publish(topic, 3)
    assert b"id: 3\ndata: 3\n\n" == await anext(frames)


async def test_silence_is_filled_with_heartbeats(client: PubsubClient, topic: str) -> None:
    """Comments, which no reader shows."""
    frames = client.sse(topic, 0, heartbeat=0.05)
    await anext(frames)
    assert (await anext(frames)).startswith(b":")
