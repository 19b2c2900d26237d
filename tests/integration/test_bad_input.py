"""Bad input is refused at once, by name and rule; the topic goes on as if it had never come."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, free_port, get, publish, query, read_all, topic_name
from support.waiting import until

LIMITS = {
    "PUBSUB_MESSAGE_MAX_BYTES": "1KiB",
    "PUBSUB_BATCH_MAX_BYTES": "2KiB",
    "PUBSUB_BATCH_MAX_MESSAGES": "10",
    "PUBSUB_TOPIC_MAX_BYTES": "64",
}


@pytest.fixture(scope="module")
async def strict(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with small limits; its object has a name of its own."""
    service = await Service(restate, port=free_port(), PUBSUB_OBJECT_NAME="strict", env=LIMITS).start()
    yield service
    await service.stop()


def entry(data: Any, event: str | None = None) -> dict[str, Any]:
    return {"data": data} if event is None else {"data": data, "event": event}


TOO_DEEP = b"[" * 129 + b"]" * 129

REFUSED: list[tuple[str, str, Any, int, list[str]]] = [
    # name, handler, body, status, parts of the text
    ("not-json", "publish", b"{hi", 400, ["not JSON", "'{hi'"]),
    ("no-body", "publish", b"", 400, ["Empty body not allowed"]),
    ("white-space", "publish", b" \n", 400, ["empty"]),
    ("two-values", "publish", b"1 2", 400, ["not JSON"]),
    ("nan", "publish", b"[NaN]", 400, ["NaN", "not JSON"]),
    ("infinity", "publish", b"-Infinity", 400, ["Infinity", "not JSON"]),
    ("single-quotes", "publish", b"{'a': 1}", 400, ["not JSON"]),
    ("trailing-comma", "publish", b"[1,]", 400, ["not JSON"]),
    ("not-utf-8", "publish", b'"\xff"', 400, ["not UTF-8", "0xff"]),
    ("too-deep", "publish", TOO_DEEP, 400, ["129 levels", "at most 128"]),
    ("too-large", "publish", "x" * 1023, 413, ["1025 bytes", "at most 1024"]),
    ("append-not-json", "append", b"{", 400, ["append", "not JSON"]),
    ("append-no-body", "append", b"", 400, ["Empty body not allowed"]),
    ("append-array", "append", [1], 400, ["append", "array"]),
    ("append-no-messages", "append", {"close": True}, 400, ["append", "messages"]),
    ("append-messages-text", "append", {"messages": "hi"}, 400, ["append", "messages"]),
    ("append-bare-message", "append", {"messages": ["hi"]}, 400, ["append", "messages[0]"]),
    ("append-no-data", "append", {"messages": [{"event": "a"}]}, 400, ["append", "data"]),
    ("append-unknown-field", "append", {"messages": [], "closed": True}, 400, ["append", "closed"]),
    ("append-unknown-entry-field", "append", {"messages": [{"data": 1, "id": 2}]}, 400, ["append", "id"]),
    ("append-close-text", "append", {"messages": [], "close": "yes"}, 400, ["append", "close"]),
    ("append-bad-message", "append", b'{"messages":[{"data":1},{"data":NaN}]}', 400, ["append", "not JSON"]),
    ("append-deep", "append", b'{"messages":[{"data":1},{"data":%b}]}' % TOO_DEEP, 400, ["message 1", "129 levels"]),
    ("append-too-large", "append", {"messages": [entry(1), entry("x" * 1023)]}, 413, ["message 1", "1025 bytes"]),
    ("batch-too-large", "append", {"messages": [entry("x" * 900)] * 3}, 413, ["2706 bytes", "at most 2048"]),
    ("batch-too-long", "append", {"messages": [entry(1)] * 11}, 413, ["11 messages", "at most 10"]),
    ("event-not-text", "append", {"messages": [{"data": 1, "event": 7}]}, 400, ["append", "event"]),
    ("event-space", "append", {"messages": [entry(1, "a b")]}, 400, ["message 0", "'a b'", "characters"]),
    ("event-newline", "append", {"messages": [entry(1, "a\ndata: 2")]}, 400, ["message 0", "characters"]),
    ("event-empty", "append", {"messages": [entry(1, "")]}, 400, ["message 0", "''", "1 to 64"]),
    ("event-long", "append", {"messages": [entry(1, "e" * 65)]}, 400, ["message 0", "1 to 64"]),
    ("event-unicode", "append", {"messages": [entry(1, "é")]}, 400, ["message 0", "'é'"]),
    ("event-reset", "append", {"messages": [entry(1, "reset")]}, 400, ["'reset'", "another name"]),
    ("event-end", "append", {"messages": [entry(1), entry(1, "end")]}, 400, ["message 1", "'end'"]),
    ("event-error", "append", {"messages": [entry(1, "error")]}, 400, ["'error'"]),
    ("pull-not-json", "pull", b"offset", 400, ["pull", "not JSON"]),
    ("pull-array", "pull", [], 400, ["pull", "array"]),
    ("pull-offset-text", "pull", {"offset": "7"}, 400, ["pull", "offset"]),
    ("pull-offset-fraction", "pull", {"offset": 1.5}, 400, ["pull", "offset"]),
    ("pull-offset-true", "pull", {"offset": True}, 400, ["pull", "offset"]),
    ("pull-offset-negative", "pull", {"offset": -1}, 400, ["offset -1", "between 0 and"]),
    ("pull-offset-huge", "pull", {"offset": 2**53}, 400, ["offset 9007199254740992", "between 0 and"]),
    ("pull-offset-vast", "pull", {"offset": 10**30}, 400, ["pull", "offset"]),
    ("pull-limit-zero", "pull", {"offset": 0, "limit": 0}, 400, ["limit 0", "less than 1"]),
    ("pull-limit-negative", "pull", {"offset": 0, "limit": -3}, 400, ["limit -3", "less than 1"]),
    ("pull-limit-text", "pull", {"offset": 0, "limit": "all"}, 400, ["pull", "limit"]),
    ("pull-timeout-negative", "pull", {"offset": 9, "timeout": -1}, 400, ["timeout -1", "between 0 and 86400"]),
    ("pull-timeout-long", "pull", {"offset": 9, "timeout": 86401}, 400, ["timeout 86401", "between 0 and"]),
    ("pull-timeout-text", "pull", {"offset": 9, "timeout": "1s"}, 400, ["pull", "timeout"]),
    ("pull-subscriber-empty", "pull", {"offset": 9, "subscriber": ""}, 400, ["subscriber", "0 characters"]),
    ("pull-subscriber-long", "pull", {"offset": 9, "subscriber": "s" * 129}, 400, ["129 characters", "1 to 128"]),
    ("subscribe-no-body", "subscribe", b"", 400, ["Empty body not allowed"]),
    ("subscribe-no-id", "subscribe", {"offset": 0}, 400, ["subscribe", "id"]),
    ("subscribe-negative", "subscribe", {"offset": -2, "id": "sign_1x"}, 400, ["offset -2", "between 0 and"]),
    ("subscribe-empty-id", "subscribe", {"offset": 2, "id": ""}, 400, ["id ''", "awakeable"]),
    ("subscribe-any-text", "subscribe", {"offset": 2, "id": "hello"}, 400, ["id 'hello'", "ctx.awakeable()"]),
    ("subscribe-short-id", "subscribe", {"offset": 2, "id": "sign_1abc"}, 400, ["awakeable"]),
    ("subscribe-long-id", "subscribe", {"offset": 2, "id": f"sign_1{'A' * 39}"}, 400, ["awakeable"]),
    ("subscribe-other-alphabet", "subscribe", {"offset": 2, "id": f"sign_1{'é' * 38}"}, 400, ["awakeable"]),
    ("subscribe-line-feed", "subscribe", {"offset": 2, "id": f"sign_1{'A' * 38}\n"}, 400, ["awakeable"]),
    ("subscribe-id-number", "subscribe", {"offset": 2, "id": 7}, 400, ["subscribe", "id"]),
    ("subscribe-cancel-nobody", "subscribe", {"offset": 0, "id": "", "cancel": True}, 400, ["awakeable"]),
    ("stream-no-id", "append", {"messages": [], "stream": {"start": 0}}, 400, ["append", "id"]),
    ("stream-both", "append", {"messages": [], "stream": {"id": "s", "start": 0, "attempt": "a"}}, 400, ["either"]),
    ("stream-neither", "append", {"messages": [], "stream": {"id": "s"}}, 400, ["either"]),
    ("stream-gap", "append", {"messages": [], "stream": {"id": "s", "start": 3}}, 400, ["message 3", "only 0"]),
    (
        "stream-unknown",
        "append",
        {"messages": [], "stream": {"id": "s", "attempt": "a"}},
        409,
        ["'s'", "open the stream anew"],
    ),
    ("stream-half", "append", b'{"messages":[],"stream":{"id":"\\ud83d","start":0}}', 400, ["half a surrogate"]),
    (
        "stream-digest",
        "append",
        {"messages": [], "stream": {"id": "s", "attempt": "a", "digest": "d"}},
        400,
        ["digest"],
    ),
    ("truncate-negative", "truncate", -1, 400, ["'-1'", "integer of 0 or more"]),
    ("truncate-fraction", "truncate", 1.5, 400, ["'1.5'", "integer of 0 or more"]),
    ("truncate-text", "truncate", "2", 400, ["integer of 0 or more"]),
    ("truncate-null", "truncate", None, 400, ["'null'", "integer of 0 or more"]),
    ("truncate-true", "truncate", True, 400, ["'true'", "integer of 0 or more"]),
    ("truncate-object", "truncate", {"count": 1}, 400, ["integer of 0 or more"]),
    ("truncate-no-body", "truncate", b"", 400, ["Empty body not allowed"]),
    ("truncate-not-json", "truncate", b"1 1", 400, ["'1 1'", "integer of 0 or more"]),
]


@pytest.mark.parametrize(("handler", "body", "status", "parts"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
async def test_a_bad_call_is_refused_and_the_topic_goes_on(
    restate: RestateServer, strict: Service, topic: str, handler: str, body: Any, status: int, parts: list[str]
) -> None:
    """The answer names value and rule; nothing is retried, blocked or lost."""
    assert strict.process is not None
    await call(restate, topic, "publish", "before", name="strict")
    answered, failure = await call(restate, topic, handler, body, name="strict")
    assert status == answered, failure
    for part in parts:
        assert part in failure["message"]
    assert (200, {"offset": 1}) == await call(restate, topic, "publish", "after", name="strict")
    assert ["before", "after"] == await read_all(restate, topic, name="strict")
    assert {"head": 0, "tail": 2, "closed": False}.items() <= (await call(restate, topic, "info", name="strict"))[
        1
    ].items()


VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 2**53, 1.5, 10**30, "", "x", "sign_1", "sign_1" + "A" * 38, "\U0001f600", "a" * 300, [],
    [1], {}, {"id": "s", "start": 0}, {"id": "s", "attempt": "\U0001f600", "first": True}, [{"data": 1}],
    [{"data": "\ud83d", "event": "e"}],
]  # fmt: skip
FIELDS = {
    "append": ["messages", "close", "stream"],
    "pull": ["offset", "limit", "timeout", "subscriber"],
    "subscribe": ["offset", "id", "subscriber", "cancel"],
    "truncate": ["count"],
    "publish": ["x"],
}


@pytest.mark.parametrize("seed", range(12))
async def test_no_combination_of_fields_stops_a_topic(
    restate: RestateServer, strict: Service, topic: str, seed: int
) -> None:
    """Right and wrong types, sizes and encodings together: each call ends, and the next publish is there."""
    assert strict.process is not None
    chosen = random.Random(seed)
    for _ in range(25):
        handler = chosen.choice(list(FIELDS))
        body: Any = {field: chosen.choice(VALUES) for field in FIELDS[handler] if chosen.random() < 0.8}
        if handler == "pull":
            body["timeout"] = chosen.choice([0, 0.01, -1, "x"])
        if handler in ("truncate", "publish") or chosen.random() < 0.1:
            body = chosen.choice(VALUES)
        text = json.dumps(body, ensure_ascii=chosen.random() < 0.5).encode("utf-8", "surrogatepass")
        async with asyncio.timeout(10):
            status, answer = await call(restate, topic, handler, text, name="strict")
        assert status == 200 or 400 <= status < 500, (handler, text, answer)
        async with asyncio.timeout(10):
            status, answer = await call(restate, topic, "publish", "after", name="strict")
        if status == 409:
            await call(restate, topic, "delete", ..., name="strict")
        else:
            assert status == 200, (handler, text, answer)


async def test_no_bad_call_is_left_in_restate(restate: RestateServer, strict: Service) -> None:
    """After all of them, no invocation of the object backs off, waits or is paused."""
    assert strict.process is not None
    await call(restate, "left", "publish", b"{", name="strict")
    left = (
        "select id, target, status from sys_invocation "
        "where target_service_name = 'strict' and status not in ('completed', 'scheduled')"
    )

    async def none() -> bool:
        return await query(restate, left) == []

    await until(none, "what runs at the moment, as the question of the health check, to end")


@pytest.mark.parametrize("size", [65, 200, 4000])
async def test_a_topic_name_over_the_limit_is_refused(restate: RestateServer, strict: Service, size: int) -> None:
    """By every handler and by the stream: the text has the size and the limit."""
    topic = topic_name().ljust(size, "é" if size == 200 else "x")
    bytes_ = len(topic.encode())
    for handler, body in (("publish", 1), ("append", {"messages": []}), ("pull", {}), ("info", ...), ("close", ...)):
        status, failure = await call(restate, topic, handler, body, name="strict")
        assert status == 400, (handler, failure)
        assert f"{bytes_} bytes; at most 64" in failure["message"]
    status, problem, headers = await get(strict.topic_url(topic))
    assert (400, "invalid-topic") == (status, problem["code"])
    assert f"{bytes_} bytes; at most 64" in problem["detail"]
    assert headers["content-type"].startswith("application/problem+json")


async def test_a_topic_name_at_the_limit_works(restate: RestateServer, strict: Service) -> None:
    """64 bytes of UTF-8 are 64 bytes, not 64 characters."""
    assert strict.process is not None
    topic = topic_name().ljust(62, "x") + "é"
    assert (200, {"offset": 0}) == await call(restate, topic, "publish", 1, name="strict")
    assert [1] == await read_all(restate, topic, name="strict")


async def test_messages_at_the_limits_work(restate: RestateServer, strict: Service, topic: str) -> None:
    """The largest message, the deepest, and the fullest batch are taken."""
    assert strict.process is not None
    largest = "x" * 1022
    deepest = json.loads(b"[" * 128 + b"]" * 128)
    assert 200 == (await call(restate, topic, "publish", largest, name="strict"))[0]
    assert 200 == (await call(restate, topic, "publish", deepest, name="strict"))[0]
    assert 200 == (await call(restate, topic, "append", {"messages": [entry(i) for i in range(10)]}, name="strict"))[0]
    assert [largest, deepest, *range(10)] == await read_all(restate, topic, name="strict")


@pytest.mark.parametrize("handler", ["publish", "append", "append-closing"])
async def test_a_closed_topic_refuses_messages(
    restate: RestateServer, service: Service, topic: str, handler: str
) -> None:
    """409, again and again; what was published before is still read."""
    assert service.process is not None
    await publish(restate, topic, "before")
    assert (200, {"nextOffset": 1}) == await call(restate, topic, "close")
    body = {"messages": [entry("late")], "close": handler == "append-closing"} if handler != "publish" else "late"
    for _ in range(2):
        status, failure = await call(restate, topic, handler.partition("-")[0], body)
        assert 409 == status
        assert f"Topic '{topic}' was closed at offset 1" in failure["message"]
    assert ["before"] == await read_all(restate, topic)


async def test_reading_below_the_head_names_offset_and_head(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """With the reference's own text, by which clients know it."""
    assert service.process is not None
    await publish(restate, topic, 1, 2, 3)
    await call(restate, topic, "truncate", 2)
    status, failure = await call(restate, topic, "pull", {"offset": 0})
    assert (410, "Offset 0 is lower than the head 2") == (status, failure["message"])
    assert [3] == await read_all(restate, topic, 2)


async def test_a_message_over_the_default_limit_is_refused_before_restate_is_blocked(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """Over 1 MiB, and over what one journal entry holds: an answer each, and the topic works on."""
    assert service.process is not None
    await publish(restate, topic, "before")
    status, failure = await call(restate, topic, "publish", "x" * 1024 * 1024)
    assert (413, "The message has 1048578 bytes; at most 1048576 are allowed") == (status, failure["message"])
    status, _ = await call(restate, topic, "publish", b'"' + b"x" * (9 * 1024 * 1024) + b'"')
    assert 413 == status
    await publish(restate, topic, "after")
    assert ["before", "after"] == await read_all(restate, topic)


BAD_STREAMS = [
    ("offset=abc", {}, "invalid-request", ["offset 'abc'", "a number", "`latest`", "-K"]),
    ("offset=1.5", {}, "invalid-request", ["offset '1.5'"]),
    ("offset=0x10", {}, "invalid-request", ["offset '0x10'"]),
    ("offset=%2B1", {}, "invalid-request", ["offset '+1'"]),
    ("offset=1_000", {}, "invalid-request", ["offset '1_000'"]),
    ("offset=%D9%A3", {}, "invalid-request", ["offset '٣'"]),
    ("offset=--1", {}, "invalid-request", ["offset '--1'"]),
    ("offset=-", {}, "invalid-request", ["offset '-'"]),
    ("offset=LATEST", {}, "invalid-request", ["offset 'LATEST'", "`latest`"]),
    ("offset=9007199254740992", {}, "invalid-request", ["offset '9007199254740992'", "at most 9007199254740991"]),
    ("offset=-9007199254740992", {}, "invalid-request", ["at most 9007199254740991"]),
    ("offset=" + "9" * 5000, {}, "invalid-request", ["is not an offset"]),
    ("lastEventId=abc", {}, "invalid-request", ["lastEventId 'abc'"]),
    ("lastEventId=-1", {}, "invalid-request", ["lastEventId '-1'", "negative"]),
    ("offset=0", {"Last_Event_ID": "abc"}, "invalid-request", ["Last-Event-ID 'abc'"]),
    ("offset=0", {"Last_Event_ID": "-5"}, "invalid-request", ["Last-Event-ID '-5'", "negative"]),
    ("strict=maybe", {}, "invalid-request", ["strict 'maybe'", "true nor false"]),
]


@pytest.mark.parametrize(("query_string", "headers", "code", "parts"), BAD_STREAMS)
async def test_a_bad_stream_request_is_a_problem_document(
    restate: RestateServer,
    service: Service,
    topic: str,
    query_string: str,
    headers: dict[str, str],
    code: str,
    parts: list[str],
) -> None:
    """400 problem+json that names value and rule; the topic is not touched."""
    await publish(restate, topic, "before")
    status, problem, answer_headers = await get(service.topic_url(topic, query_string), **headers)
    assert (400, code) == (status, problem["code"])
    for part in parts:
        assert part in problem["detail"]
    assert len(problem["detail"]) < 400
    assert {"type": f"urn:restate-pubsub:problem:{code}", "title": "Bad Request", "status": 400}.items() <= (
        problem.items()
    )
    assert "application/problem+json" == answer_headers["content-type"]
    await publish(restate, topic, "after")
    assert ["before", "after"] == await read_all(restate, topic)
