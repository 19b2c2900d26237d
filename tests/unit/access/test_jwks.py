"""Keys by URL: renewed, looked up for a new name, kept through an outage. The host is a real server on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.tokens import Verifier
from restate_pubsub.errors import KeysUnavailable, Unauthorized
from support.tokens import ec_key, jwk, token


class Host:
    """Answers with `document`, or with `status`."""

    def __init__(self) -> None:
        self.document: Any = {"keys": []}
        self.status = 200
        self.asked = 0
        self.url = ""

    async def answer(self, _request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.document, bytes):
            return web.Response(body=self.document, status=self.status)
        return web.json_response(self.document, status=self.status)


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """Return a running host."""
    host = Host()
    app = web.Application()
    app.router.add_get("/jwks", host.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    yield host
    await runner.cleanup()


async def test_keys_are_fetched_once_for_many(host: Host) -> None:
    """Readers that come at once share the fetch, and later ones the keys."""
    key = ec_key()
    host.document = {"keys": [jwk(key, "a")]}
    keys = KeySet(host.url)
    verifier = Verifier(keys)
    good = token(key, "ES256", kid="a", subscribe=["t"])
    grants = await asyncio.gather(*(verifier.verify(good) for _ in range(20)))
    assert all(grant.permits("subscribe", "t") for grant in grants)
    assert host.asked == 1


async def test_a_new_key_is_found_when_a_token_names_it(host: Host) -> None:
    """Rotation: the issuer begins to sign with a new key, and then withdraws the old."""
    old, new = ec_key(), ec_key()
    clock = Clock()
    host.document = {"keys": [jwk(old, "old")]}
    keys = KeySet(host.url, clock=clock)
    verifier = Verifier(keys)
    await verifier.verify(token(old, "ES256", kid="old"))
    host.document = {"keys": [jwk(old, "old"), jwk(new, "new")]}
    clock.now = 60
    await verifier.verify(token(new, "ES256", kid="new"))
    await verifier.verify(token(old, "ES256", kid="old"))
    assert host.asked == 2
    host.document = {"keys": [jwk(new, "new")]}
    assert await keys.fetch()
    with pytest.raises(Unauthorized, match="key is not known"):
        await verifier.verify(token(old, "ES256", kid="old"))


async def test_made_up_names_do_not_become_a_load_on_the_host(host: Host) -> None:
    """One fetch in the cooldown, however many tokens come."""
    clock = Clock()
    host.document = {"keys": [jwk(ec_key(), "a")]}
    verifier = Verifier(KeySet(host.url, clock=clock, cooldown=10))
    for at in range(50):
        clock.now = at * 0.5
        with pytest.raises(Unauthorized, match="key is not known"):
            await verifier.verify(token(ec_key(), "ES256", kid=f"made-up-{at}"))
    assert host.asked == 3


@pytest.mark.parametrize(
    ("status", "document"),
    [(500, {"keys": []}), (302, {}), (200, b"<html>"), (200, {"keys": []}), (200, b"[" * 100_000), (200, b" " * 2**21)],
)
async def test_an_outage_locks_nobody_out_whose_key_is_known(host: Host, status: int, document: Any) -> None:
    """What is not a set with usable keys replaces nothing."""
    key = ec_key()
    clock = Clock()
    host.document = {"keys": [jwk(key, "a")]}
    keys = KeySet(host.url, clock=clock)
    verifier = Verifier(keys)
    await verifier.verify(token(key, "ES256", kid="a"))
    host.status, host.document = status, document
    clock.now = 3600
    assert not await keys.fetch()
    await verifier.verify(token(key, "ES256", kid="a"))


async def test_without_any_key_yet_the_answer_is_to_try_again(host: Host) -> None:
    """503 rather than 401: the token may be good. The host is not asked for each."""
    host.status = 503
    fetched: list[bool] = []
    verifier = Verifier(KeySet(host.url, on_fetched=fetched.append))
    for _ in range(5):
        with pytest.raises(KeysUnavailable) as caught:
            await verifier.verify(token(ec_key(), "ES256", kid="a"))
        assert (caught.value.status, caught.value.code) == (503, "token-keys-unavailable")
    assert host.asked == 1
    assert fetched == [False]


async def test_the_url_s_password_is_in_no_log(host: Host) -> None:
    """Also while its host is away."""
    host.status = 503
    with capture_logs() as lines:
        assert not await KeySet(host.url.replace("://", "://reader:hush@")).fetch()
    assert "PUBSUB_JWKS_URL cannot be read" in str(lines)
    assert "hush" not in str(lines)


async def test_a_token_without_a_key_name_is_good_only_where_there_is_no_choice(host: Host) -> None:
    """With one key its name may be left out."""
    key, other = ec_key(), ec_key()
    host.document = {"keys": [jwk(key, None)]}
    await Verifier(KeySet(host.url)).verify(token(key, "ES256"))
    host.document = {"keys": [jwk(key, "a"), jwk(other, "b")]}
    with pytest.raises(Unauthorized):
        await Verifier(KeySet(host.url)).verify(token(key, "ES256"))
