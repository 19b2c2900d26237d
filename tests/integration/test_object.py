"""The Virtual Object on a real Restate: every handler, and what its edges do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import restate as sdk
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.commands.registration import Registrar
from support.harness import (
    Service,
    call,
    change_state,
    free_port,
    publish,
    query,
    read_all,
    state_of,
    stream,
    subscribed,
)
from support.waiting import until

pytestmark = pytest.mark.usefixtures("service")


def batch(*data: Any, close: bool = False) -> dict[str, Any]:
    """Return the input of `append`."""
    return {"messages": [{"data": item} for item in data], "close": close}


async def test_publish_answers_with_the_offset(restate: RestateServer, topic: str) -> None:
    """The first message has offset 0, and each one more."""
    sent: list[Any] = ["a", None, {"b": []}]
    answers = [await call(restate, topic, "publish", message) for message in sent]
    assert [(200, {"offset": 0}), (200, {"offset": 1}), (200, {"offset": 2})] == answers
    assert sent == await read_all(restate, topic)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'{ "n" : 12345678901234567890123 ,\n "e": 1.10e-7 }', b'{"n":12345678901234567890123,"e":1.10e-7}'),
        (b'["a\\nb", "\\u00e9", "\xc3\xa9" ]', b'["a\\nb","\\u00e9","\xc3\xa9"]'),
        (b'{"a": 1, "a": 2}', b'{"a":1,"a":2}'),
        (b' "half a pair: \\ud83d" ', b'"half a pair: \\ud83d"'),
    ],
)
async def test_a_message_is_kept_as_it_was_sent(
    restate: RestateServer, service: Service, topic: str, sent: bytes, kept: bytes
) -> None:
    """Numbers keep their digits, strings their escapes; the white space between tokens goes."""
    await call(restate, topic, "publish", sent)
    async with stream(service.topic_url(topic)) as reader:
        await reader.next()
    assert b"data: " + kept + b"\n" in reader.raw


async def test_an_append_is_one_step(restate: RestateServer, topic: str) -> None:
    """A batch gets consecutive offsets; one bad message refuses all of it; an empty one appends nothing."""
    assert (200, {"offset": 0, "nextOffset": 3}) == await call(restate, topic, "append", batch(1, 2, 3))
    status, _ = await call(restate, topic, "append", {"messages": [{"data": 4}, {"data": 5, "event": "end"}]})
    assert 400 == status
    assert (200, {"offset": 3, "nextOffset": 3}) == await call(restate, topic, "append", batch())
    assert [1, 2, 3] == await read_all(restate, topic)


async def test_events_are_named_by_offset(restate: RestateServer, topic: str) -> None:
    """A pull has `events` only where there are some; sealing a page keeps them."""
    messages = [{"data": n, "event": "odd"} if n % 2 else {"data": n} for n in range(130)]
    await call(restate, topic, "append", {"messages": messages})
    _, answer = await call(restate, topic, "pull", {"offset": 0})
    assert list(range(130)) == answer["messages"]
    assert {str(n): "odd" for n in range(1, 130, 2)} == answer["events"]
    _, answer = await call(restate, topic, "pull", {"offset": 0, "limit": 1})
    assert {"messages": [0], "nextOffset": 1} == answer


async def test_pages_are_sealed(restate: RestateServer, topic: str) -> None:
    """64 messages, one by one, become one page; their own keys go; all is read back over every boundary."""
    await publish(restate, topic, *range(70))
    state = await state_of(restate, topic)
    assert {"messagesMetadata", "p_0", *(f"m_{n}" for n in range(64, 70))} == set(state)
    await call(restate, topic, "append", batch(*range(70, 210)))
    state = await state_of(restate, topic)
    assert {"messagesMetadata", "p_0", "p_1", "p_2", *(f"m_{n}" for n in range(192, 210))} == set(state)
    for start in (0, 1, 62, 63, 64, 65, 127, 128, 191, 192, 200, 209):
        assert list(range(start, 210)) == await read_all(restate, topic, start)


async def test_pages_of_larger_messages_are_sealed(restate: RestateServer, topic: str) -> None:
    """Too large for the metadata to carry them all: the page is loaded, and sealed when its readers have the news."""
    messages = [f"{n}".ljust(1000, "x") for n in range(70)]
    await publish(restate, topic, *messages)
    assert {"messagesMetadata", "p_0", *(f"m_{n}" for n in range(64, 70))} == set(await state_of(restate, topic))
    assert messages == await read_all(restate, topic)


async def test_what_a_write_left_that_was_killed_as_it_sealed_goes_with_its_page(
    restate: RestateServer, topic: str
) -> None:
    """The page is read as one that was sealed, and truncation clears the keys beside it."""
    messages = [f"{n}".ljust(1000, "x") for n in range(65)]
    await publish(restate, topic, *messages)
    left = {f"m_{n}": json.dumps(messages[n]) for n in range(7, 64)}
    size = sum(len(message) + 2 for message in messages[:64])
    await change_state(restate, topic, **left, unfinished="true", e_0=json.dumps({"size": size, "events": {}}))
    assert messages == await read_all(restate, topic)
    await call(restate, topic, "truncate", 64)
    assert {"messagesMetadata", "m_64"} == set(await state_of(restate, topic))
    assert messages[64:] == await read_all(restate, topic, 64)


async def test_pull_limits(restate: RestateServer, topic: str) -> None:
    """`limit` bounds an answer, `nextOffset` says where to go on, in pages and out of them."""
    await call(restate, topic, "append", batch(*range(200)))
    offset, seen = 0, []
    for limit in (1, 62, 1, 1, 64, 100, 5):
        _, answer = await call(restate, topic, "pull", {"offset": offset, "limit": limit, "timeout": 0})
        if answer.get("messages") is None:
            break
        assert min(limit, 200 - offset) == len(answer["messages"])
        offset = answer["nextOffset"]
        seen += answer["messages"]
    assert list(range(200)) == seen


async def test_an_answer_is_bounded_in_bytes(restate: RestateServer, topic: str) -> None:
    """Six messages of 1 MB do not come in one answer, but they all come."""
    big = "x" * 1_000_000
    for n in range(6):
        await publish(restate, topic, f"{n}{big}")
    _, answer = await call(restate, topic, "pull", {"offset": 0})
    assert 4 == len(answer["messages"])
    assert [f"{n}{big}" for n in range(6)] == await read_all(restate, topic)


async def test_large_messages_stay_out_of_pages(restate: RestateServer, topic: str) -> None:
    """A page over 256 KiB is not sealed, and read and truncated all the same."""
    messages = [f"{n}".ljust(6000, "x") for n in range(130)]
    for start in range(0, 130, 26):
        await call(restate, topic, "append", batch(*messages[start : start + 26]))
    assert not [key for key in await state_of(restate, topic) if key.startswith("p_")]
    assert messages == await read_all(restate, topic)
    await call(restate, topic, "truncate", 100)
    assert messages[100:] == await read_all(restate, topic, 100)
    left = [key for key in await state_of(restate, topic) if key.startswith("m_")]
    assert {f"m_{n}" for n in range(100, 130)} == set(left)  # one by one: a page of them is too much to keep


async def test_a_pull_times_out_when_it_should(restate: RestateServer, topic: str) -> None:
    """408 after `timeout` seconds and not before; at once for 0; its awakeable does not stay behind."""
    start = time.monotonic()
    status, failure = await call(restate, topic, "pull", {"offset": 0, "timeout": 1})
    took = time.monotonic() - start
    assert 408 == status
    assert f"Nothing was published to topic '{topic}' from offset 0 on in 1 s" in failure["message"]
    assert 1.0 <= took < 3.0
    start = time.monotonic()
    assert 408 == (await call(restate, topic, "pull", {"timeout": 0}))[0]
    assert time.monotonic() - start < 1.0
    await subscribed(restate, topic, 0)


async def test_the_default_timeout_is_a_setting(restate: RestateServer, topic: str) -> None:
    """`PUBSUB_PULL_TIMEOUT`."""
    service = await Service(restate, PUBSUB_OBJECT_NAME="hasty", PUBSUB_PULL_TIMEOUT="500ms").start()
    try:
        start = time.monotonic()
        assert 408 == (await call(restate, topic, "pull", {"offset": 0}, name="hasty"))[0]
        assert 0.5 <= time.monotonic() - start < 2.5
    finally:
        await service.stop()


async def test_a_waiting_pull_is_answered_with_the_news(restate: RestateServer, topic: str) -> None:
    """With or without an offset, by a message or a batch; `limit` holds there, too."""
    await publish(restate, topic, "old")
    pulls = [
        asyncio.create_task(call(restate, topic, "pull", body))
        for body in ({"offset": 1}, {}, {"offset": 1, "limit": 1}, {"offset": 1, "subscriber": "me"})
    ]
    await subscribed(restate, topic, 4)
    await call(restate, topic, "append", batch("a", "b"))
    both, tail, first, named = [answer for _, answer in await asyncio.gather(*pulls)]
    assert {"messages": ["a", "b"], "nextOffset": 3} == both == tail
    assert {"messages": ["a"], "nextOffset": 2} == first
    assert {"messages": ["a", "b"], "nextOffset": 3, "offset": 1}.items() <= named.items()
    await subscribed(restate, topic, 0)


@pytest.mark.parametrize("subscriber", [None, "me"])
async def test_an_offset_beyond_the_tail_waits_and_never_goes_back(
    restate: RestateServer, topic: str, subscriber: str | None
) -> None:
    """Messages before it do not answer it."""
    body = {"offset": 2, "timeout": 20} | ({"subscriber": subscriber} if subscriber else {})
    pull = asyncio.create_task(call(restate, topic, "pull", body))
    await subscribed(restate, topic, 1)
    await publish(restate, topic, 0, 1)
    assert not pull.done()
    await publish(restate, topic, 2)
    _, answer = await pull
    assert {"messages": [2], "nextOffset": 3}.items() <= answer.items()


async def test_a_batch_over_a_waiting_offset_is_cut(restate: RestateServer, topic: str) -> None:
    """A pull from 2 that waits at tail 0 gets, of a batch of four, the last two."""
    pull = asyncio.create_task(call(restate, topic, "pull", {"offset": 2}))
    await subscribed(restate, topic, 1)
    await call(restate, topic, "append", batch(0, 1, 2, 3))
    assert (200, {"messages": [2, 3], "nextOffset": 4}) == await pull


async def test_truncate_drops_from_the_head(restate: RestateServer, topic: str) -> None:
    """Counts, more than there are, twice, in the middle of pages; the keys go as well."""
    await call(restate, topic, "append", batch(*range(150)))
    head = 0
    for count in (0, 1, 62, 2, 70):
        assert (200, None) == await call(restate, topic, "truncate", count)
        head += count
        assert list(range(head, 150)) == await read_all(restate, topic, head)
        if head:
            status, failure = await call(restate, topic, "pull", {"offset": head - 1})
            assert (410, f"Offset {head - 1} is lower than the head {head}") == (status, failure["message"])
    assert {"head": 135, "tail": 150}.items() <= (await call(restate, topic, "info"))[1].items()
    assert {"messagesMetadata", *(f"m_{n}" for n in range(135, 150))} == set(await state_of(restate, topic))
    await call(restate, topic, "truncate", 10**30)
    assert {"head": 150, "tail": 150}.items() <= (await call(restate, topic, "info"))[1].items()
    assert {"messagesMetadata"} == set(await state_of(restate, topic))
    await publish(restate, topic, "next")
    assert ["next"] == await read_all(restate, topic, 150)


async def test_a_long_topic_is_truncated_in_parts(restate: RestateServer, topic: str) -> None:
    """More pages than one call clears: the head moves at once, the keys follow."""
    for start in range(0, 6400, 3200):
        await call(restate, topic, "append", batch(*range(start, start + 3200)))
    await call(restate, topic, "truncate", 6395)
    assert list(range(6395, 6400)) == await read_all(restate, topic, 6395)

    async def swept() -> bool:
        return not [key for key in await state_of(restate, topic) if key.startswith("p_") and key != "p_99"]

    await until(swept, "the pages to go")


async def test_close_answers_all_who_wait(restate: RestateServer, topic: str) -> None:
    """At the tail and beyond it, with the end and nothing else; later pulls are told at once."""
    await publish(restate, topic, 0)
    pulls = [
        asyncio.create_task(call(restate, topic, "pull", body))
        for body in ({"offset": 1}, {"offset": 5}, {"offset": 1, "subscriber": "me"})
    ]
    await subscribed(restate, topic, 3)
    assert (200, {"nextOffset": 1}) == await call(restate, topic, "close")
    at_tail, beyond, named = [answer for _, answer in await asyncio.gather(*pulls)]
    assert {"messages": [], "nextOffset": 1, "closed": True} == at_tail
    assert {"messages": [], "nextOffset": 5, "closed": True} == beyond
    assert {"messages": [], "nextOffset": 1, "closed": True}.items() <= named.items()
    assert (200, {"nextOffset": 1}) == await call(restate, topic, "close")
    assert (200, at_tail) == await call(restate, topic, "pull", {"offset": 1})
    assert (200, {"messages": [0], "nextOffset": 1, "closed": True}) == await call(
        restate, topic, "pull", {"offset": 0}
    )
    assert True is (await call(restate, topic, "info"))[1]["closed"]


async def test_an_append_can_close(restate: RestateServer, topic: str) -> None:
    """Its last message and the end come together; an empty topic may be closed, too."""
    pull = asyncio.create_task(call(restate, topic, "pull", {"offset": 0}))
    await subscribed(restate, topic, 1)
    assert (200, {"offset": 0, "nextOffset": 1}) == await call(restate, topic, "append", batch("bye", close=True))
    assert (200, {"messages": ["bye"], "nextOffset": 1, "closed": True}) == await pull
    empty = topic + "-empty"
    assert (200, {"offset": 0, "nextOffset": 0}) == await call(restate, empty, "append", batch(close=True))
    assert (200, {"messages": [], "nextOffset": 0, "closed": True}) == await call(restate, empty, "pull", {"offset": 0})


async def test_a_limit_holds_the_end_back(restate: RestateServer, topic: str) -> None:
    """A cut answer is not the end, though the topic is closed."""
    await call(restate, topic, "append", batch(1, 2, close=True))
    assert (200, {"messages": [1], "nextOffset": 1}) == await call(restate, topic, "pull", {"offset": 0, "limit": 1})
    waiter = topic + "-waiting"
    pull = asyncio.create_task(call(restate, waiter, "pull", {"offset": 0, "limit": 1}))
    await subscribed(restate, waiter, 1)
    await call(restate, waiter, "append", batch(1, 2, close=True))
    assert (200, {"messages": [1], "nextOffset": 1}) == await pull


async def test_delete_keeps_the_counter(restate: RestateServer, topic: str) -> None:
    """Messages, pages, and the end are gone; offsets go on where they were."""
    await call(restate, topic, "append", batch(*range(100), close=True))
    assert (200, None) == await call(restate, topic, "delete")
    assert {"messagesMetadata"} == set(await state_of(restate, topic))
    info = (await call(restate, topic, "info"))[1]
    assert {"head": 100, "tail": 100, "closed": False, "bytes": 0}.items() <= info.items()
    assert 410 == (await call(restate, topic, "pull", {"offset": 99}))[0]
    assert (200, {"offset": 100}) == await call(restate, topic, "publish", "new")
    assert ["new"] == await read_all(restate, topic, 100)
    assert (200, None) == await call(restate, topic + "-unknown", "delete")


async def test_a_waiting_pull_survives_truncation_and_deletion(restate: RestateServer, topic: str) -> None:
    """It waits at the tail, which neither moves."""
    await publish(restate, topic, 0, 1)
    pull = asyncio.create_task(call(restate, topic, "pull", {"offset": 2}))
    await subscribed(restate, topic, 1)
    await call(restate, topic, "truncate", 1)
    await call(restate, topic, "delete")
    await publish(restate, topic, "new")
    assert (200, {"messages": ["new"], "nextOffset": 3}) == await pull


async def test_info_describes_the_topic(restate: RestateServer, topic: str) -> None:
    """Also one that nobody has written to."""
    nothing = {"messages": None, "bytes": None, "idleSeconds": None}
    empty: dict[str, Any] = {"head": 0, "tail": 0, "closed": False, "bytes": 0, "answer": None, "subscribers": 0}
    empty |= {"retention": nothing, "whole": False}
    assert (200, empty) == await call(restate, topic, "info")
    await publish(restate, topic, "abc", 12)
    assert (200, empty | {"tail": 2, "bytes": 7, "whole": True}) == await call(restate, topic, "info")


async def test_an_idempotency_key_publishes_once(restate: RestateServer, topic: str) -> None:
    """The repeated call gets the first one's answer."""
    answers = [await call(restate, topic, "publish", n, idempotency_key=f"{topic}-1") for n in range(3)]
    assert [(200, {"offset": 0})] * 3 == answers
    for _ in range(2):
        answer = await call(restate, topic, "append", batch("b"), idempotency_key=f"{topic}-2")
        assert (200, {"offset": 1, "nextOffset": 2}) == answer
    for _ in range(2):
        await call(restate, topic, "truncate", 1, idempotency_key=f"{topic}-3")
    assert ["b"] == await read_all(restate, topic, 1)


async def test_reads_leave_nothing_behind_in_restate(restate: RestateServer, topic: str) -> None:
    """Completed pulls, infos and subscribes are not kept; else a polling day fills the disk."""
    await publish(restate, topic, 1)
    await call(restate, topic, "pull", {"offset": 0})
    await call(restate, topic, "pull", {"offset": 1, "timeout": 0.1})
    await call(restate, topic, "info")
    sql = f"select target from sys_invocation where target_service_key = '{topic}' and target_handler_name != 'publish'"  # noqa: S608

    async def gone() -> bool:
        return not await query(restate, sql)

    await until(gone, "the reads to go")


@pytest.mark.parametrize(
    "name",
    ["a/b/c", "/lead", "trail/", "a//b", "..", ".", "../x", "a b", "100%", "%2F", "a%20b", "ä-ö", "话题", "🚀/🛰️",
     "a?b#c", "a+b&c=d", "'\"\\", "a\nb", "tab\there", ";v=1", "pull", "..%2f..", "\x7f", "é", "e\u0301"],
)  # fmt: skip
async def test_a_topic_may_have_any_name(restate: RestateServer, service: Service, topic: str, name: str) -> None:
    """Each is a topic of its own: written over the ingress, read from the object, the stream and the state."""
    name = f"{name}{topic}" if not name.endswith((".", "/")) else f"{topic}{name}"
    await publish(restate, name, name)
    assert [name] == await read_all(restate, name)
    async with stream(service.topic_url(name)) as reader:
        assert name == (await reader.next()).data


async def test_the_topics_dot_and_dot_dot(restate: RestateServer, service: Service) -> None:
    """A step up in a path, unless escaped: both are topics."""
    for name in (".", ".."):
        await publish(restate, name, f"dots {name}")
        async with stream(service.topic_url(name)) as reader:
            assert f"dots {name}" == (await reader.next()).data


@contextlib.asynccontextmanager
async def throw_away(restate: RestateServer, topic: str) -> AsyncIterator[None]:
    """Serve a Restate service that subscribes to topics with awakeables of its own."""
    subscriber = sdk.Service("Subscriber")

    @subscriber.handler()
    async def wait(ctx: sdk.Context, entry: dict[str, Any]) -> Any:
        name, awakeable = ctx.awakeable(type_hint=dict[str, Any])
        body = json.dumps(entry | {"id": name}).encode()
        ctx.generic_send("pubsub", "subscribe", body, key=topic)
        tag, value = await sdk.select(news=awakeable, timeout=ctx.sleep(timedelta(seconds=3)))
        return value if tag == "news" else "timeout"

    config, stop = Config(), asyncio.Event()
    port = free_port()
    config.bind = [f"127.0.0.1:{port}"]
    serving = asyncio.create_task(serve(sdk.app([subscriber]), config, shutdown_trigger=stop.wait))
    try:
        await Registrar(restate.admin_url).register(f"http://127.0.0.1:{port}", "Subscriber", force=True)
        yield
    finally:
        stop.set()
        await serving


async def named_waiter(restate: RestateServer, topic: str) -> str:
    """Return the awakeable of the subscription that has a name; empty if there is none."""
    entries = json.loads((await state_of(restate, topic)).get("subscription", "[]"))
    return "".join(entry["id"] for entry in entries if entry.get("subscriber"))


async def test_subscribe_resolves_an_awakeable(restate: RestateServer, topic: str) -> None:
    """At once when there is something, later when not, rejected below the head; a name has one subscription."""

    async def wait(**entry: Any) -> tuple[int, Any]:
        url = f"{restate.ingress_url}/Subscriber/wait"
        async with aiohttp.ClientSession() as session, session.post(url, json=entry) as response:
            return response.status, await response.json()

    async with throw_away(restate, topic):
        await publish(restate, topic, "a", "b")
        assert {"newOffset": 2, "newMessages": ["b"], "offset": 1}.items() <= (await wait(offset=1))[1].items()
        later = asyncio.create_task(wait(offset=2))
        first = asyncio.create_task(wait(offset=2, subscriber="me"))
        await subscribed(restate, topic, 2)
        before = await named_waiter(restate, topic)
        second = asyncio.create_task(wait(offset=2, subscriber="me"))

        async def replaced() -> bool:
            return await named_waiter(restate, topic) not in (before, "")

        await until(replaced, "the second subscription of the same name")
        await publish(restate, topic, "c")
        for answer in (await later, await second):
            assert {"newOffset": 3, "newMessages": ["c"]}.items() <= answer[1].items()
        await call(restate, topic, "truncate", 1)
        status, failure = await wait(offset=0)
        assert (410, "Offset 0 is lower than the head 1") == (status, failure["message"])
        await call(restate, topic, "close")
        assert {"newOffset": 3, "newMessages": [], "closed": True}.items() <= (await wait(offset=3))[1].items()
        assert (200, []) == ((await first)[0], (await first)[1]["newMessages"])  # replaced, it ended with nothing
