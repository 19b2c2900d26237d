"""The streams: their bytes, where they begin, how they end, and what they survive."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import (
    Event,
    Service,
    call,
    free_port,
    get,
    publish,
    query,
    restate_server,
    stream,
    subscribed,
    topic_name,
)
from support.waiting import until


async def request(method: str, url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of any request."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    timeout = aiohttp.ClientTimeout(10)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.request(method, url, headers=given) as answer:
        return answer.status, await answer.read(), {name.lower(): value for name, value in answer.headers.items()}


async def append(restate: RestateServer, topic: str, *entries: Any, close: bool = False) -> None:
    """Append plain messages, or `(message, event)` pairs."""
    messages = [{"data": e[0], "event": e[1]} if isinstance(e, tuple) else {"data": e} for e in entries]
    status, answer = await call(restate, topic, "append", {"messages": messages, "close": close})
    assert 200 == status, answer


async def test_the_bytes_of_a_whole_topic(restate: RestateServer, service: Service, topic: str) -> None:
    """A comment and `retry:` first; an id, an event where there is one, and compact JSON; the end."""
    await append(restate, topic, {"a": [1, "é"]}, ("two", "token"), "line\nfeed\u2028", close=True)
    async with stream(service.topic_url(topic)) as reader:
        await reader.to_end()
        headers = reader.response.headers
    retry = re.match(rb": open\nretry: (\d+)\n", reader.raw)
    assert retry is not None
    assert 2000 <= int(retry[1]) <= 4000
    body = reader.raw[retry.end() :]
    assert (
        b'id: 1\ndata: {"a":[1,"\\u00e9"]}\n\n'
        b'id: 2\nevent: token\ndata: "two"\n\n'
        b'id: 3\ndata: "line\\nfeed\\u2028"\n\n'
        b'id: 3\nevent: end\ndata: {"nextOffset":3}\n\n'
    ) == body
    assert "text/event-stream; charset=utf-8" == headers["content-type"]
    assert "no-store, no-transform" == headers["cache-control"]
    assert "no" == headers["x-accel-buffering"]
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("where", "headers", "first"),
    [
        ("", {}, 2),
        ("offset=", {}, 2),
        ("offset=2", {}, 2),
        ("offset=7", {}, 7),
        ("offset=007", {}, 7),
        ("offset=-3", {}, 7),
        ("offset=-8", {}, 2),
        ("offset=-9000", {}, 2),
        ("lastEventId=6", {}, 6),
        ("lastEventId=6&offset=3", {}, 6),
        ("offset=3", {"Last_Event_ID": "8"}, 8),
        ("lastEventId=4", {"Last_Event_ID": "8"}, 8),
        ("offset=latest", {"Last_Event_ID": "8"}, 8),
        ("offset=5", {"Last_Event_ID": ""}, 5),
    ],
)
async def test_where_a_stream_begins(
    restate: RestateServer, service: Service, topic: str, where: str, headers: dict[str, str], first: int
) -> None:
    """`[2, 10)` is there. `Last-Event-ID` wins over `lastEventId`, and that over `offset`."""
    await append(restate, topic, *range(10))
    await call(restate, topic, "truncate", 2)
    async with stream(service.topic_url(topic, where), **headers) as reader:
        if where in ("", "offset="):  # 0 is gone
            assert Event("2", "reset", {"requested": 0, "head": 2, "tail": 10}) == await reader.next()
        events = await reader.take(10 - first)
    assert [Event(str(n + 1), "message", n) for n in range(first, 10)] == events


@pytest.mark.parametrize("where", ["offset=latest", "offset=10", "lastEventId=10"])
async def test_a_stream_from_the_tail_has_what_comes_next(
    restate: RestateServer, service: Service, topic: str, where: str
) -> None:
    """And nothing before it, however early the message comes after the stream was placed."""
    await append(restate, topic, *range(10))
    async with stream(service.topic_url(topic, where)) as reader, stream(service.topic_url(topic, "offset=9")) as other:
        assert 9 == (await other.next()).data  # the feed is there; a heartbeat later the reader is placed
        await until_beat(reader)
        await publish(restate, topic, "next")
        assert Event("11", "message", "next") == await reader.next()


async def until_beat(reader: Any) -> None:
    """Read until the stream has sent a heartbeat."""
    before = len(reader.comments)
    while len(reader.comments) <= before + 1:
        try:
            await reader.next(0.3)
        except TimeoutError:
            continue


async def test_heartbeats(service: Service, topic: str) -> None:
    """A comment each second, as this service is set; no browser sees it as an event."""
    async with stream(service.topic_url(topic)) as reader:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            await reader.next(3.6)
        assert time.monotonic() - start > 3.5
    opening, *beats = reader.raw.splitlines(keepends=True)[1:]
    assert opening.startswith(b"retry: ")
    assert 3 <= len(beats) <= 4
    assert {b":\n"} == set(beats)


async def test_heartbeats_that_a_page_can_see(restate: RestateServer, service: Service, topic: str) -> None:
    """The first at once, all without an id; whoever asks for `latest` gets the place with the first."""
    await append(restate, topic, "a")
    async with stream(service.topic_url(topic, "heartbeat=event&offset=latest")) as reader:
        assert [Event("1", "heartbeat", {"seconds": 1})] * 3 == await reader.take(3)
        await append(restate, topic, "b")
        while (event := await reader.next()).event == "heartbeat":
            continue
        assert Event("2", "message", "b") == event
    block = b'event: heartbeat\ndata: {"seconds":1}\n\n'
    assert re.fullmatch(rb': open\nretry: \d+\nid: 1\n(%b)+id: 2\ndata: "b"\n\n' % re.escape(block), reader.raw), (
        reader.raw
    )
    status, problem, _ = await get(service.topic_url(topic, "heartbeat=loud"))
    assert (400, "heartbeat 'loud' is neither comment nor event") == (status, problem["detail"])


@pytest.mark.parametrize("offset", ["latest", "-3"])
async def test_where_a_stream_begins_comes_with_its_opening(
    restate: RestateServer, service: Service, topic: str, offset: str
) -> None:
    """In one piece: whoever sees the stream open can go on from there."""
    await append(restate, topic, "a")
    async with stream(service.topic_url(topic, f"offset={offset}")) as reader:
        await asyncio.wait_for(reader.response.content.readline(), 10)
        rest = reader.response.content.read_nowait()
    place = 1 if offset == "latest" else 0
    assert re.match(rb"retry: \d+\nid: %d\n\n" % place, rest), rest


async def test_a_resumed_stream_misses_and_repeats_nothing(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """Cut after any number of messages, and go on at the last id."""
    await append(restate, topic, *range(200))
    seen: list[int] = []
    last = ""
    for count in (1, 63, 64, 2, 70):
        async with stream(service.topic_url(topic), **({"Last_Event_ID": last} if last else {})) as reader:
            seen += [event.data for event in await reader.take(count)]
            last = reader.last_id
    assert list(range(200)) == seen


@pytest.mark.parametrize("how", ["truncate", "delete"])
async def test_gone_messages_are_a_reset(restate: RestateServer, service: Service, topic: str, how: str) -> None:
    """With what was asked for and what there is; then it goes on from the head."""
    await append(restate, topic, *range(5))
    await call(restate, topic, how, 3 if how == "truncate" else ...)
    await publish(restate, topic, 5)
    head = 3 if how == "truncate" else 5
    async with stream(service.topic_url(topic), Last_Event_ID="1") as reader:
        assert Event(str(head), "reset", {"requested": 1, "head": head, "tail": 6}) == await reader.next()
        assert list(range(head, 6)) == [event.data for event in await reader.take(6 - head)]
    assert f'id: {head}\nevent: reset\ndata: {{"requested":1,"head":{head},"tail":6}}\n\n'.encode() in reader.raw
    status, problem, _ = await get(service.topic_url(topic, "strict=true"), Last_Event_ID="1")
    assert (410, "offset-gone", f"Offset 1 is lower than the head {head}") == (
        status,
        problem["code"],
        problem["detail"],
    )
    assert {"requested": 1, "head": head, "tail": 6}.items() <= problem.items()


async def test_strict_streams_where_nothing_is_gone(restate: RestateServer, service: Service, topic: str) -> None:
    """`strict=true` is a stream like any other then."""
    await publish(restate, topic, "a")
    async with stream(service.topic_url(topic, "strict=true&offset=0")) as reader:
        assert "a" == (await reader.next()).data


async def test_a_live_reader_is_not_reset_by_truncation(restate: RestateServer, service: Service, topic: str) -> None:
    """It has what was truncated; what comes next comes."""
    async with stream(service.topic_url(topic)) as reader:
        await publish(restate, topic, 0, 1)
        assert [0, 1] == [event.data for event in await reader.take(2)]
        await call(restate, topic, "truncate", 2)
        await publish(restate, topic, 2)
        assert Event("3", "message", 2) == await reader.next()
        await call(restate, topic, "delete")
        await publish(restate, topic, 3)
        assert Event("4", "message", 3) == await reader.next()


async def test_the_end_of_a_closed_topic(restate: RestateServer, service: Service, topic: str) -> None:
    """After its last message the stream ends, live or later; whoever comes back gets 204, which stops EventSource."""
    async with stream(service.topic_url(topic)) as reader:
        await publish(restate, topic, "a")
        await call(restate, topic, "close")
        assert [Event("1", "message", "a"), Event("1", "end", {"nextOffset": 1})] == await reader.to_end()
    for where, headers in (("", {"Last_Event_ID": "1"}), ("lastEventId=1", {}), ("offset=1", {}), ("offset=9", {})):
        status, body, answer_headers = await request("GET", service.topic_url(topic, where), **headers)
        assert (204, b"") == (status, body), where
        assert "no-store" == answer_headers["cache-control"]
    async with stream(service.topic_url(topic)) as reader:
        assert ["message", "end"] == [event.event for event in await reader.to_end()]
    async with stream(service.topic_url(topic, "offset=latest")) as reader:
        assert [Event("1", "end", {"nextOffset": 1})] == await reader.to_end()


async def test_a_closed_topic_that_nobody_wrote_to(restate: RestateServer, service: Service, topic: str) -> None:
    """Its end has an id, too: an EventSource that comes back with it gets its 204."""
    await call(restate, topic, "close")
    async with stream(service.topic_url(topic)) as reader:
        assert [Event("0", "end", {"nextOffset": 0})] == await reader.to_end()
    assert 204 == (await request("GET", service.topic_url(topic), Last_Event_ID="0"))[0]


async def test_a_topic_deleted_after_its_end_lives_again(restate: RestateServer, service: Service, topic: str) -> None:
    """Also in a process that still remembers the end."""
    await append(restate, topic, "a", "b", close=True)
    async with stream(service.topic_url(topic)) as reader:
        await reader.to_end()
    await call(restate, topic, "delete")
    async with stream(service.topic_url(topic), Last_Event_ID="2") as reader:
        await publish(restate, topic, "again")
        assert Event("3", "message", "again") == await reader.next()
    async with stream(service.topic_url(topic)) as reader:
        assert Event("2", "reset", {"requested": 0, "head": 2, "tail": 3}) == await reader.next()
        assert "again" == (await reader.next()).data


async def test_a_topic_that_was_deleted_and_ended_again_is_read_to_its_new_end(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """A process that remembers the first end finds the messages before the second."""
    await append(restate, topic, "a", "b", close=True)
    async with stream(service.topic_url(topic)) as reader:
        await reader.to_end()
    await call(restate, topic, "delete")
    await append(restate, topic, "c", "d", close=True)
    async with stream(service.topic_url(topic)) as reader:
        events = await reader.to_end()
    assert ["reset", "message", "message", "end"] == [event.event for event in events]
    assert ["c", "d"] == [event.data for event in events[1:3]]


async def test_head_answers_and_ends(restate: RestateServer, service: Service, topic: str) -> None:
    """HEAD is what GET would begin with; no stream stays behind, though the connection does."""
    await publish(restate, topic, 1)
    async with aiohttp.ClientSession() as session:
        async with session.head(service.topic_url(topic)) as answer:
            assert 200 == answer.status
            assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
            assert "no-store, no-transform" == answer.headers["cache-control"]
        await service.has_streams(0, 5)
        async with session.get(f"{service.url}/health/live") as answer:
            assert 200 == answer.status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods_are_405(service: Service, topic: str, method: str) -> None:
    """With what is allowed, as problem+json."""
    status, body, headers = await request(method, service.topic_url(topic))
    assert 405 == status
    assert "application/problem+json" == headers["content-type"]
    assert (b'"code":"method-not-allowed"' if method == "PATCH" else b'"code":"not-enabled"') in body
    assert "GET" in headers["allow"]


@pytest.mark.parametrize(("path", "code"), [("/", 404), ("/nothing", 404), ("/pubsub", 400), ("/pubsub/", 400)])
async def test_what_is_not_there_is_a_problem_document(service: Service, path: str, code: int) -> None:
    """Never HTML, never plain text."""
    status, problem, headers = await get(service.url + path)
    assert (code, code) == (status, problem["status"])
    assert "application/problem+json" == headers["content-type"]


async def test_a_topic_that_is_not_utf_8(service: Service) -> None:
    """Broken escapes do not name another topic."""
    status, problem, _ = await get(f"{service.url}/pubsub/a%ff")
    assert (400, "invalid-topic") == (status, problem["code"])
    assert "not UTF-8" in problem["detail"]


async def test_the_mount_may_be_escaped(restate: RestateServer, service: Service, topic: str) -> None:
    """`/%70ubsub/x` is `/pubsub/x`, and topic `x`."""
    await publish(restate, topic, "x")
    async with stream(f"{service.url}/%70ubsub/{topic}") as reader:
        assert "x" == (await reader.next()).data


async def test_readers_share_a_feed(restate: RestateServer, service: Service, topic: str) -> None:
    """Twenty readers from different places: each has all of it in order, and Restate has one who waits."""
    await append(restate, topic, *range(100))

    async def read(start: int) -> list[int]:
        async with stream(service.topic_url(topic, f"offset={start}")) as reader:
            return [event.data for event in await reader.to_end()][:-1]

    readers = [asyncio.create_task(read(5 * n)) for n in range(20)]
    await service.has_streams(20)
    await subscribed(restate, topic)
    for n in range(100, 150):
        await publish(restate, topic, n)
    await call(restate, topic, "close")
    for n, seen in enumerate(await asyncio.gather(*readers)):
        assert list(range(5 * n, 150)) == seen


async def test_messages_are_delivered_where_they_were_written(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """With one replica, a live message does not take the way through a pull."""
    async with stream(service.topic_url(topic)) as reader:
        await publish(restate, topic, "first")
        await reader.next()
        await subscribed(restate, topic)
        before = [await service.metric("restate_pubsub_messages_arrived_total"), await local(service)]
        for n in range(10):
            await publish(restate, topic, n)
            assert n == (await reader.next()).data
        assert 10 == await local(service) - before[1]


async def local(service: Service) -> float:
    """Return how many messages came straight from a write."""
    _, text, _ = await request("GET", f"{service.url}/metrics")
    found = re.search(rb'messages_arrived_total\{by="local"\} (\S+)', text)
    assert found is not None
    return float(found[1])


async def test_a_stream_opens_before_restate_and_the_object_are_there(tmp_path: Any) -> None:
    """First bytes at once, heartbeats while waiting, everything when both have come; readiness says why not."""
    restate = restate_server(tmp_path)
    service = Service(restate, PUBSUB_HEARTBEAT="200ms")
    tmp_path.mkdir(exist_ok=True)
    await service.start(register=False)
    try:
        topic = topic_name()
        start = time.monotonic()
        async with (
            stream(service.topic_url(topic)) as reader,
            stream(service.topic_url(topic), Last_Event_ID="0") as two,
        ):
            assert time.monotonic() - start < 2
            with pytest.raises(TimeoutError):
                await reader.next(1.0)
            assert reader.raw.startswith(b": open\nretry: ")
            assert reader.raw.count(b"\n:") >= 3
            status, ready, _ = await get(f"{service.url}/health/ready")
            assert 503 == status
            assert "cannot be reached" in ready["reason"]
            await restate.start()
            await until(lambda: "run `restate-pubsub register`" in service.log, "the service to miss its object")
            with pytest.raises(TimeoutError):
                await reader.next(0.5)
            code, out = await service.command("register", "--url", f"{service.url}/restate")
            assert 0 == code, out
            await publish(restate, topic, "at last")
            assert Event("1", "message", "at last") == await reader.next()
            assert Event("1", "message", "at last") == await two.next()
        assert "feed cannot pull; it keeps trying" in service.log
    finally:
        await service.stop()
        await restate.stop()


async def test_a_stream_survives_restate_and_notices_a_lost_counter(tmp_path: Any) -> None:
    """Killed and started on its data, nothing is missing or doubled; on an empty folder, a reset says so."""
    first = restate_server(tmp_path / "first")
    await first.start()
    service = await Service(first).start()
    topic = topic_name()
    second = RestateServer(
        tmp_path / "second",
        ingress_port=int(first.ingress_url.rpartition(":")[2]),
        admin_port=int(first.admin_url.rpartition(":")[2]),
        node_port=free_port(),
        env={"RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256MB"},
    )
    try:
        async with stream(service.topic_url(topic)) as reader:
            await publish(first, topic, *range(5))
            assert list(range(5)) == [event.data for event in await reader.take(5)]
            await first.kill()
            await first.start()
            await publish(first, topic, 5, 6)
            assert [5, 6] == [event.data for event in await reader.take(2)]
            await first.stop()
            await second.start()
            code, out = await service.command("register", "--url", f"{service.url}/restate")
            assert 0 == code, out
            assert Event("0", "reset", {"requested": 7, "head": 0, "tail": 0}) == await reader.next()
            await publish(second, topic, "anew")
            assert Event("1", "message", "anew") == await reader.next()
        async with stream(service.topic_url(topic), Last_Event_ID="7") as reader:
            assert Event("0", "reset", {"requested": 7, "head": 0, "tail": 1}) == await reader.next()
            assert "anew" == (await reader.next()).data
        status, problem, _ = await get(service.topic_url(topic, "strict=true"), Last_Event_ID="7")
        assert 410 == status
        assert "past the tail 1" in problem["detail"]
    finally:
        await service.stop()
        await first.stop()
        await second.stop()


@pytest.mark.parametrize("how", ["the readers leave", "the process stops"])
async def test_a_topic_that_was_only_looked_at_leaves_nothing_behind(
    restate: RestateServer, service: Service, topic: str, how: str
) -> None:
    """No state, and no pull that waits in Restate for something that nobody here is interested in any more."""
    assert service.process is not None
    names = [f"{topic}/{at}" for at in range(40)]
    looks = await Service(restate, PUBSUB_FEED_LINGER="0s").start(register=False)

    async def held() -> tuple[int, int]:
        state = f"from state where service_key like '{topic}/%'"
        calls = f"from sys_invocation where target_service_key like '{topic}/%' and status <> 'completed'"
        found = [await query(restate, f"select count(*) as n {what}") for what in (state, calls)]
        return found[0][0]["n"], found[1][0]["n"]

    try:
        async with contextlib.AsyncExitStack() as stack:
            for name in names:
                await stack.enter_async_context(stream(looks.topic_url(name)))
            await until(lambda: is_now(held, (40, 40)), "a pull of each topic to wait")
            if how == "the process stops":
                assert 0 == await looks.stop()
        await until(lambda: is_now(held, (0, 0)), "all of it to be gone")
    finally:
        await looks.stop()


@pytest.mark.parametrize("runs", ["here", "elsewhere"])
async def test_the_pull_that_says_where_a_topic_is_waits_where_it_runs_in_the_same_process(
    restate: RestateServer, service: Service, topic: str, runs: str
) -> None:
    """One call is enough then; elsewhere the answer says it, and a pull without that step waits."""
    reads = service if runs == "here" else await Service(restate).start(register=False)

    async def steps() -> list[str]:
        found = await query(
            restate,
            "select step.name as name from sys_journal step join sys_invocation whose on step.id = whose.id "  # noqa: S608
            f"where whose.target_service_key = '{topic}' and whose.target_handler_name = 'pull' "
            "and whose.status = 'suspended' and step.entry_type = 'Command: Run'",
        )
        return [row["name"] for row in found]

    async def waits() -> int:
        calls = f"from sys_invocation where target_service_key = '{topic}' and status = 'suspended'"
        return int((await query(restate, f"select count(*) as n {calls}"))[0]["n"])

    try:
        async with stream(reads.topic_url(topic)) as reader:
            await until(lambda: is_now(waits, 1), "the pull to wait")
            assert ["opened"] * (runs == "here") == await steps()
            await call(restate, topic, "publish", "first")
            assert "first" == (await reader.next()).data
    finally:
        if reads is not service:
            await reads.stop()


async def is_now(what: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await what() == expected
