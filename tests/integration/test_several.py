"""Several topics on one stream, with the real server: live, over cuts, with what is gone, closed, refused or slow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from restate_pubsub import create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Event, Service, Stream, call, get, publish, stream, topic_name
from support.tokens import token
from support.waiting import until

SECRET = "several-topics-on-one-stream-and-a-secret"


@pytest.fixture(scope="module")
async def door(restate: RestateServer, service: Service) -> AsyncIterator[Service]:  # noqa: ARG001
    """Return a replica that wants tokens, and cuts off who takes nothing for three seconds."""
    env = {"PUBSUB_JWT_KEY": SECRET, "PUBSUB_SEND_TIMEOUT": "3s", "PUBSUB_CORS_ORIGINS": "https://a.example"}
    replica = await Service(restate, env=env).start(register=False)
    yield replica
    await replica.stop()


def url_of(service: Service, *topics: str, query: str = "") -> str:
    """Return the URL of a stream of these topics."""
    named = "&".join(f"topic={quote(topic, safe='')}" for topic in topics)
    return f"{service.url}/pubsub?{named}{'&' + query if query else ''}"


def topics_named(count: int) -> list[str]:
    """Return fresh topics."""
    return [topic_name() for _ in range(count)]


async def append(restate: RestateServer, topic: str, *messages: Any, close: bool = False, **more: Any) -> None:
    """Append plain messages, or `(message, event)` pairs."""
    entries = [{"data": m[0], "event": m[1]} if isinstance(m, tuple) else {"data": m} for m in messages]
    status, answer = await call(restate, topic, "append", {"messages": entries, "close": close, **more})
    assert 200 == status, answer


def said(event: Event) -> tuple[str, Any]:
    """Return which topic an event is of, and its message."""
    return event.data["topic"], event.data["data"]


async def test_the_bytes_of_three_topics(restate: RestateServer, service: Service) -> None:
    """A message's data says of which topic it is and where; the id is the place in all of them."""
    a, b, c = topics_named(3)
    c += '/"ö"\n'
    await append(restate, a, {"n": 1}, ("two", "token"), close=True)
    await append(restate, b, "b", close=True)
    await call(restate, c, "append", {"messages": [{"data": n} for n in range(3)], "close": True})
    await call(restate, c, "truncate", 2)
    async with stream(url_of(service, a, b, c)) as reader:
        events = await reader.to_end()
        headers = reader.response.headers
    by_topic = {
        topic: [
            (e.event, {k: v for k, v in e.data.items() if k != "topic"}) for e in events if e.data["topic"] == topic
        ]
        for topic in (a, b, c)
    }
    assert {
        a: [
            ("message", {"offset": 0, "data": {"n": 1}}),
            ("message", {"offset": 1, "event": "token", "data": "two"}),
            ("end", {"nextOffset": 2}),
        ],
        b: [("message", {"offset": 0, "data": "b"}), ("end", {"nextOffset": 1})],
        c: [
            ("reset", {"requested": 0, "head": 2, "tail": 3}),
            ("message", {"offset": 2, "data": 2}),
            ("end", {"nextOffset": 3}),
        ],
    } == by_topic
    places = {a: 0, b: 0, c: 0}
    for event in events:
        after = {"message": "offset", "end": "nextOffset", "reset": "head"}[event.event]
        places[event.data["topic"]] = event.data[after] + (event.event == "message")
        assert ".".join(map(str, places.values())) == event.id
    assert re.match(rb": open\nretry: \d+\nid: ", reader.raw)
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    assert "no-store, no-transform" == headers["cache-control"]
    status, _, _ = await get(url_of(service, a, b, c, query="lastEventId=2.1.3"))
    assert 204 == status


async def test_a_hundred_topics_live(restate: RestateServer, service: Service) -> None:
    """What is published to each comes once; the stream counts as one."""
    topics = topics_named(100)
    async with stream(url_of(service, *topics)) as reader:
        await asyncio.gather(*(publish(restate, topic, "first") for topic in topics))
        assert {(topic, "first") for topic in topics} == {said(e) for e in await reader.take(100)}
        assert 1 == await service.metric("restate_pubsub_streams")
        await asyncio.gather(*(publish(restate, topic, "second") for topic in topics))
        events = await reader.take(100)
        assert {(topic, "second") for topic in topics} == {said(e) for e in events}
        assert ".".join(["2"] * 100) == events[-1].id
    await service.has_streams(0)


async def test_a_hundred_topics_go_on_where_they_were(restate: RestateServer, service: Service) -> None:
    """After a cut at any event, the id brings exactly the rest of each topic, be it live or from Restate."""
    topics = topics_named(100)
    for round_ in range(2):
        await asyncio.gather(*(append(restate, topic, *range(round_ * 3, round_ * 3 + 3)) for topic in topics))
    got: dict[str, list[Any]] = {topic: [] for topic in topics}
    last, seen = "", 0
    while seen < 600:
        async with stream(url_of(service, *topics), **({"Last_Event_ID": last} if last else {})) as reader:
            for event in await reader.take(min(137, 600 - seen)):
                got[event.data["topic"]].append(event.data["data"])
                assert got[event.data["topic"]][-1] == event.data["offset"]
                last, seen = event.id, seen + 1
    assert {topic: list(range(6)) for topic in topics} == got


async def test_a_stream_goes_on_after_a_kill(restate: RestateServer, service: Service) -> None:  # noqa: ARG001
    """The process dies; the next one goes on from the id, with what came meanwhile."""
    topics = topics_named(20)
    replica = await Service(restate).start(register=False)
    try:
        async with stream(url_of(replica, *topics)) as reader:
            await asyncio.gather(*(publish(restate, topic, 1) for topic in topics))
            last = (await reader.take(20))[-1].id
            await replica.kill()
            with contextlib.suppress(aiohttp.ClientError):
                assert [] == await reader.to_end()
        await replica.start(register=False)
        await asyncio.gather(*(publish(restate, topic, 2) for topic in topics))
        async with stream(url_of(replica, *topics), Last_Event_ID=last) as reader:
            assert {(topic, 2) for topic in topics} == {said(e) for e in await reader.take(20)}
    finally:
        await replica.stop()


async def test_the_latest_of_each_topic(restate: RestateServer, service: Service) -> None:
    """`latest` and `-K` hold for each; one block without data says where the stream begins, before anything comes."""
    a, b = topics_named(2)
    await append(restate, a, 1, 2, 3)
    async with stream(url_of(service, a, b, query="offset=latest")) as reader:
        await until_said(reader, b"id: 3.0\n\n")
        await publish(restate, b, "b")
        assert Event("3.1", "message", {"topic": b, "offset": 0, "data": "b"}) == await reader.next()
    async with stream(url_of(service, a, b, query="offset=-1")) as reader:
        assert [(a, 3), (b, "b")] == sorted((said(e) for e in await reader.take(2)), key=lambda one: one[0] != a)
    async with stream(url_of(service, a, b, query="offset=1.latest")) as reader:
        assert [(a, 2), (a, 3)] == [said(e) for e in await reader.take(2)]
    async with stream(url_of(service, a, b, query="offset=latest"), Last_Event_ID="1.") as reader:
        assert [(a, 2), (a, 3)] == [said(e) for e in await reader.take(2)]
        await publish(restate, b, "c")
        assert Event("3.2", "message", {"topic": b, "offset": 1, "data": "c"}) == await reader.next()


async def until_said(reader: Stream, text: bytes) -> None:
    """Read until the stream has said it."""
    while text not in reader.raw:
        with contextlib.suppress(TimeoutError):
            await reader.next(0.1)


async def test_heartbeats_are_the_streams(restate: RestateServer, service: Service) -> None:
    """One for all topics; with `heartbeat=event` the first one carries the place."""
    a, b = topics_named(2)
    await append(restate, a, 1)
    async with stream(url_of(service, a, b, query="heartbeat=event&offset=latest")) as reader:
        assert Event("", "heartbeat", {"seconds": 1}) == await reader.next()
        assert [Event("1.0", "heartbeat", {"seconds": 1})] * 3 == await reader.take(3)
    async with stream(url_of(service, a, b, query="offset=latest")) as reader:
        with pytest.raises(TimeoutError):
            await reader.next(3.6)
        assert 3 <= len(reader.comments) - 1 <= 4


async def test_topics_end_one_after_the_other(restate: RestateServer, service: Service) -> None:
    """The response ends with the last; whoever comes back before hears of the ends again, after it gets a 204."""
    a, b = topics_named(2)
    async with stream(url_of(service, a, b)) as reader:
        await append(restate, a, 1, close=True)
        assert [("message", a), ("end", a)] == [(e.event, e.data["topic"]) for e in await reader.take(2)]
        async with stream(url_of(service, a, b), Last_Event_ID="1.0") as other:
            assert Event("1.0", "end", {"topic": a, "nextOffset": 1}) == await other.next()
            await append(restate, b, 2, close=True)
            assert [("message", "1.1"), ("end", "1.1")] == [(e.event, e.id) for e in await other.to_end()]
        assert [("message", "1.1"), ("end", "1.1")] == [(e.event, e.id) for e in await reader.to_end()]
    status, _, _ = await get(url_of(service, a, b), Last_Event_ID="1.1")
    assert 204 == status


async def test_what_happens_to_a_topic_is_an_event_of_it(restate: RestateServer, service: Service) -> None:
    """A topic that was deleted is reset, a token stream that begins again says `restart`; the other topic goes on."""
    a, b = topics_named(2)
    await append(restate, a, 1, 2)
    await call(restate, a, "delete")
    async with stream(url_of(service, a, b), Last_Event_ID="1.0") as reader:
        assert Event("2.0", "reset", {"topic": a, "requested": 1, "head": 2, "tail": 2}) == await reader.next()
        async with create_pubsub_client(restate.ingress_url) as client:
            with contextlib.suppress(ZeroDivisionError):
                async with client.stream(b, id="s", linger=0) as tokens:
                    await tokens.write("x")
                    event = await reader.next()
                    raise ZeroDivisionError
            async with client.stream(b, id="s") as tokens:
                await tokens.write("y")
        assert Event("2.1", "message", {"topic": b, "offset": 0, "data": "x"}) == event
        assert Event("2.2", "restart", {"topic": b, "id": "s", "offset": 0, "count": 1}) == await reader.next()
        assert Event("2.3", "message", {"topic": b, "offset": 2, "data": "y"}) == await reader.next()
        await append(restate, a, "again")
        assert (a, "again") == said(await reader.next())


async def test_history_comes_joined(restate: RestateServer, service: Service) -> None:
    """As on a stream of its own, and `offset` is that of the last message in it."""
    a, b = topics_named(2)
    for _ in range(3):
        await append(restate, a, *({"text": "x"} for _ in range(64)), join="text")
    async with stream(url_of(service, a, b, query="offset=0.latest")) as reader:
        event = await reader.next()
        assert event.data["offset"] > 0
        assert "x" * (event.data["offset"] + 1) == event.data["data"]["text"]
    async with stream(url_of(service, a, b, query="join=false")) as reader:
        assert [{"text": "x"}] * 192 == [e.data["data"] for e in await reader.take(192)]


@pytest.mark.parametrize(
    ("query", "headers", "code", "what"),
    [
        ("", {}, "invalid-request", "No topic is named"),
        ("topic=", {}, "invalid-topic", "empty"),
        ("topic=a&topic=b&topic=a", {}, "invalid-request", "'a' is named twice"),
        ("&".join(f"topic={n}" for n in range(101)), {}, "invalid-request", "101 topics"),
        ("topic=%FF", {}, "invalid-topic", "UTF-8"),
        ("topic=" + "a" * 513, {}, "invalid-topic", "512"),
        ("topic=a&topic=b", {"Last_Event_ID": "3"}, "invalid-request", "1 places"),
        ("topic=a&topic=b", {"Last_Event_ID": "3.4.5"}, "invalid-request", "3 places"),
        ("topic=a&topic=b", {"Last_Event_ID": "3.x"}, "invalid-request", "'x'"),
        ("topic=a&topic=b", {"Last_Event_ID": "3.-1"}, "invalid-request", "negative"),
        ("topic=a&topic=b&offset=1.2.3", {}, "invalid-request", "3 places"),
        ("topic=a&topic=b&offset=soon", {}, "invalid-request", "soon"),
        ("topic=a&topic=b&view=ai-sdk", {}, "invalid-request", "one topic"),
        ("topic=a&topic=b&heartbeat=loud", {}, "invalid-request", "loud"),
        ("topic=a&strict=maybe", {}, "invalid-request", "maybe"),
    ],
)
async def test_what_is_no_request_for_topics(
    service: Service, query: str, headers: dict[str, str], code: str, what: str
) -> None:
    """It is a 400 that says what is wrong, before anything is opened."""
    status, problem, _ = await get(f"{service.url}/pubsub?{query}", **headers)
    assert (400, code) == (status, problem["code"])
    assert what in problem["detail"]


async def test_strict_names_the_topic_that_is_gone(restate: RestateServer, service: Service) -> None:
    """`strict=true` refuses the stream if one place is gone."""
    a, b = topics_named(2)
    await append(restate, b, 1, 2)
    await call(restate, b, "truncate", 1)
    status, problem, _ = await get(url_of(service, a, b, query="strict=true"))
    assert (410, "offset-gone", 1) == (status, problem["code"], problem["head"])
    assert b in problem["detail"]
    async with stream(url_of(service, a, b, query="strict=true&offset=0.1")) as reader:
        assert (b, 2) == said(await reader.next())


async def test_head_and_other_methods(service: Service) -> None:
    """`HEAD` is answered as the stream would be; nothing is published to no topic."""
    async with aiohttp.ClientSession() as session:
        async with session.head(url_of(service, "a", "b")) as answer:
            assert (200, "text/event-stream; charset=utf-8") == (answer.status, answer.headers["content-type"])
        async with session.post(f"{service.url}/pubsub", json=1) as answer:
            assert 405 == answer.status


async def test_a_token_permits_each_topic(restate: RestateServer, door: Service) -> None:
    """One of a hundred that it does not permit is a 403, in the words of any; all that it permits are read."""
    topics = topics_named(100)
    some = token(SECRET, subscribe=topics[:99])
    status, problem, _ = await get(url_of(door, *topics), Authorization=f"Bearer {some}")
    assert (403, "forbidden") == (status, problem["code"])
    assert topics[99] in problem["detail"]
    status, problem, _ = await get(url_of(door, *topics))
    assert 401 == status
    async with stream(url_of(door, *topics[:99]), Authorization=f"Bearer {some}", Origin="https://a.example") as reader:
        assert "https://a.example" == reader.response.headers["access-control-allow-origin"]
        await publish(restate, topics[98], "x")
        assert (topics[98], "x") == said(await reader.next())
    async with (
        aiohttp.ClientSession() as session,
        session.options(
            url_of(door, "a"), headers={"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
        ) as answer,
    ):
        assert 204 == answer.status


async def test_a_stream_ends_with_its_token(door: Service) -> None:
    """The response ends cleanly, and gives back what it held."""
    a, b = topics_named(2)
    async with stream(url_of(door, a, b), Authorization=f"Bearer {token(SECRET, subscribe=[a, b], lasts=2)}") as reader:
        assert [] == await reader.to_end(15)
    await door.has_streams(0)


async def test_a_reader_that_takes_nothing_is_cut_off(restate: RestateServer, door: Service) -> None:
    """And it holds up nobody who reads the same topics meanwhile."""
    topics = topics_named(10)
    authorization = f"Bearer {token(SECRET, subscribe=topics)}"
    big = "x" * 500_000
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(door.url).port, limit=1024)
    head = f"GET {URL(url_of(door, *topics)).raw_path_qs} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\r\n"
    writer.write(head.encode())
    await reader.readline()
    before = await door.metric("restate_pubsub_slow_readers_total")
    async with stream(url_of(door, *topics), Authorization=authorization) as other:
        taking = asyncio.create_task(other.take(40))
        for _ in range(4):
            await asyncio.gather(*(publish(restate, topic, big) for topic in topics))
        assert 40 == len(await taking)
        await until(lambda: slow_readers(door, before), "a reader that was cut off", 30)
    writer.close()
    await door.has_streams(0)


async def slow_readers(service: Service, before: float) -> bool:
    """Whether one more was cut off than before."""
    return await service.metric("restate_pubsub_slow_readers_total") > before


async def test_over_http2(restate: RestateServer, service: Service) -> None:
    """There it stays a response as any, with the same bytes."""
    a, b = topics_named(2)
    await append(restate, a, 1, close=True)
    await append(restate, b, 2, close=True)
    process = await asyncio.create_subprocess_exec(
        "curl", "-sN", "--http2-prior-knowledge", url_of(service, a, b), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert {(a, 1), (b, 2)} == {
        (data["topic"], data["data"])
        for line in out.decode().splitlines()
        if line.startswith("data: ") and "data" in (data := json.loads(line[6:]))
    }


async def test_a_process_that_stops_ends_the_stream(restate: RestateServer, service: Service) -> None:  # noqa: ARG001
    """It ends cleanly, as a whole, and the process ends in time."""
    replica = await Service(restate).start(register=False)
    topics = topics_named(30)
    async with stream(url_of(replica, *topics)) as reader:
        await publish(restate, topics[29], 1)
        await reader.next()
        stopping = asyncio.create_task(replica.stop())
        assert [] == await reader.to_end(30)
        assert 0 == await stopping
