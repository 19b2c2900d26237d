"""What a running service answers is what it says that it answers."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from restate_pubsub.commands.local_restate import RestateServer
from support.described import check
from support.harness import Service, call, get

TOPIC, SEVERAL = "/pubsub/{topic}", "/pubsub"
JSON, NDJSON = {"content-type": "application/json"}, {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
async def open_service(service: Service) -> AsyncIterator[Service]:
    """Return a further replica, where everything is switched on; streams last for a moment."""
    one = Service(
        service.restate,
        PUBSUB_PUBLISH_ENABLED="true",
        PUBSUB_CONSOLE="true",
        PUBSUB_STREAM_MAX_AGE="200ms",
        PUBSUB_CORS_ORIGINS="https://app.example.org",
    )
    await one.start(register=False)
    yield one
    await one.stop()


@pytest.fixture(scope="module")
async def document(open_service: Service) -> Any:
    """Return its description, which every page may read."""
    status, found, headers = await get(f"{open_service.url}/client/openapi.json")
    assert (200, "*") == (status, headers["access-control-allow-origin"])
    return found


async def asked(
    service: Service, method: str, path: str, *, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["content-type"]) as session,
        session.request(
            method,
            URL(service.url + path, encoded=True),
            data=None if body is None else io.BytesIO(body),
            headers=given,
            allow_redirects=False,
        ) as response,
    ):
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, found, await response.read()


@pytest.mark.parametrize(
    ("method", "query", "body", "kind", "expected"),
    [
        ("POST", "", b"1", "application/json", 200),
        ("PUT", "", b"1\n2", "application/x-ndjson", 200),
        ("POST", "", b"", "application/x-ndjson", 200),
        ("POST", "?do=stop", b"", "application/json", 200),
        ("POST", "", b"{", "application/json", 400),
        ("POST", "", b"1\n{", "application/x-ndjson", 400),
        ("PUT", "?do=stop", b"", "application/json", 400),
        ("POST", "?do=answer&id=x", b"1", "application/json", 404),
        ("POST", "", b"1", "text/plain", 415),
        ("POST", "", b'"' + b"x" * 1048576 + b'"', "application/json", 413),
        ("DELETE", "", None, None, 204),
        ("GET", "?offset=x", None, None, 400),
        ("GET", "?view=ai-sdk", None, None, 204),
        ("HEAD", "?view=ag-ui", None, None, 200),
        ("GET", "?offset=99&strict=true", None, None, 410),
        ("GET", "", None, None, 200),
        ("HEAD", "", None, None, 200),
        ("HEAD", "?offset=x", None, None, 400),
    ],
)
async def test_a_topic_answers_as_described(
    open_service: Service,
    document: Any,
    topic: str,
    method: str,
    query: str,
    body: bytes | None,
    kind: str | None,
    expected: int,
) -> None:
    """Status, type, headers and body."""
    headers = {} if kind is None else {"content_type": kind}
    answer = await asked(open_service, method, f"/pubsub/{quote(topic)}{query}", body=body, **headers)
    assert expected == answer[0]
    check(document, method, TOPIC, answer)


async def test_a_closed_topic_answers_as_described(open_service: Service, document: Any, topic: str) -> None:
    """Whether it is written or read."""
    assert (await call(open_service.restate, topic, "close"))[0] == 200
    path = f"/pubsub/{topic}"
    for expected, method, headers, body in (
        (409, "POST", {"content_type": "application/json"}, b"1"),
        (409, "POST", {"content_type": "application/x-ndjson"}, b"1\n"),
        (204, "GET", {"last_event_id": "0"}, None),
    ):
        answer = await asked(open_service, method, path, body=body, **headers)
        assert expected == answer[0]
        check(document, method, TOPIC, answer)


@pytest.mark.parametrize(
    ("method", "query", "expected"),
    [
        ("GET", "?topic=a&topic=b", 200),
        ("HEAD", "?topic=a", 200),
        ("GET", "", 400),
        ("GET", "?topic=a&topic=a", 400),
        ("GET", "?topic=a&topic=b&offset=99&strict=true", 410),
    ],
)
async def test_several_topics_answer_as_described(
    open_service: Service, document: Any, method: str, query: str, expected: int
) -> None:
    """As one topic does."""
    answer = await asked(open_service, method, f"/pubsub{query}")
    assert expected == answer[0]
    check(document, method, SEVERAL, answer)


@pytest.mark.parametrize(("origin", "expected"), [("https://app.example.org", 204), ("https://other.example.org", 403)])
async def test_a_preflight_is_answered_as_described(
    open_service: Service, document: Any, origin: str, expected: int
) -> None:
    """Whether the origin is allowed or not."""
    answer = await asked(open_service, "OPTIONS", "/pubsub/t", origin=origin, access_control_request_method="POST")
    assert expected == answer[0]
    check(document, "OPTIONS", TOPIC, answer)


async def test_the_rest_answers_as_described(open_service: Service, document: Any) -> None:
    """All that has a fixed path, with `GET` and with `HEAD`; a page that has a file is not sent it again."""
    for path in document["paths"].keys() - {TOPIC, SEVERAL}:
        for method in ("GET", "HEAD"):
            answer = await asked(open_service, method, path)
            assert answer[0] in (200, 307), (path, answer)
            check(document, method, path, answer)
    for path in ("/client/openapi.json", "/client/asyncapi.json", "/client/restate-pubsub.js"):
        etag = (await asked(open_service, "GET", path))[1]["etag"]
        answer = await asked(open_service, "GET", path, if_none_match=etag)
        assert answer[0] == 304
        check(document, "GET", path, answer)
    check(document, "GET", "/health/ready", await asked(open_service, "GET", "/health/ready?object=maybe"))


async def test_another_method_is_refused_with_those_that_there_are(open_service: Service, document: Any) -> None:
    """At every path: `Allow` names what is described."""
    for path, operations in document["paths"].items():
        status, headers, body = await asked(open_service, "PATCH", path.replace("{topic}", "t"))
        assert (405, "method-not-allowed") == (status, json.loads(body)["code"])
        described = {method.upper() for method in operations.keys() - {"parameters", "options"}}
        assert described == set(headers["allow"].split(", ")), path


async def test_a_process_that_is_not_ready_answers_as_described(restate: RestateServer, document: Any) -> None:
    """With the code and the reason; and refuses to publish, which is off."""
    one = Service(restate, PUBSUB_OBJECT_NAME="nobody")
    await one.start(register=False)
    try:
        answer = await asked(one, "GET", "/health/ready")
        assert answer[0] == 503
        check(document, "GET", "/health/ready", answer)
        answer = await asked(one, "POST", "/pubsub/t", body=b"1", content_type="application/json")
        assert answer[0] == 405
        check(document, "POST", TOPIC, answer)
    finally:
        await one.stop()
