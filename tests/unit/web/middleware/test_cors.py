"""CORS: exact bytes of what is added."""

from __future__ import annotations

from typing import Any

import pytest

from restate_pubsub.settings.origins import Origins
from restate_pubsub.web.middleware.cors import Cors

REFUSED: list[str] = []


async def inner(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"Accept")]})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await send({"type": "http.response.body", "body": b"last"})


async def ask(method: str, path: str = "/pubsub/t", **headers: str) -> tuple[int, dict[str, str], list[str]]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    origins = Origins(["https://app.example.org", "https://*.example.net"])
    app = Cors(inner, path="/pubsub", origins=origins, on_refused=REFUSED.append)
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": raw}, None, send)  # type: ignore[arg-type]
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, [message["type"] for message in sent]


async def test_a_listed_origin_may_read_with_cookies() -> None:
    """Named exactly; and the parts of the response are handed on one by one."""
    status, headers, parts = await ask("GET", origin="https://app.example.org")
    assert status == 200
    assert headers == {
        "vary": "Accept, Origin",
        "access-control-allow-origin": "https://app.example.org",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "Retry-After, WWW-Authenticate, Allow",
    }
    assert len(parts) == 3


async def test_a_pattern_gives_no_credentials() -> None:
    """Whoever gets hold of a subdomain does not get its visitors' cookies."""
    for method, more in (("GET", {}), ("OPTIONS", {"access_control_request_method": "POST"})):
        _, headers, _ = await ask(method, origin="https://a.example.net", **more)
        assert headers["access-control-allow-origin"] == "https://a.example.net"
        assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize("headers", [{}, {"origin": "https://evil.example"}, {"origin": "null"}])
async def test_others_get_nothing_but_vary(headers: dict[str, str]) -> None:
    """A cache must know that the answer depends on the origin."""
    _, found, _ = await ask("GET", **headers)
    assert found == {"vary": "Accept, Origin"}


async def test_a_preflight_says_what_is_possible() -> None:
    """Without asking anything behind."""
    status, headers, _ = await ask(
        "OPTIONS",
        origin="https://app.example.org",
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )
    assert status == 204
    assert headers["access-control-allow-methods"] == "GET, HEAD, POST, PUT, DELETE"
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} <= set(
        headers["access-control-allow-headers"].split(", ")
    )


async def test_a_preflight_of_another_origin_is_refused_and_counted() -> None:
    """By a problem document that a developer can read."""
    REFUSED.clear()
    status, headers, _ = await ask("OPTIONS", origin="https://evil.example", access_control_request_method="GET")
    assert status == 403
    assert "access-control-allow-origin" not in headers
    assert REFUSED == ["origin-not-allowed"]


async def test_other_paths_are_not_for_pages() -> None:
    """Metrics and the Restate endpoint say nothing about origins."""
    _, headers, _ = await ask("GET", "/metrics", origin="https://app.example.org")
    assert headers == {"vary": "Accept"}
