"""What is said when Restate does not answer: all of it to an operator, but no password to anybody."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from restate_pubsub.errors import CallFailed, PubsubError, RestateRefused, Unavailable
from restate_pubsub.ingress import Ingress
from support.harness import free_port

CREDENTIALS = "somebody:hush@"


async def failure(port: int) -> PubsubError:
    async with Ingress(f"http://{CREDENTIALS}127.0.0.1:{port}", "pubsub") as ingress:
        with pytest.raises(PubsubError) as caught:
            await ingress.call("t", "publish", b"1")
        with pytest.raises(Unavailable) as health:
            await ingress.services()
    for error in (caught.value, health.value):
        assert "hush" not in str(error)
    return caught.value


async def test_no_text_holds_the_password_of_the_ingress() -> None:
    """Nobody listens there."""
    error = await failure(free_port())
    assert isinstance(error, Unavailable)
    assert "http://…@127.0.0.1" in str(error)
    assert "127.0.0.1" not in error.public


@pytest.mark.parametrize(
    ("status", "kind", "public_status"),
    [(401, RestateRefused, 502), (403, RestateRefused, 502), (502, Unavailable, 503)],
)
async def test_what_a_proxy_before_restate_says_is_for_operators(
    status: int, kind: type[PubsubError], public_status: int
) -> None:
    """A 401 of theirs is no 401 of ours: the stranger's token is not what was refused."""
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["authorization"])
        return web.Response(status=status, text="<h1>proxy-7.internal says no</h1>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        error = await failure(runner.addresses[0][1])
    finally:
        await runner.cleanup()
    assert isinstance(error, kind)
    assert "proxy-7.internal" in str(error)
    assert "proxy-7" not in error.public
    assert error.public_status == public_status
    assert not isinstance(error, CallFailed) or error.status == status
    assert all(each.startswith("Basic ") for each in seen)
