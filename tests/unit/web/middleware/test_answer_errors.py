"""Errors become answers: one each, counted, and in the log only if they are a fault of ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from restate_pubsub.errors import OffsetGone, TooMany
from restate_pubsub.web.errors import Errors, WithMembers, not_found
from restate_pubsub.web.middleware.answer_errors import AnswerErrors
from restate_pubsub.web.middleware.body_timeout import BodyTimeout
from restate_pubsub.web.requests import flag_of


async def fail(request: Request) -> Response:
    match request.query_params.get("how"):
        case "bug":
            msg = "secret"
            raise ValueError(msg)
        case "gone":
            raise WithMembers(OffsetGone(1, 2), head=2)
        case "limit":
            msg = "slowly"
            raise TooMany(msg, code="too-many-publishes", retry_after=1.5)
        case "flag":
            flag_of(request, "how")
    return Response("fine")


class Answer:
    """What an application has sent."""

    def __init__(self, sent: list[Any]) -> None:
        self.status = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.text = b"".join(message["body"] for message in sent[1:]).decode()
        self.json = json.loads(self.text)


async def ask(method: str, target: str) -> tuple[Answer, list[str]]:
    """Ask a small application; return its answer, and the codes that were counted."""
    codes: list[str] = []
    errors = Errors(codes.append)
    app = Starlette(
        routes=[Route("/fail", fail)],
        middleware=[Middleware(AnswerErrors, errors=errors)],
        exception_handlers=errors.handlers(),
    )
    path, _, query = target.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)
    return Answer(sent), codes


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/fail?how=bug", 500, "internal"),
        ("GET", "/fail?how=gone", 410, "offset-gone"),
        ("GET", "/fail?how=limit", 429, "too-many-publishes"),
        ("GET", "/fail?how=flag", 400, "invalid-request"),
        ("GET", "/nothing", 404, "not-found"),
        ("POST", "/fail", 405, "method-not-allowed"),
    ],
)
async def test_every_error_is_one_document_and_counted(method: str, target: str, status: int, code: str) -> None:
    """Ours, the router's, and what nobody has thought of, which is logged once and tells nothing."""
    with structlog.testing.capture_logs() as logged:
        answer, codes = await ask(method, target)
    assert (status, code, [code]) == (answer.status, answer.json["code"], codes)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert (1 if status == 500 else 0) == len(logged)


async def test_an_answer_keeps_what_its_error_says_beside_its_text() -> None:
    """Members, and headers."""
    assert 2 == (await ask("GET", "/fail?how=gone"))[0].json["head"]
    assert "2" == (await ask("GET", "/fail?how=limit"))[0].headers["retry-after"]
    allow = (await ask("POST", "/fail"))[0].headers["allow"]
    assert ["GET", "HEAD"] == sorted(allow.split(", "))


async def outcome(app: Any, receive: Any = None) -> tuple[list[Any], list[str], list[Any]]:
    """Run an application behind the layer; return what it sent, what was counted and logged."""
    sent: list[Any] = []
    codes: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/pubsub/t", "headers": []}
    with structlog.testing.capture_logs() as logged:
        await AnswerErrors(app, errors=Errors(codes.append))(scope, receive, send)
    return sent, codes, [entry["log_level"] for entry in logged]


async def test_a_failure_in_an_answer_breaks_it_off_and_is_logged_once() -> None:
    """There is nobody left to tell but the log."""

    async def parts() -> Any:
        yield b"first"
        msg = "a bug"
        raise ValueError(msg)

    response = StreamingResponse(parts())

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await response.stream_response(send)

    sent, codes, levels = await outcome(app)
    assert (["internal"], ["error"]) == (codes, levels)
    assert [True] == [message["more_body"] for message in sent[1:]]


async def test_a_client_that_goes_in_its_own_request_is_no_error() -> None:
    """One line for debugging."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ClientDisconnect

    assert ([], [], ["debug"]) == await outcome(app)


async def test_a_refusal_of_a_layer_is_answered() -> None:
    """The public port's, say."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise not_found("/metrics")  # noqa: EM101 - it is a path

    sent, codes, levels = await outcome(app)
    assert (404, ["not-found"], []) == (sent[0]["status"], codes, levels)


@pytest.mark.parametrize(("method", "path"), [("POST", "/pubsub/t"), ("PUT", "/pubsub/t"), ("DELETE", "/pubsub/t")])
async def test_a_body_that_stands_still_is_answered(method: str, path: str) -> None:
    """However much came before."""
    parts = [{"type": "http.request", "body": b"1", "more_body": True}]

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def read(scope: Any, receive: Any, _send: Any) -> None:
        scope |= {"method": method, "path": path}
        await Request(scope, receive).body()

    sent, codes, _ = await outcome(BodyTimeout(read, seconds=0.05, restate_path="/restate"), receive)
    assert (408, ["request-timeout"]) == (sent[0]["status"], codes)
    assert b"0.05 s" in sent[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "seconds"),
    [("GET", "/pubsub/t", 0.05), ("POST", "/restate/invoke/a/b", 0.05), ("POST", "/pubsub/t", 0.0)],
)
async def test_whoever_only_listens_may_wait(method: str, path: str, seconds: float) -> None:
    """A stream listens for its client to go, and an invocation stays open."""

    async def receive() -> Any:
        await asyncio.sleep(0.2)
        return {"type": "http.disconnect"}

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(await receive())

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    layer = BodyTimeout(app, seconds=seconds, restate_path="/restate")
    await layer({"type": "http", "method": method, "path": path}, receive, send)
    assert ["http.disconnect"] == [message["type"] for message in sent]
