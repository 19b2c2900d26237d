"""The client before servers that answer otherwise than they should: what it says, when, and how it paces itself."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from aiohttp import web

from restate_pubsub import (
    CallAborted,
    InvalidRequest,
    PubsubError,
    Received,
    RetryPolicy,
    StreamFailed,
    Unavailable,
    WrongAddress,
    create_pubsub_client,
)
from restate_pubsub.backoff import Backoff
from restate_pubsub.client import outage
from support.harness import free_port
from support.odd_servers import HTML, JSON, Answer, odd
from support.waiting import until

HASTY = RetryPolicy(first=0.01, longest=0.02, seconds=0.05)
BRIEF = RetryPolicy(first=0.05, longest=0.5, seconds=2.0)
EMPTY = b'{"messages":[],"nextOffset":0}'


def failure(status: int, message: str) -> Answer:
    return status, JSON, json.dumps({"code": status, "message": message, "source": "invocation"}).encode()


PAGES: list[Answer] = [
    (200, HTML, b"<html>Please sign in</html>"),
    (200, JSON, b"<html>"),
    (200, JSON, b"[]"),
    (200, JSON, b'{"ok":true}'),
    (200, "", b"hello"),
    (502, HTML, b"<html>Bad gateway</html>"),
]


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_in_place_of_an_answer_ends_every_call_in_time(page: Answer) -> None:
    """Nothing hangs, nothing succeeds, and what is raised is this project's, with what came."""
    async with odd(lambda _request: page) as server, create_pubsub_client(server.url, retry=HASTY) as client:
        async with asyncio.timeout(20):
            for call in (
                client.publish("t", 1),
                client.append("t", [1]),
                client.info("t"),
                client.close("t"),
                anext(client.pull("t")),
            ):
                with pytest.raises(Unavailable, match=r"not Restate's ingress|not the object"):
                    await call
            with pytest.raises(StreamFailed, match=r"0 of \d+ messages are there"):
                async with client.stream("t") as stream:
                    for at in range(30_000):  # more than may wait: the writer must not wait for ever
                        await stream.write(at)


@pytest.mark.parametrize("page", [page for page in PAGES if page[1] == HTML or page[0] != 200])
async def test_a_page_is_not_taken_for_a_deletion(page: Answer) -> None:
    """Handlers without a result answer nothing: a page is no success."""
    async with odd(lambda _request: page) as server, create_pubsub_client(server.url, retry=HASTY) as client:
        for call in (client.delete("t"), client.truncate("t", 1)):
            with pytest.raises(Unavailable):
                await call


@pytest.mark.parametrize(
    ("answer", "pulls"),
    [
        (failure(408, "Nothing was published"), range(2, 9)),
        ((200, JSON, EMPTY), range(2, 9)),
        (failure(409, "killed"), range(2, 9)),
        (failure(500, "boom"), range(2, 9)),
        ((503, HTML, b""), range(2, 9)),
    ],
    ids=["timeout at once", "nothing at once", "killed", "error", "proxy"],
)
async def test_a_pull_that_ends_at_once_is_not_asked_again_at_once(answer: Answer, pulls: range) -> None:
    """And it goes on: a message that comes is read."""
    there = asyncio.Event()

    def answers(_request: web.Request) -> Answer:
        return (200, JSON, b'{"messages":[7],"nextOffset":1}') if there.is_set() else answer

    async with odd(answers) as server, create_pubsub_client(server.url) as client:
        reading = asyncio.ensure_future(anext(client.pull("t", 0)))
        await asyncio.sleep(1.5)  # how often it asks in this time is the case
        assert len(server.asked) in pulls
        there.set()
        assert Received(0, 7) == await asyncio.wait_for(reading, 10)


async def test_messages_that_come_fast_are_pulled_without_a_pause() -> None:
    """A pause is for polls that bring nothing."""

    def answers(_request: web.Request) -> Answer:
        at = len(server.asked) - 1
        return 200, JSON, b'{"messages":[1],"nextOffset":%d}' % (at + 1)

    async with odd(answers) as server, create_pubsub_client(server.url) as client:
        async with asyncio.timeout(10):
            async for received in client.pull("t", 0):
                if received.offset == 300:
                    break


async def test_trouble_is_said_in_the_first_second_and_trying_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A write is raised at the end of the policy's time, with the cause; the log had it long before."""
    url = f"http://127.0.0.1:{free_port()}"
    caplog.set_level(logging.WARNING, "restate_pubsub.client")
    async with create_pubsub_client(url, retry=BRIEF) as client:
        writing = asyncio.ensure_future(client.publish("t", 1))
        await until(lambda: caplog.messages, "the warning", BRIEF.seconds)
        assert not writing.done()
        with pytest.raises(Unavailable, match=r"nothing listens there \(gave up after 2 s\)"):
            await writing
        said = f"publish on topic 't': waiting for Restate: Restate at {url} cannot be reached: nothing listens there"
        assert [said] == caplog.messages  # once, though it tried several times


async def test_a_reader_says_what_it_waits_for_and_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """It never ends by itself, and is never silent."""
    there = asyncio.Event()

    def answers(_request: web.Request) -> Answer:
        if there.is_set():
            return 200, JSON, b'{"messages":[7],"nextOffset":1}'
        return 404, JSON, b'{"code":404,"message":"service \'pubsub\' not found","source":"ingress"}'

    caplog.set_level(logging.WARNING, "restate_pubsub.client")
    async with odd(answers) as server, create_pubsub_client(server.url) as client:
        reading = asyncio.ensure_future(anext(client.pull("t", 0)))
        await until(lambda: caplog.messages, "the warning", 5.0)
        assert "not registered" in caplog.messages[0]
        there.set()
        assert Received(0, 7) == await asyncio.wait_for(reading, 10)
    assert "Restate answers again" in caplog.messages[-1]


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.6, 0.999])
def test_the_usual_waits_leave_nobody_in_the_dark_for_a_second(chance: float) -> None:
    """However chance shortens them, a failure comes after the quiet time and within the first second."""
    backoff, elapsed = Backoff(RetryPolicy().first, RetryPolicy().longest, chance=lambda: chance), 0.0
    while elapsed < outage.QUIET_SECONDS:
        elapsed += backoff.next()
    assert elapsed < 0.8


async def test_a_short_cut_is_nobody_s_business(caplog: pytest.LogCaptureFixture) -> None:
    """One that is over before anybody would have noticed."""
    answers = iter([(503, HTML, b"")] * 2)
    caplog.set_level(logging.WARNING, "restate_pubsub.client")
    async with odd(lambda _request: next(answers, (200, JSON, b'{"offset":7}'))) as server:
        async with create_pubsub_client(server.url) as client:
            assert 7 == await client.publish("t", 1)
        assert len(set(server.keys)) == 1
        assert len(server.keys) == 3
    assert [] == caplog.messages


async def test_a_write_that_an_operator_ended_is_raised_and_not_repeated() -> None:
    """Under its key the answer would be the same for ever; under another it might be done twice."""
    async with odd(lambda _request: failure(409, "killed")) as server, create_pubsub_client(server.url) as client:
        for call in (client.publish("t", 1), client.append("t", [1]), client.truncate("t", 1), client.delete("t")):
            with pytest.raises(CallAborted, match="killed"):
                await call
        assert len(server.asked) == 4


async def test_info_that_an_operator_ended_is_asked_again() -> None:
    """A read has no key, and nothing to lose."""
    answers = iter([failure(409, "cancelled")])
    info = b'{"head":0,"tail":3,"closed":false}'
    async with odd(lambda _request: next(answers, (200, JSON, info))) as server:
        async with create_pubsub_client(server.url) as client:
            assert 3 == (await client.info("t"))["tail"]


async def test_a_client_of_our_own_service_is_refused_before_it_writes() -> None:
    """Whatever the service says; and an older one, which takes the message, is recognised by its answer."""
    for answer in (
        (421, "application/problem+json", b'{"type":"urn:restate-pubsub:problem:wrong-address"}'),
        (200, JSON, b'{"offset":0,"nextOffset":1,"count":1}'),
    ):
        async with odd(lambda _request, answer=answer: answer) as server:  # type: ignore[misc]
            async with create_pubsub_client(server.url) as client:
                for call in (client.publish("t", 1), client.append("t", [1])):
                    with pytest.raises(WrongAddress, match="the restate-pubsub service itself"):
                        await call
            assert len(server.asked) == 2


async def test_the_admin_port_is_recognised() -> None:
    """By its version, which nothing else has."""

    def answers(request: web.Request) -> Answer:
        version = b'{"version":"1.7.12","min_admin_api_version":2}'
        return (200, JSON, version) if request.path == "/version" else (404, "", b"")

    async with odd(answers) as server, create_pubsub_client(server.url) as client:
        for call in (client.publish("t", 1), anext(client.pull("t")), anext(client.pull("t", 0))):
            with pytest.raises(WrongAddress, match="Restate's admin API, not its ingress"):
                await call


@pytest.mark.parametrize("policy", [{"first": 0}, {"first": 2.0, "longest": 1.0}, {"seconds": -1}])
def test_a_policy_whose_waits_do_not_grow_is_refused(policy: dict[str, Any]) -> None:
    """It would try without a pause."""
    with pytest.raises(InvalidRequest, match="RetryPolicy"):
        RetryPolicy(**policy)


@pytest.mark.parametrize("offset", [-1, 2**53])
async def test_sse_refuses_a_bad_offset_before_the_response_begins(offset: int) -> None:
    """While a framework can still answer 400."""
    async with create_pubsub_client() as client:
        with pytest.raises(PubsubError, match=f"offset {offset}"):
            client.sse("t", offset)


@pytest.mark.parametrize("key", ["", " ", " k", "k ", "k\n", "é", "x" * 257])
async def test_a_key_that_a_header_cannot_carry_as_it_is_is_refused(key: str) -> None:
    """Two keys that differ in the spaces at their ends would be one, and the second message would be lost."""
    async with create_pubsub_client("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequest, match="idempotency key"):
            await client.publish("t", 1, idempotency_key=key)


@pytest.mark.parametrize("name", ["\ud800", "a b", "é"])
async def test_a_name_that_is_no_text_is_refused_before_anything_is_sent(name: str) -> None:
    """An event's, and half a surrogate pair as a token stream's id."""
    async with create_pubsub_client("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidRequest):
            await client.append("t", [(1, name)])
        with pytest.raises(InvalidRequest, match="half a surrogate"):
            client.stream("t", id="\ud800")
