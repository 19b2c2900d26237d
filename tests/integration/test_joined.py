"""Joined messages on a real Restate: written by tokens, read as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from restate_pubsub import PubsubClient, create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, state_of, stream
from support.waiting import until

TOKENS = [f"{at} \U0001f600" for at in range(300)]
WHOLE = "".join(TOKENS)


@pytest.fixture(scope="module")
async def publishing(service: Service) -> AsyncIterator[Service]:
    """Return a second process, which lets programs publish over HTTP; the object stays the first one's."""
    second = await Service(service.restate, PUBSUB_PUBLISH_ENABLED="true").start(register=False)
    yield second
    await second.stop()


@pytest.fixture
async def client(restate: RestateServer, publishing: Service) -> AsyncIterator[PubsubClient]:  # noqa: ARG001
    """Return a client of the object."""
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


async def texts(url: str, **headers: str) -> list[tuple[int, str]]:
    """Return what a stream of a closed topic sends: each message's id and text."""
    async with stream(url, **headers) as events:
        found = await events.to_end()
    return [(int(event.id), event.data["text"]) for event in found if event.event == "message"]


async def test_an_answer_is_one_message_for_who_comes_late(
    publishing: Service, client: PubsubClient, topic: str
) -> None:
    """From every place on exactly the rest; each token by itself with join=false, and for older clients."""
    for token in TOKENS:
        await client.append(topic, [{"text": token}], join="text")
    await client.close(topic)

    assert [(300, WHOLE)] == await texts(publishing.topic_url(topic))
    for place in (1, 63, 64, 200, 299):
        rest = await texts(publishing.topic_url(topic), last_event_id=str(place))
        assert "".join(TOKENS[place:]) == "".join(text for _, text in rest)
        assert rest[-1][0] == 300
    for place in (0, 1, 63, 64, 200, 299):
        singly = await texts(publishing.topic_url(topic, "join=false"), last_event_id=str(place))
        assert list(enumerate(TOKENS, 1))[place:] == singly
        assert TOKENS[place:] == [message.data["text"] async for message in client.pull(topic, place)]
    joined = [(one.offset, one.next_offset, one.data["text"]) async for one in client.pull(topic, 0, join=True)]
    assert [(0, 300, WHOLE)] == joined


async def test_a_body_of_lines_is_joined_and_a_repetition_of_it_adds_nothing(
    publishing: Service, client: PubsubClient, topic: str
) -> None:
    """With a key every line is counted, and still read as one."""
    body = b"".join(b'{"text":%b}\n' % json.dumps(token).encode() for token in TOKENS)
    headers = {"content-type": "application/x-ndjson", "idempotency-key": "k"}
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(
                publishing.topic_url(topic, "join=text"), data=body, headers=headers, skip_auto_headers=["content-type"]
            ) as answer:
                assert await answer.json() == {"offset": 0, "nextOffset": 300, "count": 300}
    await client.close(topic)
    assert [(300, WHOLE)] == await texts(publishing.topic_url(topic))


async def test_tokens_that_gather_during_a_call_are_one_message(
    client: PubsubClient, topic: str, restate: RestateServer
) -> None:
    """And a page of the state keeps what it took as runs."""
    async with client.stream(topic, id="answer", join="text") as answer:
        for token in TOKENS:
            await answer.write({"text": token})
    assert answer.acknowledged == 300
    assert answer.next_offset is not None
    assert answer.next_offset < 300
    for at in range(64):
        await client.append(topic, [{"text": str(at)}], join="text")
    page = json.loads((await state_of(restate, topic))["p_0"])
    assert page["runs"]
    assert "messages" not in page


async def test_a_field_that_is_none_is_refused(publishing: Service, topic: str) -> None:
    """Before anything is written."""
    async with aiohttp.ClientSession() as session:
        headers = {"content-type": "application/json"}
        async with session.post(
            publishing.topic_url(topic, f"join={'x' * 65}"),
            data=b"{}",
            headers=headers,
            skip_auto_headers=["content-type"],
        ) as answer:
            assert answer.status == 400
            assert "join" in (await answer.json())["detail"]


async def test_who_comes_late_sees_no_attempt_that_was_replaced_though_it_is_in_memory(
    restate: RestateServer, publishing: Service, topic: str
) -> None:
    """A few messages, which a reader here has just got: whoever watched sees the attempt go, and nobody else does."""
    async with create_pubsub_client(restate.ingress_url) as client, stream(publishing.topic_url(topic)) as watching:
        for attempt in ("abandoned", "whole"):
            async with client.stream(topic, id="answer", join="text") as answer:
                await answer.write({"text": attempt})
        seen = await watching.take(3)
        assert ["message", "restart", "message"] == [event.event for event in seen]
        async with stream(publishing.topic_url(topic)) as late:
            assert ("message", {"text": "whole"}) == ((first := await late.next()).event, first.data)
            assert seen[-1].id == first.id
        async with stream(publishing.topic_url(topic), Last_Event_ID="1") as back:
            assert ["restart", "message"] == [event.event for event in await back.take(2)]


async def test_a_long_topic_that_nobody_has_read_here_is_read_with_one_call(
    restate: RestateServer, publishing: Service, client: PubsubClient, topic: str
) -> None:
    """Restate sends its state along: the same as what `pull` gives, each message by itself or joined."""
    for first in range(0, 3000, 1000):
        await client.append(topic, [{"text": f"{at} "} for at in range(first, first + 1000)], join="text")
    await client.close(topic)
    for asked in ({"offset": 0, "join": True}, {"offset": 70, "limit": 1500, "join": True}, {"offset": 1, "limit": 99}):
        answers = [await call(restate, topic, handler, asked | {"timeout": 0}) for handler in ("pull", "history")]
        assert answers[0] == answers[1]
        assert answers[0][0] == 200
    assert (await call(restate, topic, "info"))[1]["whole"]
    ((place, text), *none) = await texts(publishing.topic_url(topic))
    assert (3000, "".join(f"{at} " for at in range(3000)), []) == (place, text, none)


async def test_what_is_read_in_the_process_that_asks_is_handed_over_and_not_answered(
    restate: RestateServer, topic: str
) -> None:
    """The messages of a chat that is opened again do not take the way through Restate."""
    answers: list[dict[str, Any]] = []

    async def forward(request: web.Request) -> web.Response:
        said = await request.read()
        headers = {"content-type": "application/json"} if said else {}
        async with ingress.request(
            request.method, request.raw_path, data=said, headers=headers, skip_auto_headers=["content-type"]
        ) as answer:
            body = await answer.read()
        if request.path.endswith("/history"):
            answers.append(json.loads(body))
        return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(restate.ingress_url) as ingress:
        service = await Service(restate, RESTATE_INGRESS_URL=url, PUBSUB_OBJECT_NAME="handed").start()
        try:
            async with create_pubsub_client(restate.ingress_url, name="handed") as client:
                await client.append(topic, [{"text": f"{at} "} for at in range(1000)], join="text")
                await client.close(topic)
            expected = [(1000, "".join(f"{at} " for at in range(1000)))]
            assert expected == await texts(service.topic_url(topic))
            await until(lambda: answers, "the answer")
            assert [{"messages": [], "nextOffset": 0, "offset": 0, "head": 0}] == answers
        finally:
            await service.stop()
            await runner.cleanup()
