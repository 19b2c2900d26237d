"""CORS: exact bytes of what is added."""

from __future__ import annotations

from typing import Any

import pytest

from restate_pubsub.settings.origins import Origins
from restate_pubsub.web.middleware.cors import Cors

REFUSED: list[tuple[str, bool]] = []


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
    app = Cors(inner, path="/pubsub", origins=origins, on_refused=lambda *told: REFUSED.append(told))
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
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
        "access-control-expose-headers": "Retry-After, WWW-Authenticate, Allow, "
        "X-Vercel-AI-UI-Message-Stream, X-Workflow-Stream-Tail-Index",
    }
    assert len(parts) == 3


async def test_the_path_of_several_topics_is_one_of_them() -> None:
    """And what only begins like it is not."""
    _, headers, _ = await ask("GET", "/pubsub", origin="https://app.example.org")
    assert "access-control-allow-origin" in headers
    _, headers, _ = await ask("GET", "/pubsubs", origin="https://app.example.org")
    assert "access-control-allow-origin" not in headers


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
    assert REFUSED == [("https://evil.example", True)]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://evil.example", "host": "pubsub.example.org"}, True),
        ({"origin": "https://evil.example", "sec_fetch_site": "cross-site"}, True),
        ({"origin": "null", "sec_fetch_site": "cross-site"}, True),
        ({"origin": "https://pubsub.example.org", "host": "pubsub.example.org"}, False),
        ({"origin": "https://pubsub.example.org", "host": "10.0.0.7", "sec_fetch_site": "same-origin"}, False),
        ({"origin": "https://app.example.org"}, False),
        ({"host": "pubsub.example.org"}, False),
    ],
)
async def test_a_request_whose_answer_the_browser_withholds_is_told(headers: dict[str, str], *, told: bool) -> None:
    """`EventSource` asks without a preflight, and its page sees no reason; whoever runs the service should."""
    REFUSED.clear()
    status, _, _ = await ask("GET", **headers)
    assert status == 200
    assert REFUSED == ([(headers["origin"], False)] if told else [])


async def allowed_headers(asked: str) -> list[str]:
    origin = "https://app.example.org"
    preflight = {"access_control_request_method": "POST", "access_control_request_headers": asked}
    _, headers, _ = await ask("OPTIONS", origin=origin, **preflight)
    return headers["access-control-allow-headers"].split(", ")[5:]


async def test_a_preflight_allows_the_headers_that_were_asked_for() -> None:
    """Tracing and error reporting add theirs to every request; each once, ours not again."""
    asked = "authorization,traceparent,tracestate, baggage ,sentry-trace,x-requested-with,traceparent"
    assert await allowed_headers(asked) == ["traceparent", "tracestate", "baggage", "sentry-trace", "x-requested-with"]


async def test_what_is_no_header_s_name_is_not_allowed_and_not_answered() -> None:
    """And a list that no page has is passed over."""
    assert await allowed_headers("a b,ok,x:y,\r\nset-cookie,,\x80," + "n" * 129) == ["ok"]
    assert await allowed_headers(",".join(f"x-{at}" for at in range(100))) == [f"x-{at}" for at in range(64)]
    assert await allowed_headers("x," * 2049) == []


async def test_other_paths_are_not_for_pages() -> None:
    """Metrics and the Restate endpoint say nothing about origins."""
    _, headers, _ = await ask("GET", "/metrics", origin="https://app.example.org")
    assert headers == {"vary": "Accept"}
