"""The short way of invocations, and the long way of what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from restate_pubsub.errors import PubsubError
from restate_pubsub.web.errors import Errors, Refused
from restate_pubsub.web.middleware.answer_errors import AnswerErrors
from restate_pubsub.web.middleware.for_restate import BODY_ENDED
from restate_pubsub.web.middleware.invocations import AfterInvocations, InvocationsFirst
from restate_pubsub.web.middleware.public_port import PublicPort
from restate_pubsub.web.middleware.unread_body import DrainUnreadBody

PUBLIC, INTERNAL = 8000, 9000


class Endpoint:
    """Answers, or fails; it notes whether another layer was in between."""

    def __init__(self, error: Exception | None = None, *, ends: bool = False) -> None:
        self.error = error
        self.ends = ends
        self.calls: list[Scope] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.calls.append(scope)
        if self.error is not None:
            if self.ends:
                scope[BODY_ENDED] = True
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def ask(endpoint: Endpoint, path: str, port: int = INTERNAL) -> tuple[int, bytes, list[str]]:
    """Return the status, the body, and the codes of what was refused."""
    refused: list[str] = []
    stack = Starlette(
        routes=[Mount("/restate", AfterInvocations(endpoint))],
        middleware=[
            Middleware(DrainUnreadBody, restate_path="/restate"),
            Middleware(AnswerErrors, errors=Errors(refused.append)),
            Middleware(PublicPort, public_ports={PUBLIC}, sse_path="/pubsub"),
        ],
    )
    app = InvocationsFirst(stack, endpoint, restate_path="/restate", closed_ports={PUBLIC})
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"rest", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "server": ("", port)}
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent), refused


async def test_an_invocation_passes_the_other_layers() -> None:
    """They would have put what they need into its scope."""
    endpoint = Endpoint()
    assert (200, b"done", []) == await ask(endpoint, "/restate/invoke/pubsub/publish")
    assert ["app" in scope for scope in endpoint.calls] == [False]
    assert (200, b"done", []) == await ask(endpoint, "/restate/discover")
    assert ["app" in scope for scope in endpoint.calls] == [False, True]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused(401, "unsigned", "no"), 401, "unsigned"),
        (Refused(400, "invalid-request", "no"), 400, "invalid-request"),
        (ValueError("a fault"), 500, PubsubError.code),
    ],
)
async def test_what_fails_is_tried_once_and_answered_by_the_layers(
    error: Exception, status: int, code: str, *, ends: bool
) -> None:
    """As every other request's failure: one answer, counted once; nobody waits for a body that was read."""
    endpoint = Endpoint(error, ends=ends)
    found, body, refused = await ask(endpoint, "/restate/invoke/pubsub/publish")
    assert (status, 1) == (found, len(endpoint.calls))
    assert code.encode() in body
    assert [code] == refused


async def test_nobody_invokes_at_the_public_port() -> None:
    """Nothing is there."""
    endpoint = Endpoint()
    status, _, refused = await ask(endpoint, "/restate/invoke/pubsub/publish", PUBLIC)
    assert (404, ["not-found"], []) == (status, refused, endpoint.calls)
