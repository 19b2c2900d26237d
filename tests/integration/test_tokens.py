"""Tokens on a real Restate: the Python stream, the durable step, the HTTP door."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from restate_pubsub import (
    InvalidRequest,
    OffsetGone,
    PubsubClient,
    RetryPolicy,
    StreamFailed,
    TooLarge,
    TopicClosed,
    Unavailable,
    create_pubsub_client,
)
from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy
from support.harness import Event, Service, call, free_port, get, listens, publish, state_of, stream, topic_name
from support.waiting import until

AGENT = Path(__file__).parent / "agent_service.py"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
async def door(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service whose HTTP door is open."""
    service = await Service(restate, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_MESSAGE_MAX_BYTES="64KiB").start()
    yield service
    await service.stop()


@pytest.fixture
async def client(restate: RestateServer, door: Service) -> AsyncIterator[PubsubClient]:  # noqa: ARG001
    """Return a client of the object."""
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


async def everything(client: PubsubClient, topic: str) -> list[Any]:
    """Return all messages of a topic."""
    info = await client.info(topic)
    found: list[Any] = []
    if info["tail"] > info["head"]:
        async for message in client.pull(topic, info["head"]):
            found.append(message.data)
            if message.offset == info["tail"] - 1:
                break
    return found


# --- the library -----------------------------------------------------------------------------------------------


async def test_tokens_arrive_in_order_and_once(door: Service, client: PubsubClient, topic: str) -> None:
    """However fast they are written, on the stream that a browser reads."""
    async with stream(door.topic_url(topic)) as reader:
        async with client.stream(topic) as tokens:
            for at in range(500):
                await tokens.write({"delta": at})
        events = await reader.take(500)
    assert list(range(500)) == [event.data["delta"] for event in events]
    assert (tokens.offset, tokens.next_offset) == (0, 500)


async def test_lost_answers_double_no_token(restate: RestateServer, topic: str, door: Service) -> None:  # noqa: ARG001
    """A call whose answer was lost is tried again under the same key, and counts once."""
    async with Proxy(int(restate.ingress_url.rpartition(":")[2])) as proxy:
        async with create_pubsub_client(proxy.url) as client:
            async with client.stream(topic) as tokens:
                for at in range(30):
                    if at % 7 == 0:
                        proxy.cut_answers(1)
                    await tokens.write(at)
                    await until(lambda at=at: tokens.acknowledged == at + 1, f"token {at}")  # type: ignore[misc]
            assert list(range(30)) == await everything(client, topic)


async def test_a_stream_fails_when_restate_stays_away(restate: RestateServer, topic: str, door: Service) -> None:  # noqa: ARG001
    """After the retry policy's time, with how far it got."""
    async with Proxy(int(restate.ingress_url.rpartition(":")[2])) as proxy:
        async with create_pubsub_client(proxy.url, retry=RetryPolicy(first=0.01, seconds=0.2)) as client:
            with pytest.raises(StreamFailed, match="1 of 2 messages are there, up to offset 1") as caught:
                async with client.stream(topic) as tokens:
                    await tokens.write(1)
                    await until(lambda: tokens.acknowledged, "the first token")
                    proxy.target = free_port()
                    proxy.cut()
                    await tokens.write(2)
            assert isinstance(caught.value.cause, Unavailable)
    assert await call(restate, topic, "pull", {"offset": 0}) == (200, {"messages": [1], "nextOffset": 1})


async def test_refusals_are_raised_at_once_as_what_they_are(client: PubsubClient, topic: str) -> None:
    """A 4xx of a handler is an answer, with its text, and is not tried again."""
    await client.append(topic, [1, 2, (3, "tool")])
    await client.truncate(topic, 2)
    with pytest.raises(OffsetGone, match="Offset 0 is lower than the head 2") as gone:
        await anext(client.pull(topic, 0))
    assert gone.value.head == 2
    with pytest.raises(TooLarge):
        await client.publish(topic, "x" * 70_000)
    with pytest.raises(InvalidRequest, match="streams send themselves"):
        await client.publish(topic, 1, event="reset")
    with pytest.raises(InvalidRequest, match="idempotency key"):
        await client.publish(topic, 1, idempotency_key="x" * 300)
    assert await client.close(topic) == 3
    with pytest.raises(TopicClosed, match="closed at offset 3"):
        await client.publish(topic, 4)
    assert await everything(client, topic) == [3]


async def test_a_pull_goes_on_through_timeouts_and_ends_at_the_end(
    client: PubsubClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never ends by itself; the end of a closed topic ends it."""
    monkeypatch.setattr("restate_pubsub.client.pubsub_client.PULL_SECONDS", 0.1)

    async def read() -> list[Any]:
        return [message async for message in client.pull(topic, 0)]

    reading = asyncio.create_task(read())
    for at in range(3):
        await asyncio.sleep(0.25)  # the pull must time out: that is the case
        await client.publish(topic, at, event="tick")
    await client.close(topic)
    assert [(at, at, "tick") for at in range(3)] == await asyncio.wait_for(reading, 10)


async def test_the_clients_own_frames_are_those_of_the_service(door: Service, client: PubsubClient, topic: str) -> None:
    """`client.sse` can be served by any ASGI app."""
    await client.append(topic, [{"a": 1}, (2, "tool")], close=True)
    frames = b"".join([frame async for frame in client.sse(topic, 0)])
    async with stream(door.topic_url(topic)) as reader:
        await reader.to_end()
    comment, retry, frames = frames.split(b"\n", 2)
    assert (b": open", b"retry: ") == (comment, retry[:7])
    assert reader.raw.partition(b"id:")[2] == frames.removeprefix(b"id:")
    assert frames.startswith(b"id: 1\n")


async def test_an_idempotency_key_publishes_once(client: PubsubClient, topic: str) -> None:
    """And answers with the first offset."""
    assert [await client.publish(topic, at, idempotency_key=key) for at, key in enumerate("aab")] == [0, 0, 1]
    assert await everything(client, topic) == [0, 2]


# --- inside a durable step -------------------------------------------------------------------------------------


async def agent(restate: RestateServer, port: int, attempt: str, tokens: int) -> asyncio.subprocess.Process:
    """Start an agent process whose words begin with `attempt`."""
    words = [str(port), restate.ingress_url, attempt, str(tokens)]
    process = await asyncio.create_subprocess_exec(sys.executable, str(AGENT), *words)
    await until(lambda: listens(port), "the agent to listen")
    return process


async def test_a_step_that_was_killed_is_begun_again_and_said_so(
    restate: RestateServer, door: Service, topic: str
) -> None:
    """The words of the abandoned attempt are named by a `restart`, and never mixed with the new ones."""
    port = free_port()
    first = await agent(restate, port, "old", 1000)
    second: asyncio.subprocess.Process | None = None
    try:
        async with aiohttp.ClientSession() as session:
            deployment = {"uri": f"http://127.0.0.1:{port}"}
            async with session.post(f"{restate.admin_url}/deployments", json=deployment) as response:
                assert response.status == 201, await response.text()
            await publish(restate, topic, {"role": "user"})
            async with stream(door.topic_url(topic)) as reader:
                async with session.post(f"{restate.ingress_url}/agent/answer/send", json=topic) as response:
                    assert response.status == 202, await response.text()
                seen = await reader.take(10)
                first.kill()
                await first.wait()
                second = await agent(restate, port, "new", 20)
                while seen[-1].event != "done":
                    seen.append(await reader.next())
    finally:
        for process in (first, second):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
    assert seen[0].data == {"role": "user"}
    restart = next(at for at, event in enumerate(seen) if event.event == "restart")
    old = [event.data["delta"] for event in seen[1:restart]]
    new = [event.data["delta"] for event in seen[restart + 1 : -1]]
    assert [f"old{at}" for at in range(len(old))] == old
    assert [f"new{at}" for at in range(20)] == new
    assert seen[restart].data["offset"] == 1
    assert seen[-1].data == {"role": "assistant"}


# --- the door --------------------------------------------------------------------------------------------------


async def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    """POST and return status and decoded answer."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=given) as response:
        return response.status, await response.json(content_type=None)


async def test_a_slow_pipe_is_read_while_it_is_written(door: Service, topic: str) -> None:
    """`curl -T -` fed word by word: each word is on the stream before the next; a blank line is no word."""
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-T", "-", "-H", "content-type: application/x-ndjson", door.topic_url(topic),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert curl.stdin is not None
    async with stream(door.topic_url(topic)) as reader:
        for at in range(5):
            curl.stdin.write(b'\n{"delta": %d}\n' % at)
            await curl.stdin.drain()
            assert Event(str(at + 1), "message", {"delta": at}) == await reader.next()
    curl.stdin.close()
    out, _ = await curl.communicate()
    assert json.loads(out) == {"offset": 0, "nextOffset": 5, "count": 5}


async def test_one_json_message_is_published(door: Service, topic: str, restate: RestateServer) -> None:
    """Pretty-printed as it may be."""
    status, answer = await post(door.topic_url(topic), b'{\n "a": 1\n}', content_type="application/json; charset=utf-8")
    assert (status, answer) == (200, {"offset": 0, "nextOffset": 1, "count": 1})
    assert (await call(restate, topic, "pull", {"offset": 0}))[1] == {"messages": [{"a": 1}], "nextOffset": 1}


async def cut_off(door: Service, topic: str, lines: bytes, key: str) -> None:
    """Send lines of a body that does not come to its end, and hang up once they are in the topic."""
    host, port = door.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"POST /pubsub/{topic} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
        f"Idempotency-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n{len(lines):x}\r\n".encode()
        + lines
        + b"\r\n"
    )
    await writer.drain()
    async with stream(door.topic_url(topic)) as reader:
        await reader.take(lines.count(b"\n"))
    writer.transport.abort()


@pytest.mark.parametrize("body", [b"1\n2\n3\n", b"1\n2\n3"])
async def test_a_repeated_request_is_harmless(door: Service, client: PubsubClient, topic: str, body: bytes) -> None:
    """With an Idempotency-Key, also where the first one was cut off half way."""
    headers = {"content_type": "application/x-ndjson", "idempotency_key": "k"}
    await cut_off(door, topic, body[:4], "k")
    answers = [await post(door.topic_url(topic, "close=true"), body, **headers) for _ in range(2)]
    assert [status for status, _ in answers] == [200, 200]
    assert 3 == answers[0][1]["nextOffset"] == answers[1][1]["nextOffset"]
    assert await everything(client, topic) == [1, 2, 3]


@pytest.mark.parametrize("other", [b"1\n2\n", b"1\n2\n4\n", b"1\n2\n3\n4\n", b"9\n", b""])
async def test_a_key_that_comes_with_another_body_is_refused(door: Service, topic: str, other: bytes) -> None:
    """422, and nothing is added: the two would be mixed."""
    headers = {"content_type": "application/x-ndjson", "idempotency_key": "k"}
    assert (await post(door.topic_url(topic), b"1\n2\n3\n", **headers))[0] == 200
    status, answer = await post(door.topic_url(topic), other, **headers)
    assert (status, answer["code"]) == (422, "key-reused")
    assert "'k' was used before" in answer["detail"]
    status, answer = await post(door.topic_url(topic), b"1", content_type="application/json", idempotency_key="k")
    assert (status, answer["code"]) == (422, "key-reused")


async def test_an_empty_request_that_closes_may_be_repeated(door: Service, topic: str) -> None:
    """The first closed the topic; the second is the same request."""
    headers = {"content_type": "application/x-ndjson", "idempotency_key": "k"}
    for _ in range(2):
        assert (await post(door.topic_url(topic, "close=true"), b"", **headers))[0] == 200


@pytest.mark.parametrize(
    ("kind", "body", "answer"),
    [
        ("application/json", b"1", {"offset": 0, "nextOffset": 1, "count": 1}),
        ("application/x-ndjson", b"1\n2\n", {"offset": 0, "nextOffset": 2, "count": 2}),
    ],
)
async def test_a_repeated_request_that_closes_as_well_says_where_its_messages_are(
    door: Service, topic: str, kind: str, body: bytes, answer: dict[str, int]
) -> None:
    """Not where the topic ends."""
    assert await post(door.topic_url(topic), body, content_type=kind, idempotency_key="k") == (200, answer)
    await post(door.topic_url(topic), b"9", content_type="application/json")
    for _ in range(2):
        again = await post(door.topic_url(topic, "close=true"), body, content_type=kind, idempotency_key="k")
        assert again == (200, answer)
    assert (await post(door.topic_url(topic), b"3", content_type="application/json"))[0] == 409


async def test_a_key_and_a_stream_of_one_name_are_two_things(door: Service, client: PubsubClient, topic: str) -> None:
    """A request's lines are not taken for those of a token stream that has the same id."""
    async with client.stream(topic, id="one") as tokens:
        for at in range(3):
            await tokens.write(at)
    answer = await post(
        door.topic_url(topic), b"4\n5\n6\n7\n", content_type="application/x-ndjson", idempotency_key="one"
    )
    assert answer == (200, {"offset": 3, "nextOffset": 7, "count": 4})
    assert await everything(client, topic) == [0, 1, 2, 4, 5, 6, 7]


async def test_a_key_is_remembered_beside_many_others(door: Service, client: PubsubClient, topic: str) -> None:
    """For as long as its message is in the log, however many come after it."""
    url = door.topic_url(topic)
    first = await post(url, b"0", content_type="application/json", idempotency_key="k0")
    await asyncio.gather(
        *(post(url, b"%d" % at, content_type="application/json", idempotency_key=f"k{at}") for at in range(1, 90))
    )
    assert first == await post(url, b"0", content_type="application/json", idempotency_key="k0")
    assert sorted(await everything(client, topic)) == list(range(90))


async def test_close_ends_the_topic_with_the_last_message(door: Service, topic: str) -> None:
    """One atomic append; readers end."""
    await post(door.topic_url(topic, "close=true"), b"1\n2\n", **NDJSON)
    async with stream(door.topic_url(topic)) as reader:
        assert [event.event for event in await reader.to_end()] == ["message", "message", "end"]
    assert (await post(door.topic_url(topic), b"3", content_type="application/json"))[0] == 409


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'1\n2\n{"x"\n4\n', 400, "Line 3: The message is not JSON"),
        (b"1\n2\n\xff\n4\n", 400, "Line 3: The message is not UTF-8"),
        (b'1\n2\n"' + b"x" * 70_000 + b'"\n4\n', 413, "Line 3: The message has"),
        (b"1\n2\n" + b" " * 70_000 + b"\n4\n", 413, "Line 3: The message has"),
        (b"1\n2\n" + b" " * 1_000_000 + b"\n4\n", 413, "Line 3: The message has"),
        (b"1\n2\n" + b"\r" * 70_000, 413, "Line 3: The message has"),
        (b"1\n2\n\x0b\x0c\n4\n", 400, "Line 3: The message is not JSON"),
        (b"1\n2\n" + b"[" * 300 + b"\n", 400, "Line 3: The message nests 129 levels"),
        (b'1\n2\n"half', 400, "Line 3: The message is not JSON"),
    ],
)
async def test_a_broken_line_is_named_and_what_came_before_it_stands(
    door: Service, client: PubsubClient, topic: str, *, body: bytes, status: int, detail: str
) -> None:
    """With the offset up to which it stands; nothing is closed."""
    found, answer = await post(door.topic_url(topic, "close=true"), body, content_type="application/x-ndjson")
    assert (status, 2, 2) == (found, answer["nextOffset"], answer["count"])
    assert answer["detail"].startswith(detail)
    assert "the 2 messages before it are published, up to offset 2" in answer["detail"]
    assert await everything(client, topic) == [1, 2]
    assert not (await client.info(topic))["closed"]


async def test_a_writer_that_vanishes_leaves_what_it_said(door: Service, client: PubsubClient, topic: str) -> None:
    """Whole lines count; half a line does not; nothing is closed."""
    host, port = "127.0.0.1", door.port
    _, writer = await asyncio.open_connection(host, port)
    head = f"POST /pubsub/{topic}?close=true HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
    writer.write(head.encode() + b"transfer-encoding: chunked\r\n\r\n6\r\n1\n2\n3x\r\n")
    await writer.drain()

    async def two() -> bool:
        return bool((await client.info(topic))["tail"] == 2)

    await until(two, "two messages")
    writer.transport.abort()
    await client.publish(topic, "after")
    assert await everything(client, topic) == [1, 2, "after"]


async def test_a_topic_is_deleted(door: Service, client: PubsubClient, topic: str) -> None:
    """Its messages go, its offsets go on."""
    await client.append(topic, [1, 2])
    async with aiohttp.ClientSession() as session, session.delete(door.topic_url(topic)) as response:
        assert response.status == 204
    assert await client.publish(topic, 3) == 2


async def test_the_door_is_shut_unless_it_is_opened(service: Service, topic: str) -> None:
    """The answer names the setting."""
    status, answer = await post(service.topic_url(topic), b"1", content_type="application/json")
    assert (status, answer["code"]) == (405, "not-enabled")
    assert "PUBSUB_PUBLISH_ENABLED" in answer["detail"]


async def test_another_type_of_body_is_refused(door: Service, topic: str) -> None:
    """A form, which a page of another origin could send without asking, among them."""
    status, answer = await post(door.topic_url(topic), b"a=1", content_type="application/x-www-form-urlencoded")
    assert (status, answer["code"]) == (415, "unsupported-type")


# --- the life of a topic ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def keeping(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with an object of its own, which keeps little."""
    service = Service(
        restate,
        PUBSUB_OBJECT_NAME="kept",
        PUBSUB_RETAIN_MESSAGES="100",
        PUBSUB_RETAIN_BYTES="64KiB",
        PUBSUB_RETAIN_IDLE="2s",
    )
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def kept(restate: RestateServer, keeping: Service) -> AsyncIterator[PubsubClient]:  # noqa: ARG001
    """Return a client of that object."""
    async with create_pubsub_client(restate.ingress_url, "kept") as client:
        yield client


async def test_only_so_many_messages_are_kept(keeping: Service, kept: PubsubClient) -> None:
    """Readers whose place is gone are reset; what is kept is shown by `info`."""
    topic = topic_name()
    for first in range(0, 300, 30):
        await kept.append(topic, list(range(first, first + 30)))
    info = await kept.info(topic)
    assert (info["head"], info["tail"]) == (200, 300)
    assert info["retention"] == {"messages": 100, "bytes": 65536, "idleSeconds": 2.0}
    async with stream(keeping.topic_url(topic, "offset=5")) as reader:
        assert Event("200", "reset", {"requested": 5, "head": 200, "tail": 300}) == await reader.next()
        assert list(range(200, 300)) == [event.data for event in await reader.take(100)]


async def test_only_so_many_bytes_are_kept(kept: PubsubClient) -> None:
    """The oldest go, page by page; the newest stay."""
    topic = topic_name()
    for at in range(40):
        await kept.append(topic, [f"{at:04}" + "x" * 4000])
    info = await kept.info(topic)
    assert info["bytes"] <= 65536 + 4006
    assert info["tail"] == 40
    assert info["head"] > 20


async def test_an_idle_topic_is_deleted_and_its_counter_stays(kept: PubsubClient) -> None:
    """A topic that is written to lives on; one that is not goes after the idle time, up to a quarter later."""
    idle, busy = topic_name("idle"), topic_name("busy")
    await kept.append(idle, [1, 2, 3])
    loop = asyncio.get_running_loop()
    started = loop.time()
    written = 0

    async def gone() -> bool:
        nonlocal written
        await kept.publish(busy, 1)
        written += 1
        return bool((await kept.info(idle))["head"] == 3)

    await until(gone, "the idle topic to go", 10)
    assert loop.time() - started > 1.9
    assert (0, written) == ((await kept.info(busy))["head"], (await kept.info(busy))["tail"])
    assert await kept.publish(idle, "again") == 3


async def test_truncating_much_is_paid_in_parts(client: PubsubClient, restate: RestateServer, topic: str) -> None:
    """The call returns quickly, and in the end the state is gone."""
    for _ in range(2):
        await client.append(topic, list(range(8000)))
    await client.truncate(topic, 15_990)
    assert [7990 + at for at in range(10)] == await everything(client, topic)

    async def swept() -> bool:
        return len([key for key in await state_of(restate, topic) if key.startswith("p_")]) <= 1

    await until(swept, "the pages to go")


async def test_a_publish_through_restate_is_seen_beside_the_door(
    door: Service, restate: RestateServer, topic: str
) -> None:
    """Both ways in lead to one log."""
    await publish(restate, topic, 1)
    await post(door.topic_url(topic), b"2", content_type="application/json")
    assert (await get(f"{door.url}/health/ready"))[0] == 200
    assert (await call(restate, topic, "pull", {"offset": 0}))[1]["messages"] == [1, 2]
