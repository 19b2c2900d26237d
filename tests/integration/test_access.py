"""Who may read and write, against real processes: tokens, cookies, other sites, two addresses, signed requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import jwt
import pytest
from aiohttp import web
from yarl import URL

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import (
    Service,
    call,
    free_port,
    get,
    publish,
    read_all,
    restate_server,
    stream,
    topic_name,
)
from support.http2 import Http2Client
from support.invocations import PRIVATE_PEM, PUBLIC_KEY, frame, given, signed, start
from support.tokens import SECRET, ec_key, jwk, token
from support.waiting import until

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


class Upload:
    """A body that stays open: lines go in one by one, and the answer may come before its end."""

    def __init__(self, url: str, kind: str = "application/x-ndjson", **headers: str) -> None:
        self._url = URL(url)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._head = {"host": "x", "content-type": kind, "transfer-encoding": "chunked"} | given

    async def __aenter__(self) -> Self:
        """Send the head."""
        self._reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)
        head = "".join(f"{name}: {value}\r\n" for name, value in self._head.items())
        self._writer.write(f"POST {self._url.raw_path} HTTP/1.1\r\n{head}\r\n".encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Go, whether the body has ended or not."""
        self._writer.close()

    async def send(self, text: str) -> None:
        data = text.encode()
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")

    async def answer(self, seconds: float = 15) -> tuple[int, dict[str, Any], str]:
        """Return status, body and head of the answer, whenever it comes."""
        async with asyncio.timeout(seconds):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await self._reader.readuntil(b"}")
        return int(head.split()[1]), json.loads(body[body.index(b"{") :]), head


async def test_a_write_ends_when_its_token_does(restate: RestateServer, locked: Service, topic: str) -> None:
    """As a stream does, and the answer says how far it got: what was sent while the token was good stands."""
    ends = time.time() + 2.0
    async with Upload(locked.topic_url(topic), authorization=bearer(publish=[topic], exp=ends)) as upload:
        sent = 0

        async def write() -> None:
            nonlocal sent
            while True:
                await upload.send(f"{sent}\n")
                sent += 1
                await asyncio.sleep(0.05)

        writing = asyncio.create_task(write())
        status, body, head = await upload.answer()
        ended = time.time()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert (status, body["code"]) == (401, "unauthorized")
    assert 'www-authenticate: bearer error="invalid_token"' in head
    assert -0.05 < ended - ends < 2.0
    messages = await read_all(restate, topic)
    assert messages == list(range(body["count"]))
    assert body["nextOffset"] == body["count"]
    assert 10 < body["count"] <= sent
    assert f"the {body['count']} messages before it are published, up to offset {body['nextOffset']}" in body["detail"]


async def test_a_message_that_arrives_after_its_token_s_end_is_not_published(
    restate: RestateServer, locked: Service, topic: str
) -> None:
    """A body of one message as well: it was permitted when it began, and not when it was there."""
    carried = bearer(publish=[topic], exp=time.time() + 1.0)
    async with Upload(locked.topic_url(topic), "application/json", authorization=carried) as upload:
        await upload.send('{"a":')
        status, body, _ = await upload.answer()
    assert (status, body["code"]) == (401, "unauthorized")
    assert await read_all(restate, topic) == []


async def test_a_silent_write_ends_when_its_token_does(locked: Service, topic: str) -> None:
    """Nothing comes that could be looked at, and the place is given back all the same."""
    carried = bearer(publish=[topic], exp=time.time() + 1.0)
    async with Upload(locked.topic_url(topic), authorization=carried) as upload:
        status, body, _ = await upload.answer()
    assert (status, body["nextOffset"], body["count"]) == (401, None, 0)
    assert "nothing before it was published" in body["detail"]


async def test_one_request_does_not_write_without_end(restate: RestateServer, service: Service) -> None:
    """Neither in bytes nor in time; the answer says how far it got, and the rest goes into a new request."""
    assert service.process is not None
    bounded = Service(
        restate, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_REQUEST_MAX_BYTES="1KiB", PUBSUB_REQUEST_MAX_AGE="2s"
    )
    await bounded.start(register=False)
    try:
        topic = topic_name()
        line = f'"{"x" * 97}"\n'  # 100 bytes
        async with Upload(bounded.topic_url(topic)) as upload:
            for _ in range(11):
                await upload.send(line)
            status, body, _ = await upload.answer()
        assert (status, body["code"], body["count"], body["nextOffset"]) == (413, "request-too-long", 10, 10)
        assert "has more than 1KiB, which is the most allowed: send the rest in a new one" in body["detail"]
        assert len(await read_all(restate, topic)) == 10
        async with Upload(bounded.topic_url(topic)) as upload:
            await upload.send(line)
            status, body, _ = await upload.answer()
        assert (status, body["code"], body["count"], body["nextOffset"]) == (413, "request-too-long", 1, 11)
        assert "has gone on for 2s" in body["detail"]
    finally:
        await bounded.stop()


async def test_one_client_s_bytes_and_messages_a_second_are_limited(restate: RestateServer, service: Service) -> None:
    """A body under way is slowed down and loses nothing; who is ahead of its rate is told when to come back."""
    assert service.process is not None
    slow = Service(
        restate,
        PUBSUB_PUBLISH_ENABLED="true",
        PUBSUB_MESSAGE_RATE_PER_CLIENT="100",
        PUBSUB_BYTE_RATE_PER_CLIENT="64KiB",
        PUBSUB_TRUSTED_PROXIES="1",
    )
    await slow.start(register=False)
    try:
        for client, line, count, code in (
            ("192.0.2.1", "1\n", 250, "message-rate-of-client"),
            ("192.0.2.2", f'"{"x" * 16_381}"\n', 10, "byte-rate-of-client"),
        ):
            topic = topic_name()
            began = time.monotonic()
            async with Upload(slow.topic_url(topic), x_forwarded_for=client) as upload:
                for _ in range(count):
                    await upload.send(line)
                upload.end()
                status, body, _ = await upload.answer()
            assert (status, body["count"]) == (200, count)
            assert len(await read_all(restate, topic)) == count
            if client == "192.0.2.2":
                assert time.monotonic() - began > 1.2  # 160 KiB, the first 64 at once
            async with Upload(slow.topic_url(topic), x_forwarded_for=client) as upload:
                await upload.send(line * 2 * count)

                async def refused(url: str, client: str) -> Any:
                    status, body, headers = await post(url, x_forwarded_for=client)
                    return status == 429 and (body["code"], headers["retry-after"])

                said, after = await until(lambda: refused(slow.topic_url(topic), client), "a refusal")  # noqa: B023
                assert (said, int(after) >= 1) == (code, True)
            assert (await post(slow.topic_url(topic), x_forwarded_for="192.0.2.3"))[0] == 200
    finally:
        await slow.stop()


async def test_control_is_a_permission_of_its_own(locked: Service, topic: str) -> None:
    """It does not write; and an exact pattern is one topic, whatever a user is named."""
    url = locked.topic_url(topic)
    status, body, _ = await post(url, authorization=bearer(control=[topic]))
    assert (status, body["code"]) == (403, "forbidden")
    star = topic + "/*"
    carried = bearer(publish=[{"exact": star}])
    assert (await post(locked.topic_url(star), authorization=carried))[0] == 200
    assert (await post(locked.topic_url(topic + "/1"), authorization=carried))[0] == 403


async def test_a_token_without_the_claim_is_told_so(locked: Service, topic: str) -> None:
    """It is not the permission that is missing."""
    made = jwt.encode({"sub": "somebody"}, SECRET)
    status, body, _ = await get(locked.topic_url(topic), authorization=f"Bearer {made}")
    assert (status, body["code"]) == (403, "claim-missing")
    assert "has no claim 'pubsub'" in body["detail"]


async def test_a_malformed_origin_or_host_is_refused_and_breaks_nothing(locked: Service, topic: str) -> None:
    """Byte for byte as an attacker may send it, with a cookie that is good."""
    cookie = f"pubsub_token={token(subscribe=['*'], publish=['*'])}"
    names = ["http://[", "http://]", "[", "http://[::1", "//", "http://a:b:c", "http://\x80", "http://%", "http://a b"]
    for name in names:
        for headers in (
            {"host": "x", "origin": name},
            {"host": name, "origin": name},
            {"host": name, "origin": "http://x"},
            {"host": name},
        ):
            for method, path in (("POST", f"/pubsub/{topic}"), ("GET", "/nothing"), ("PATCH", f"/pubsub/{topic}")):
                reader, writer = await asyncio.open_connection("127.0.0.1", locked.port)
                lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
                writer.write(
                    f"{method} {path} HTTP/1.1\r\n{lines}cookie: {cookie}\r\ncontent-type: application/json\r\n"
                    "content-length: 1\r\nconnection: close\r\n\r\n1".encode("latin-1")
                )
                answer = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                status = int(answer.split()[1]) if answer else 400
                expected = {"POST": {400, 403}, "GET": {400, 404}, "PATCH": {400, 405}}[method]
                assert status in expected, (method, headers, answer)
    assert "Traceback" not in locked.log


async def test_refused_tokens_and_origins_are_logged_with_the_setting_that_decides(
    restate: RestateServer, service: Service
) -> None:
    """Each reason once in a while, however often it comes."""
    assert service.process is not None
    strict = await Service(restate, PUBSUB_JWT_KEY=SECRET, PUBSUB_JWT_AUDIENCE="here").start(register=False)
    try:
        url = strict.topic_url(topic_name())
        for _ in range(20):
            assert (await get(url, authorization=bearer(subscribe=["*"], aud="there")))[0] == 401
            assert (await get(url, authorization=f"Bearer {token('y' * 64, aud='here')}"))[0] == 401
            assert (await get(url, authorization=bearer(aud="here", exp=1)))[0] == 401
            assert (await get(url, origin="https://elsewhere.example"))[0] == 401
        lines = [json.loads(line) for line in strict.log.splitlines() if "refused" in line or "not allowed" in line]
        assert {(line["reason"], line.get("setting")) for line in lines} == {
            ("The token has expired", None),
            ("The token is not for this audience", "PUBSUB_JWT_AUDIENCE"),
            ("The token's signature is not valid", "PUBSUB_JWT_KEY or PUBSUB_JWKS_URL"),
            ("https://elsewhere.example", "PUBSUB_CORS_ORIGINS"),
            ("A token is needed: send it as `Authorization: Bearer …`", None),
        }
        assert len(lines) == 5
    finally:
        await strict.stop()


async def test_a_keys_host_that_is_down_has_its_own_name(restate: RestateServer, service: Service) -> None:
    """Restate is not to blame: the code, the metric and the log say what cannot be fetched."""
    assert service.process is not None
    url = f"http://reader:hush@127.0.0.1:{free_port()}/jwks"
    locked = await Service(restate, PUBSUB_JWKS_URL=url).start(register=False)
    try:
        status, body, headers = await get(locked.topic_url(topic_name()), authorization=bearer(subscribe=["*"]))
        assert (status, body["code"], headers["retry-after"]) == (503, "token-keys-unavailable", "1")
        assert "Restate" not in body["detail"]
        assert await locked.metric('restate_pubsub_refused_total{code="token-keys-unavailable"}') == 1
        assert await locked.metric('restate_pubsub_token_key_fetches_total{outcome="failed"}') >= 1
        await until(lambda: "PUBSUB_JWKS_URL cannot be read" in locked.log, "the log")
        assert "hush" not in locked.log
    finally:
        await locked.stop()


async def test_while_restate_is_away_nobody_learns_what_is_behind(restate: RestateServer) -> None:
    """Neither its address nor a password: not from an answer, the log, the metrics, nor from a command."""
    port = free_port()
    ingress = f"http://somebody:hush@127.0.0.1:{port}"
    lonely = Service(
        restate,
        RESTATE_INGRESS_URL=ingress,
        RESTATE_ADMIN_URL=ingress,
        PUBSUB_PUBLISH_ENABLED="true",
        PUBSUB_CONSOLE="true",
        PUBSUB_LOG_LEVEL="debug",
    )
    await lonely.start(register=False)
    try:
        url = lonely.topic_url(topic_name())
        ndjson = {"content_type": "application/x-ndjson"}
        answers = await asyncio.gather(
            post(url),
            ask("POST", url, b"1\n2\n", **ndjson),
            ask("DELETE", url),
            get(f"{url}?strict=true"),
        )
        for status, body, _ in answers:
            assert status == 503
            assert body["code"] in ("restate-unavailable", "stream-failed")
            for secret in ("hush", "somebody", "127.0.0.1", str(port)):
                assert secret not in str(body)
        for path in ("/health/ready", "/metrics", "/console/figures"):
            assert "hush" not in str(await get(lonely.url + path))
        _, reason, _ = await get(f"{lonely.url}/health/ready")
        assert f"http://…@127.0.0.1:{port}" in reason["reason"]
        assert f"…@127.0.0.1:{port}" in lonely.log
        assert "hush" not in lonely.log
        code, out = await lonely.command("register", "--wait", "1s")
        assert code == 1
        assert f"…@127.0.0.1:{port}" in out
        assert "hush" not in out
        code, out = await lonely.command("publish", "t", "1", RESTATE_INGRESS_URL="http://somebody:hu/sh@127.0.0.1")
        assert code == 2
        assert "http://…@127.0.0.1" in out
    finally:
        await lonely.stop()


async def test_the_metrics_have_an_address_of_their_own(restate: RestateServer, service: Service) -> None:
    """Whoever may scrape there may not invoke, read or write."""
    assert service.process is not None
    metrics = free_port()
    watched = await Service(restate, PUBSUB_METRICS_BIND=f"127.0.0.1:{metrics}").start(register=False)
    try:
        base = f"http://127.0.0.1:{metrics}"
        assert "restate_pubsub_streams" in str((await get(f"{base}/metrics"))[1])
        assert (await get(f"{base}/health/live"))[0] == 200
        for path in ("/restate/discover", "/restate/invoke/pubsub/publish", "/pubsub/t", "/console/"):
            assert (await get(base + path, accept="application/vnd.restate.endpointmanifest.v4+json"))[0] == 404
        # The other address is what it would be without.
        async with stream(watched.topic_url(topic_name())):
            pass
        assert "restate_pubsub_streams" in str((await get(f"{watched.url}/metrics"))[1])
    finally:
        await watched.stop()


async def test_a_reader_renews_its_token_without_a_gap(restate: RestateServer, locked: Service, topic: str) -> None:
    """It opens the next stream, with the next token, before the last one ends, and goes on where it was."""
    seen: list[Any] = []
    last = "0"

    async def write() -> None:
        for number in range(40):
            await publish(restate, topic, number)
            await asyncio.sleep(0.05)  # so that it goes on for longer than a token

    writing = asyncio.create_task(write())
    waits: list[float] = []
    async with contextlib.AsyncExitStack() as streams:
        while len(seen) < 40:
            carried = bearer(subscribe=[topic], lasts=1.0)
            following = await streams.enter_async_context(
                stream(locked.topic_url(topic), authorization=carried, last_event_id=last)
            )
            renew = time.monotonic() + 0.5
            while len(seen) < 40 and time.monotonic() < renew:
                began = time.monotonic()
                seen.append((await following.next()).data)
                waits.append(time.monotonic() - began)
                last = following.last_id
    await writing
    assert seen == list(range(40))
    assert sorted(waits)[-2] < 1.0


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


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PUBSUB_JWT_KEY": SECRET, "PUBSUB_JWT_ALGORITHMS": "RS256"}, "RS256 is not for a shared secret"),
        ({"PUBSUB_JWT_KEYS": SECRET}, "PUBSUB_JWT_KEYS: no setting has this name; did you mean PUBSUB_JWT_KEY?"),
        ({"PUBSUB_JWT_AUDIENCE": "here"}, "PUBSUB_JWT_AUDIENCE: set, but no key, so everybody could read"),
        ({"PUBSUB_JWT_KEY": "/run/secrets/jwt"}, "looks like a path: set PUBSUB_JWT_KEY_FILE to it"),
        ({"PUBSUB_HEARTBEAT": "15"}, "PUBSUB_HEARTBEAT='15': not a duration"),
    ],
)
async def test_settings_that_cannot_be_meant_stop_the_start(
    restate: RestateServer, env: dict[str, str], said: str
) -> None:
    """With one line that says why, and exit code 2."""
    code, out = await Service(restate).command("serve", env=env)
    assert code == 2
    assert said in out
    assert "Traceback" not in out


async def test_the_key_may_be_in_a_file(restate: RestateServer, service: Service, tmp_path: Path, topic: str) -> None:
    """As secrets are mounted; the line end that an editor adds is not a part of it."""
    assert service.process is not None
    file = tmp_path / "jwt-key"
    file.write_text(SECRET + "\n")
    locked = await Service(restate, PUBSUB_JWT_KEY_FILE=str(file)).start(register=False)
    try:
        assert (await get(locked.topic_url(topic)))[0] == 401
        async with stream(locked.topic_url(topic), authorization=bearer(subscribe=[topic])):
            pass
    finally:
        await locked.stop()


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

        async def says_why() -> bool:
            return "register" in (await get(f"{inside}/health/ready"))[1]["reason"]

        await until(says_why, "Restate to be asked, and the reason")
        code, out = await service.command("register")
        assert code == 0, out
        assert f":{internal}/restate" in out
        for path in ("/metrics", "/restate/discover", "/restate", "/console", "/", "/pubsub/../metrics"):
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
    pem.write_text(PRIVATE_PEM)
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


INVOCATION = start(b"tampered") + given(b"1")


@pytest.fixture(scope="module")
async def signing_only(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that nobody may invoke who does not sign."""
    service = Service(restate, PUBSUB_RESTATE_IDENTITY_KEYS=PUBLIC_KEY)
    await service.start(register=False)
    yield service
    assert "Traceback" not in service.log
    await service.stop()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (INVOCATION, 200),
        (b"", 400),
        (b"garbage", 400),
        (b"\xff" * 100, 400),
        (INVOCATION[:-1], 400),
        (INVOCATION[:20] + b"tampered" + INVOCATION[28:], 400),
        (INVOCATION[:-3] + b"\xff" + INVOCATION[-2:], 400),
        (start(b"tampered") + frame(0x0400, b"1", 0x7FFFFFFF), 400),
    ],
)
async def test_what_was_tampered_with_after_it_was_signed_is_one_refusal(
    signing_only: Service, body: bytes, status: int
) -> None:
    """The signature is of the path alone. Over both versions of HTTP, and without a line in the log."""
    path = "/invoke/pubsub/publish"
    headers = {"content-type": "application/vnd.restate.invocation.v7", **signed(path)}
    asked = {name.replace("-", "_"): value for name, value in headers.items()}
    found, answer, _ = await ask("POST", f"{signing_only.url}/restate{path}", body, **asked)
    assert status == found, answer
    async with Http2Client.connect(signing_only.port) as client:
        more = [(name.encode(), value.encode()) for name, value in headers.items()]
        call = client.open(f"/restate{path}".encode(), b"POST", more, end=False)
        client.h2.send_data(call, body, end_stream=True)
        client.flush()
        assert status == (await client.answer(call))[0]
    assert "Traceback" not in signing_only.log


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
