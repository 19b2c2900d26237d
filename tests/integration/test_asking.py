"""A handler asks, a person answers over HTTP, and everybody sees it: with a real Restate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from restate_pubsub import AlreadyAnswered, NoSuchQuestion, StreamStopped, create_pubsub_client
from restate_pubsub.access.mint import mint_token
from restate_pubsub.commands.local_restate import RestateServer
from support.asking import Asking
from support.harness import Service, call, get, stream, topic_name
from support.waiting import until

SECRET = "a secret of thirty-two bytes or more, for tests"


@pytest.fixture
async def open_service(service: Service) -> AsyncIterator[Service]:
    """Return a second process, which takes publishes; the object stays the first one's."""
    second = await Service(service.restate, PUBSUB_PUBLISH_ENABLED="true").start(register=False)
    yield second
    await second.stop()


@pytest.fixture
async def asking(restate: RestateServer, tmp_path: Path) -> AsyncIterator[Asking]:
    async with Asking(restate, tmp_path) as program:
        yield program


async def post(url: str, body: object, **headers: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as response:
        return response.status, await response.json()


async def test_an_answer_comes_back(open_service: Service, asking: Asking) -> None:
    """The question is an event, the first answer wins and is an event, and the handler goes on with it."""
    topic = topic_name()
    async with stream(open_service.topic_url(topic)) as reader:
        answer = await asking.ask(topic, {"tool": "send_mail"})
        question = await reader.next()
        assert ("question", {"tool": "send_mail"}) == (question.event, question.data["question"])
        url = f"{open_service.topic_url(topic)}?do=answer&id={question.data['id']}"
        assert (200, {"offset": 1}) == await post(url, {"yes": True})
        assert {"yes": True} == await answer
        event = await reader.next()
        assert ("answer", {"id": question.data["id"], "answer": {"yes": True}}) == (event.event, event.data)
        status, problem = await post(url, {"yes": False})
        assert (409, "already-answered") == (status, problem["code"])
        assert "offset 1" in problem["detail"]


async def test_it_survives_the_death_of_whoever_asks(open_service: Service, asking: Asking) -> None:
    """Killed between question and answer, the handler is given the answer by its successor."""
    topic = topic_name()
    async with stream(open_service.topic_url(topic)) as reader:
        answer = await asking.ask(topic, "may I?")
        question = (await reader.next()).data["id"]
        await asking.kill()
        async with create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client:
            assert 1 == await client.answer(topic, question, "yes")
            with pytest.raises(AlreadyAnswered) as late:
                await client.answer(topic, question, "no")
            assert 1 == late.value.offset
        await asking.start()
        assert "yes" == await answer


async def test_nobody_answers(open_service: Service, asking: Asking) -> None:
    """The question is withdrawn for all to see, and the handler is told."""
    topic = topic_name()
    async with stream(open_service.topic_url(topic)) as reader:
        answer = await asking.ask(topic, "may I?", timeout=0.3)
        question = (await reader.next()).data["id"]
        assert {"id": question, "withdrawn": True} == (await reader.next()).data
        assert "Nobody answered within 0.3 s" in str(await answer)


async def test_a_cancelled_invocation_withdraws(open_service: Service, asking: Asking) -> None:
    """Its question does not stay on the page."""
    topic = topic_name()
    async with stream(open_service.topic_url(topic)) as reader:
        answer = await asking.ask(topic, "may I?")
        question = (await reader.next()).data["id"]
        await asking.cancel()
        assert {"id": question, "withdrawn": True} == (await reader.next()).data
        await answer


async def test_a_page_stops_a_stream(open_service: Service) -> None:
    """Every reader sees it, and the writer is told; twice is once, and a request that names no stream is refused."""
    topic = topic_name()
    url = f"{open_service.topic_url(topic)}?do=stop"
    async with (
        create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client,
        stream(open_service.topic_url(topic)) as reader,
    ):
        with pytest.raises(StreamStopped, match="enough"):
            async with client.stream(topic, id="step") as writer:
                await writer.write("said")
                assert "said" == (await reader.next()).data
                for _ in range(2):
                    assert (200, {"offset": 1, "stopped": ["step"]}) == await post(
                        url, {"id": "step", "reason": "enough"}
                    )
                event = await reader.next()
                assert ("stop", {"id": "step", "reason": "enough"}) == (event.event, event.data)
                await writer.write("unsaid")
    bad: tuple[object, ...] = ({"id": ""}, {"id": "step", "cancel": True}, {"stream": "step"}, [])
    for body in bad:
        status, problem = await post(url, body)
        assert (400, "invalid-request") == (status, problem["code"])


async def test_a_page_stops_all_that_is_unfinished(open_service: Service) -> None:
    """It names no stream, and needs no body."""
    topic = topic_name()
    url = f"{open_service.topic_url(topic)}?do=stop"
    async with create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client:
        assert (200, {"offset": 0, "stopped": []}) == await post(url, {})
        with pytest.raises(StreamStopped):
            async with client.stream(topic, id="step") as writer:
                async with aiohttp.ClientSession() as session:
                    headers = {"content-type": "application/json"}
                    async with session.post(url, headers=headers) as response:
                        assert {"offset": 0, "stopped": ["step"]} == await response.json()
                await writer.write("unsaid")


async def test_a_page_cancels_the_invocation_that_writes(open_service: Service, asking: Asking) -> None:
    """The steps after the one that is stopped do not run."""
    topic = topic_name()
    async with stream(open_service.topic_url(topic)) as reader:
        outcome = await asking.think(topic)
        step = (await reader.next()).data["step"]
        status, done = await post(f"{open_service.topic_url(topic)}?do=stop", {"id": step, "cancel": True})
        assert (200, [step], [step.partition("/")[0]]) == (status, done["stopped"], done["cancelled"])
        assert "cancelled" in str(await outcome)
        assert "stop" == (await reader.next()).event
    async with create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client:
        assert 2 == (await client.bounds(topic)).tail  # nothing of the step after


@pytest.mark.parametrize("number", ["lYGhA16ahyg0000000000000000000000", "000000000007N42dgm5tFLK9N8MT7fHC8"])
async def test_an_id_that_restate_cannot_read_is_not_cancelled(open_service: Service, number: str) -> None:
    """Its call would be tried for ever, and its topic blocked; an invocation that never was is no harm."""
    topic = topic_name()
    url = f"{open_service.topic_url(topic)}?do=stop"
    never = f"inv_1{0:033d}"
    async with create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client:
        for name in (f"inv_1{number}", never):
            stream = client.stream(topic, id=name)
            await stream.__aenter__()
        status, problem = await post(url, {"id": f"inv_1{number}", "cancel": True})
        assert (400, "invalid-request") == (status, problem["code"])
        done = {"offset": 0, "stopped": [f"inv_1{number}", never], "cancelled": [never]}
        assert (200, done) == await post(url, {"cancel": True})


async def test_only_what_was_asked(open_service: Service) -> None:
    """Other ids, and requests that make no sense, are refused with what to do."""
    url = open_service.topic_url(topic_name())
    somebody = "sign_10000000000000000000000000000000000000A"
    for query, status, code in (
        (f"do=answer&id={somebody}", 404, "no-such-question"),
        ("do=answer", 400, "invalid-request"),
        ("do=dance&id=x", 400, "invalid-request"),
    ):
        found, problem = await post(f"{url}?{query}", 1)
        assert (status, code) == (found, problem["code"])
    async with aiohttp.ClientSession() as session, session.delete(f"{url}?do=answer&id={somebody}") as response:
        assert 400 == response.status
    async with create_pubsub_client(open_service.env["RESTATE_INGRESS_URL"]) as client:
        with pytest.raises(NoSuchQuestion):
            await client.answer(topic_name(), somebody, 1)


@pytest.mark.parametrize("what", ["answer&id=x", "stop"])
async def test_a_page_of_another_site_has_to_ask_first(open_service: Service, what: str) -> None:
    """What a form or a script can send without a preflight is refused, as for publishing."""
    url = f"{open_service.topic_url(topic_name())}?do={what}"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=b'{"id": "x"}', headers={"content-type": kind}) as response:
                assert (415, "unsupported-type") == (response.status, (await response.json())["code"])


@pytest.mark.usefixtures("open_service")
async def test_an_id_that_is_no_awakeable_cannot_be_asked(restate: RestateServer) -> None:
    """It would block the topic for ever."""
    topic = topic_name()
    status, answer = await call(restate, topic, "ask", {"id": "sign_1abc", "data": 1})
    assert (400, "invalid-request") == (status, answer["metadata"]["code"])


@pytest.mark.usefixtures("service")
async def test_rights(restate: RestateServer, asking: Asking) -> None:
    """`control` permits to answer, and nothing else does; it permits nothing else."""
    service = await Service(restate, PUBSUB_JWT_KEY=SECRET).start(register=False)
    topic = topic_name()
    try:
        answer = await asking.ask(topic, "may I?")

        async def asked() -> str:
            async with create_pubsub_client(service.env["RESTATE_INGRESS_URL"]) as client:
                async for message in client.pull(topic, 0):
                    return str(message.data["id"])
            raise AssertionError

        url = f"{service.topic_url(topic)}?do=answer&id={await asyncio.wait_for(asked(), 20)}"
        for permits in ({"subscribe": [topic]}, {"publish": [topic]}):
            token = mint_token(SECRET, lasts=60, **permits)  # type: ignore[arg-type]
            assert 403 == (await post(url, "no", authorization=f"Bearer {token}"))[0]
            stop = f"{service.topic_url(topic)}?do=stop"
            assert 403 == (await post(stop, {"id": "step"}, authorization=f"Bearer {token}"))[0]
        controls = {"authorization": f"Bearer {mint_token(SECRET, lasts=60, control=[topic])}"}
        assert 403 == (await post(service.topic_url(topic), "a message", **controls))[0]
        assert 403 == (await get(service.topic_url(topic), **controls))[0]
        assert (200, {"offset": 1}) == await post(url, "yes", **controls)
        assert "yes" == await answer
        assert 200 == (await post(stop, {"id": "step"}, **controls))[0]
    finally:
        await service.stop()


async def test_handlers_answer_withdraw_and_stop(restate: RestateServer, service: Service, asking: Asking) -> None:
    """Each with one line, as `ask` asks; what is refused is a terminal error. The metrics count each of them."""
    topic = topic_name()
    control = f"{restate.ingress_url}/asker/control"
    names = ("ask", "answer", "withdraw", "stop")
    before = [await service.metric(f'restate_pubsub_writes_total{{handler="{name}"}}') for name in names]
    async with stream(service.topic_url(topic)) as reader, create_pubsub_client(restate.ingress_url) as client:
        answered = await asking.ask(topic, "may I?")
        question = (await reader.next()).data["id"]
        assert (200, 1) == await post(control, {"do": "answer", "topic": topic, "id": question, "data": "yes"})
        assert "yes" == await answered
        assert 409 == (await post(control, {"do": "answer", "topic": topic, "id": question, "data": "no"}))[0]
        assert (200, False) == await post(control, {"do": "withdraw", "topic": topic, "id": question})
        await asking.ask(topic, "and now?")
        await reader.next()
        second = (await reader.next()).data["id"]
        assert (200, True) == await post(control, {"do": "withdraw", "topic": topic, "id": second})
        with pytest.raises(StreamStopped):
            async with client.stream(topic, id="step") as writer:
                await writer.write("said")
                await until(lambda: writer.acknowledged, "the token")
                status, (offset, stopped, cancelled) = await post(control, {"do": "stop", "topic": topic})
                assert (200, ["step"], []) == (status, stopped, cancelled)
                assert offset == writer.next_offset
    after = [await service.metric(f'restate_pubsub_writes_total{{handler="{name}"}}') for name in names]
    assert [2, 1, 1, 1] == [now - then for now, then in zip(after, before, strict=True)]


async def test_a_step_whose_model_is_silent_is_stopped(
    restate: RestateServer, service: Service, asking: Asking
) -> None:
    """Within a second, and for good: Restate does not begin the step again."""
    assert asking
    topic = topic_name()
    async with stream(service.topic_url(topic)) as reader, create_pubsub_client(restate.ingress_url) as client:
        waiting = asyncio.create_task(
            post(f"{restate.ingress_url}/asker/wait", {"topic": topic, "ingress": restate.ingress_url})
        )
        assert "let me think" == (await reader.next()).data
        began = asyncio.get_running_loop().time()
        await client.stop(topic, reason="enough")
        status, said = await asyncio.wait_for(waiting, 10)
        print(f"STOPPED {asyncio.get_running_loop().time() - began:.2f} s after the call")
        assert 200 == status
        assert "was stopped" in said
        assert "(enough)" in said
        assert "stop" == (await reader.next()).event
