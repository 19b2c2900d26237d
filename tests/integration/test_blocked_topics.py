"""A topic whose writes wait behind one that is stuck: seen, counted, logged, and said to who publishes over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, query, restate_server, stream, topic_name
from support.waiting import until

PROGRAM = (str(Path(__file__).parent / "stuck_write.py"),)
SILENT = "a topic may be blocked: its readers' subscription is not confirmed"
NO_ADMIN = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate of this module's own: its topics stay blocked."""
    server = restate_server(tmp_path_factory.mktemp("blocked"))
    await server.start()
    yield server
    await server.kill()


@pytest.fixture(scope="module")
async def stuck(own: RestateServer) -> AsyncIterator[Service]:
    """Return a service in which some writes get stuck; a write over HTTP may wait for six seconds."""
    service = Service(own, program=PROGRAM, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_PUBLISH_TIMEOUT="6s")
    yield await service.start()
    await service.kill()


async def post(service: Service, topic: str, key: str) -> tuple[int, dict[str, Any]]:
    """Publish over HTTP."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(service.topic_url(topic), json=1, headers={"idempotency-key": key}) as response,
    ):
        return response.status, json.loads(await response.text())


async def holder(restate: RestateServer, topic: str) -> str:
    """Return the invocation that holds a topic."""

    async def held() -> str | None:
        rows = await query(restate, f"select invocation_id from sys_keyed_service_status where service_key = '{topic}'")  # noqa: S608
        return str(rows[0]["invocation_id"]) if rows else None

    found: str = await until(held, f"an invocation to hold {topic}")
    return found


def logged(service: Service, event: str, topic: str) -> dict[str, Any] | None:
    """Return the log's line of an event of a topic."""
    lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    return next((line for line in lines if line["event"] == event and line.get("topic") == topic), None)


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_a_write_that_waits_is_refused_with_the_reason(own: RestateServer, stuck: Service, how: str) -> None:
    """503 within the time limit; text, log and counter; the log has the commands that end it, and they do."""
    topic = topic_name(how)
    before = await stuck.metric("restate_pubsub_slow_writes_total")
    status, body = await post(stuck, topic, "k")
    assert (status, body["code"]) == (503, "topic-blocked")
    invocation = await holder(own, topic)
    assert invocation in body["detail"]
    assert topic in body["detail"]
    line = logged(stuck, "a write waits for Restate", topic)
    assert line is not None
    assert line["invocation"] == invocation
    assert await stuck.metric("restate_pubsub_slow_writes_total") == before + 1
    async with aiohttp.ClientSession() as session:
        _, _, method, url = line["kill"].split()
        async with session.request(method, url) as response:
            assert response.status == 200


async def test_a_topic_that_nobody_publishes_to_over_http_is_seen(own: RestateServer, stuck: Service) -> None:
    """An agent's write is paused, readers wait in silence: gauge and log say so, and that it is over."""
    topic = topic_name("fails")
    async with stream(stuck.topic_url(topic)):
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{own.ingress_url}/pubsub/{topic}/publish/send", json=1) as response:
                assert response.status == 202
            invocation = await holder(own, topic)
            async with session.patch(f"{own.admin_url}/invocations/{invocation}/pause") as response:
                assert response.status in (200, 202)
            line: dict[str, Any] = await until(lambda: logged(stuck, "a topic is blocked", topic), "the log to say so")
            assert line["invocation"] == invocation
            assert line["resume"].endswith(f"/invocations/{invocation}/resume")
            assert await stuck.metric("restate_pubsub_blocked_topics") >= 1
            async with session.patch(f"{own.admin_url}/invocations/{invocation}/kill") as response:
                assert response.status == 200
            await until(lambda: logged(stuck, "a topic is blocked no more", topic), "the log to say that it is over")


async def test_without_the_admin_api_a_topic_that_is_read_here_is_seen(own: RestateServer) -> None:
    """Its readers wait in silence, as their subscription does not run; a topic that is only quiet is not meant."""
    service = Service(own, program=PROGRAM, RESTATE_ADMIN_URL=NO_ADMIN)
    await service.start(register=False)
    blocked, quiet = topic_name("hangs"), topic_name()
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{own.ingress_url}/pubsub/{blocked}/publish/send", json=1) as response:
                assert response.status == 202
        await holder(own, blocked)
        async with stream(service.topic_url(blocked)), stream(service.topic_url(quiet)):
            await until(lambda: logged(service, SILENT, blocked), "the log to say so")
            assert await service.metric("restate_pubsub_blocked_topics") == 1
            assert logged(service, SILENT, quiet) is None
    finally:
        await service.kill()


async def test_without_the_admin_api_a_write_still_ends(own: RestateServer) -> None:
    """With less to say: which topic, and how long; once, the log says what is missing."""
    service = Service(
        own, program=PROGRAM, RESTATE_ADMIN_URL=NO_ADMIN, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_PUBLISH_TIMEOUT="2s"
    )
    await service.start(register=False)
    try:
        topic = topic_name("hangs")
        status, body = await post(service, topic, "k")
        assert (status, body["code"]) == (503, "restate-unavailable")
        assert "did not answer within 2 s" in body["detail"]
        assert logged(service, "a write waits for Restate", topic)
        assert await service.metric("restate_pubsub_admin_reachable") == 0
        assert service.log.count("blocked topics cannot be seen from here") == 1
    finally:
        await service.kill()
