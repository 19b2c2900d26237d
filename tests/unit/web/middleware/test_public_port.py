"""Which address serves what, and what is said to be open."""

from __future__ import annotations

from typing import Any

import pytest

from restate_pubsub.settings.fields import load
from restate_pubsub.web.errors import Refused
from restate_pubsub.web.middleware.public_port import PublicPort, left_open, public_ports

KEY = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"


async def inner(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def ask(app: Any, path: str, port: int = 9080, kind: str = "http", headers: dict[str, str] | None = None) -> Any:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": kind, "method": "GET", "path": path, "headers": raw, "server": ("127.0.0.1", port)}
    try:
        await app(scope, None, send)
    except Refused as error:
        return error.status
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    ("ports", "expected"),
    [([9080], set()), ([9080, 9080], set()), ([9080, 9081], {9080}), ([9080, 9080, 9081], {9080}), ([], set())],
)
def test_the_first_port_is_public_if_there_is_another(ports: list[int], expected: set[int]) -> None:
    """The same port on two addresses (IPv4 and IPv6) is one."""
    assert expected == public_ports(ports)


@pytest.mark.parametrize(
    ("path", "at_metrics"),
    [
        ("/metrics", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/metrics/", 404),
        ("/pubsub/t", 404),
        ("/restate/discover", 404),
        ("/restate/invoke/pubsub/publish", 404),
        ("/console", 404),
        ("/client/restate-pubsub.js", 404),
        ("/", 404),
    ],
)
async def test_at_the_metrics_port_there_is_less(path: str, at_metrics: int) -> None:
    """Whoever scrapes neither reads nor invokes."""
    app = PublicPort(inner, public_ports={9080}, sse_path="/pubsub", metrics_port=9090)
    assert at_metrics == await ask(app, path, 9090)
    assert await ask(app, path, 9081) == 200


async def test_without_a_metrics_port_none_is_one() -> None:
    """Also behind a server that does not say at which port a request came in."""
    app = PublicPort(inner, public_ports=(), sse_path="/pubsub")
    assert await ask(app, "/restate/discover", 9080) == 200
    assert await ask(app, "/restate/discover", None) == 200  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "at_public"),
    [
        ("/pubsub/t", 200),
        ("/pubsub/t/u", 200),
        ("/client/restate-pubsub.js", 200),
        ("/client/", 404),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/pubsub", 200),
        ("/pubsubs/t", 404),
        ("/metrics", 404),
        ("/restate/discover", 404),
        ("/console", 404),
        ("/health/ready/", 404),
        ("/", 404),
    ],
)
async def test_at_the_public_port_there_is_little(path: str, at_public: int) -> None:
    """And at the other one everything."""
    app = PublicPort(inner, public_ports={9080}, sse_path="/pubsub")
    assert at_public == await ask(app, path)
    assert await ask(app, path, port=9081) == 200
    assert await ask(app, path, kind="websocket") == "websocket.close"


@pytest.mark.parametrize(
    ("env", "streams", "restate"),
    [
        ({}, True, True),
        ({"PUBSUB_JWT_KEY": "my-token" * 4}, False, True),
        ({"PUBSUB_JWKS_URL": "https://id.example.org/jwks"}, False, True),
        ({"PUBSUB_RESTATE_IDENTITY_KEYS": KEY}, True, False),
        ({"PUBSUB_BIND": "0.0.0.0:9080,127.0.0.1:9081"}, True, False),
        ({"PUBSUB_BIND": "0.0.0.0:9080,[::]:9080"}, True, True),
        ({"PUBSUB_JWT_KEY": "my-token" * 4, "PUBSUB_RESTATE_IDENTITY_KEYS": KEY}, False, False),
    ],
)
def test_what_is_open_is_named(env: dict[str, str], *, streams: bool, restate: bool) -> None:
    """Each with the setting that closes it; nothing where all is locked."""
    text = "; ".join(left_open(load(env)))
    assert (streams, restate) == ("PUBSUB_JWT_KEY" in text, "PUBSUB_RESTATE_IDENTITY_KEYS" in text)
