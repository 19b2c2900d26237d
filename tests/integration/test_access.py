"""Who may read and write, against real processes: tokens, cookies, other sites, two addresses, signed requests."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, free_port, get, publish, restate_server, stream, topic_name
from support.tokens import SECRET, ec_key, jwk, token
from support.waiting import until

PRIVATE_KEY = "MC4CAQAwBQYDK2VwBCIEIPe++4ZTPQDF81otpoU/mOGHC2vOAVp9WbiCblvn3nXO"
PUBLIC_KEY = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
APP = "https://app.example.org"


async def ask(method: str, url: str, data: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, data=data, headers=given) as response:
        body = await response.read()
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, json.loads(body) if "json" in found.get("content-type", "") else body, found


async def post(url: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    return await ask("POST", url, b"1", content_type="application/json", **headers)


def bearer(**claims: Any) -> str:
    return f"Bearer {token(**claims)}"


@pytest.fixture(scope="module")
async def locked(restate: RestateServer, service: Service) -> AsyncIterator[Service]:
    """Return a service that asks for tokens; the object runs in the other one."""
    assert service.process is not None
    locked = Service(
        restate,
        PUBSUB_JWT_KEY=SECRET,
        PUBSUB_JWT_QUERY="true",
        PUBSUB_PUBLISH_ENABLED="true",
        PUBSUB_CORS_ORIGINS=f"{APP},https://*.example.net",
        PUBSUB_LOG_LEVEL="debug",
    )
    await locked.start(register=False)
    yield locked
    await locked.stop()


async def test_a_token_opens_its_topics_and_no_others(restate: RestateServer, locked: Service, topic: str) -> None:
    """Exact or by prefix; others are refused in the same words, whether they exist or not."""
    await publish(restate, topic, "hi")
    for pattern in (topic, topic[:-2] + "*", "*"):
        async with stream(locked.topic_url(topic), authorization=bearer(subscribe=[pattern])) as reader:
            assert (await reader.next()).data == "hi"
    answers = []
    for other in (topic, topic_name()):
        status, body, _ = await get(locked.topic_url(other), authorization=bearer(subscribe=["else/*"], publish=["*"]))
        assert (status, body["code"]) == (403, "forbidden")
        answers.append(body["detail"].replace(other, "T"))
    assert answers[0] == answers[1]


async def test_without_a_good_token_there_is_a_401(locked: Service, topic: str) -> None:
    """With the challenge that RFC 6750 asks for."""
    status, body, headers = await get(locked.topic_url(topic))
    assert (status, body["code"], headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
    status, body, headers = await get(locked.topic_url(topic), authorization=bearer(subscribe=["*"], lasts=-1))
    assert (status, body["detail"]) == (401, "The token has expired")
    assert headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert headers["content-type"] == "application/problem+json"


async def test_a_stream_ends_when_its_token_does(locked: Service, topic: str) -> None:
    """Not before, and not long after; who comes back with it is refused."""
    ends = time.time() + 2.0
    carried = bearer(subscribe=[topic], exp=ends)
    async with stream(locked.topic_url(topic), authorization=carried) as reader:
        assert await reader.to_end(10) == []
    assert -0.05 < time.time() - ends < 1.0
    status, _, _ = await get(locked.topic_url(topic), authorization=carried)
    assert status == 401


async def test_a_cookie_reads_and_writes_only_from_its_own_site(locked: Service, topic: str) -> None:
    """`EventSource` with credentials works; a page of another site cannot publish with somebody's cookie."""
    cookie = f"pubsub_token={token(subscribe=['*'], publish=['*'])}"
    async with stream(locked.topic_url(topic), cookie=cookie, origin=APP) as reader:
        assert reader.response.headers["access-control-allow-origin"] == APP
        assert reader.response.headers["access-control-allow-credentials"] == "true"
    url = locked.topic_url(topic)
    for headers in ({"origin": "https://evil.example", "sec_fetch_site": "cross-site"}, {}, {"origin": "null"}):
        for method in ("POST", "PUT", "DELETE"):
            status, body, _ = await ask(method, url, b"1", content_type="application/json", cookie=cookie, **headers)
            assert (status, body["code"]) == (403, "forbidden")
    assert (await post(url, cookie=cookie, origin=APP, sec_fetch_site="cross-site"))[0] == 200
    assert (await post(url, cookie=cookie, origin=locked.url, sec_fetch_site="same-origin"))[0] == 200


async def test_publishing_needs_its_own_permission(locked: Service, topic: str) -> None:
    """A reader is no writer; deleting counts as writing."""
    url = locked.topic_url(topic)
    assert (await post(url))[0] == 401
    assert (await post(url, authorization=bearer(subscribe=["*"])))[0] == 403
    assert (await ask("DELETE", url, authorization=bearer(subscribe=["*"])))[0] == 403
    assert (await post(url, authorization=bearer(publish=[topic])))[0] == 200
    assert (await ask("DELETE", url, authorization=bearer(publish=[topic])))[0] == 204


async def test_a_token_in_the_query_works_where_it_is_allowed_and_is_in_no_log(locked: Service, topic: str) -> None:
    """At the most talkative log level, on good and on bad requests."""
    good, bad = token(subscribe=[topic]), token(lasts=-5, subscribe=[topic])
    async with stream(locked.topic_url(topic, f"access_token={good}&offset=latest")):
        pass
    assert (await get(locked.topic_url(topic, f"access_token={bad}")))[0] == 401
    assert (await get(locked.topic_url(topic, f"access_token={good}&offset=x")))[0] == 400
    assert (await get(f"{locked.url}/nothing?access_token={good}"))[0] == 404
    assert "serving" in locked.log
    for secret in (good, bad, good.split(".")[2], SECRET):
        assert secret not in locked.log


async def test_in_the_query_a_token_is_nothing_unless_switched_on(restate: RestateServer, topic: str) -> None:
    """It is off by itself; and a service that asks for tokens warns only of what is still open."""
    strict = await Service(restate, PUBSUB_JWT_KEY=SECRET).start(register=False)
    try:
        assert (await get(strict.topic_url(topic, f"access_token={token(subscribe=['*'])}")))[0] == 401
        await until(lambda: "open to anybody" in strict.log, "the warning")
        assert strict.log.count("open to anybody") == 1
        assert "PUBSUB_RESTATE_IDENTITY_KEYS" in strict.log
        assert "PUBSUB_JWKS_URL" not in strict.log
    finally:
        await strict.stop()


async def test_without_any_lock_one_warning_says_what_is_open(service: Service) -> None:
    """And how to close it."""
    lines = [json.loads(line) for line in service.log.splitlines() if "open to anybody" in line]
    assert len(lines) == 1
    assert lines[0]["level"] == "warning"
    readers, restate = lines[0]["open"]
    assert readers == "read every topic at /pubsub: set PUBSUB_JWT_KEY or PUBSUB_JWKS_URL"
    assert restate.startswith("invoke the object at /restate: set PUBSUB_RESTATE_IDENTITY_KEYS, or give PUBSUB_BIND")


async def test_settings_that_contradict_each_other_stop_the_start(restate: RestateServer) -> None:
    """With one line that says why, and exit code 2."""
    service = Service(restate)
    code, out = await service.command("serve", PUBSUB_JWT_KEY=SECRET, PUBSUB_JWT_ALGORITHMS="RS256")
    assert code == 2
    assert "RS256 is not for a shared secret" in out
    assert "Traceback" not in out


async def test_a_preflight_is_answered(locked: Service, topic: str) -> None:
    """For a listed origin; without a token, as browsers send none."""
    asked = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,content-type"}
    status, _, headers = await ask("OPTIONS", locked.topic_url(topic), origin=APP, **asked)
    assert (status, headers["access-control-allow-origin"]) == (204, APP)
    before = await locked.metric("restate_pubsub_refused_total")
    status, body, _ = await ask("OPTIONS", locked.topic_url(topic), origin="https://evil.example", **asked)
    assert (status, body["code"]) == (403, "origin-not-allowed")
    assert await locked.metric("restate_pubsub_refused_total") == before + 1


async def test_keys_by_url_outlive_their_host(restate: RestateServer, service: Service, topic: str) -> None:
    """Fetched before the first reader; when the host is gone, known keys go on working."""
    assert service.process is not None
    key = ec_key()

    async def keys(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [jwk(key, "k1")]})

    app = web.Application()
    app.router.add_get("/jwks", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    locked = await Service(restate, PUBSUB_JWKS_URL=url).start(register=False)
    try:
        await until(lambda: "token keys" in locked.log, "the keys")
        await runner.cleanup()
        good = token(key, "ES256", kid="k1", subscribe=[topic])
        async with stream(locked.topic_url(topic), authorization=f"Bearer {good}"):
            pass
        forged = token(ec_key(), "ES256", kid="k2", subscribe=[topic])
        assert (await get(locked.topic_url(topic), authorization=f"Bearer {forged}"))[0] == 401
    finally:
        await runner.cleanup()
        await locked.stop()


async def test_of_two_addresses_the_first_serves_only_the_streams(tmp_path: Path) -> None:
    """And the second everything, registration and all; forged headers change nothing."""
    restate = restate_server(tmp_path / "restate")
    await restate.start()
    public, internal = free_port(), free_port()
    service = Service(restate, port=public, PUBSUB_BIND=f"127.0.0.1:{public},127.0.0.1:{internal}")
    try:
        await service.start(register=False)
        outside, inside = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}"
        status, body, _ = await get(f"{outside}/health/ready")
        assert (status, body) == (503, {"status": "not ready"})
        status, body, _ = await get(f"{inside}/health/ready")
        assert "register" in body["reason"]
        code, out = await service.command("register")
        assert code == 0, out
        assert f":{internal}/restate" in out
        for path in ("/metrics", "/restate/discover", "/restate", "/console", "/", "/pubsub", "/pubsub/../metrics"):
            for headers in ({}, {"host": f"127.0.0.1:{internal}"}, {"x_forwarded_port": str(internal)}):
                raw = outside + path if ".." not in path else f"{outside}/%2E%2E/metrics"
                assert (await get(raw, **headers))[0] == 404, path
        assert (await get(f"{inside}/metrics"))[0] == 200
        topic = topic_name()
        for base in (outside, inside):
            async with stream(f"{base}/pubsub/{topic}") as reader:
                await publish(restate, topic, "hi")
                assert (await reader.next()).data == "hi"
        assert "invoke the object" not in service.log
    finally:
        await service.stop()
        await restate.stop()


async def test_only_the_restate_that_signs_may_invoke(tmp_path: Path) -> None:
    """With a real server that signs; requests without a signature, or with a made-up one, are refused."""
    pem = tmp_path / "identity.pem"
    pem.write_text(f"-----BEGIN PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END PRIVATE KEY-----\n")
    restate = restate_server(
        tmp_path / "restate", RESTATE_WORKER__INVOKER__REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE=str(pem)
    )
    await restate.start()
    service = Service(restate, PUBSUB_RESTATE_IDENTITY_KEYS=PUBLIC_KEY)
    try:
        await service.start()
        topic = topic_name()
        async with stream(service.topic_url(topic)) as reader:
            assert (await call(restate, topic, "publish", {"a": 1}))[0] == 200
            assert (await reader.next()).data == {"a": 1}
        made_up = base64.urlsafe_b64encode(b"x" * 64).decode().rstrip("=")
        for headers in (
            {},
            {"x_restate_signature_scheme": "unsigned"},
            {"x_restate_signature_scheme": "v1", "x_restate_jwt_v1": f"e30.e30.{made_up}"},
            {"x_restate_signature_scheme": "v1", "x_restate_jwt_v1": token(SECRET, aud="/discover")},
        ):
            kind = {"content_type": "application/vnd.restate.invocation.v5"}
            accept = {"accept": "application/vnd.restate.endpointmanifest.v4+json"}
            invoked = await ask("POST", f"{service.url}/restate/invoke/pubsub/publish", b"", **kind, **headers)
            assert invoked[0] == 401, (headers, invoked)
            assert (await ask("GET", f"{service.url}/restate/discover", **accept, **headers))[0] == 401
    finally:
        await service.stop()
        await restate.stop()


async def test_a_restate_that_does_not_sign_is_refused(tmp_path: Path) -> None:
    """Keys are set, but this Restate has none: it cannot even register."""
    restate = restate_server(tmp_path / "restate")
    await restate.start()
    service = Service(restate, PUBSUB_RESTATE_IDENTITY_KEYS=PUBLIC_KEY)
    try:
        await service.start(register=False)
        code, out = await asyncio.wait_for(service.command("register", "--wait", "3s"), 30)
        assert code == 1, out
    finally:
        await service.stop()
        await restate.stop()
