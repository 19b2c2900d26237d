"""Proxies: which calls go through one, by what the environment says, and that they do."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from restate_pubsub import Unavailable, create_pubsub_client
from restate_pubsub.access.jwks import KeySet
from restate_pubsub.client.pubsub_client import RetryPolicy
from restate_pubsub.commands.registration import Registrar
from restate_pubsub.errors import ConfigError
from restate_pubsub.proxies import proxy_for
from support.harness import free_port
from support.odd_servers import JSON, CompanyProxy, odd

HASTY = RetryPolicy(first=0.01, longest=0.01, seconds=0.02)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget those of this machine."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("http://restate:8080", "", "http://plain:3128"),
        ("https://restate", "", "http://tls:3128"),
        ("http://localhost:8080", "", None),
        ("http://me.localhost", "", None),
        ("http://127.0.0.1:8080", "", None),
        ("http://127.1.2.3", "", None),
        ("http://[::1]:8080", "", None),
        ("http://10.0.0.7", "", "http://plain:3128"),
        ("http://10.0.0.7", "10.0.0.7", None),
        ("http://10.0.0.7", "10.0.0.0/8", "http://plain:3128"),
        ("http://restate:8080", "other,restate", None),
        ("http://restate:8080", "restate:8080", None),
        ("http://restate:8080", "restate:9070", "http://plain:3128"),
        ("http://restate.ns.svc.cluster.local", ".svc.cluster.local", None),
        ("http://restate.ns.svc.cluster.local", "svc.cluster.local", None),
        ("http://restate", "*", None),
    ],
)
def test_the_environment_says_which_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, proxy: str | None
) -> None:
    """One for each scheme; none for this machine, nor for what NO_PROXY names."""
    monkeypatch.setenv("HTTP_PROXY", "http://plain:3128")
    monkeypatch.setenv("HTTPS_PROXY", "tls:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy == proxy_for(url)


def test_a_proxy_that_does_not_speak_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client is made, with the variable, and without the password."""
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@proxy:1080")
    with pytest.raises(ConfigError, match=r"HTTP_PROXY=socks5://…@proxy:1080: only proxies that speak HTTP") as caught:
        create_pubsub_client("http://restate:8080")
    assert "secret" not in caught.value.message


async def test_all_that_calls_out_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client (and with it the service's own calls), a registration, the fetch of public keys."""
    async with odd(lambda _request: (200, JSON, b'{"offset":3}')) as server, CompanyProxy(_port(server.url)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with create_pubsub_client("http://restate.example:8080") as client:
            assert 3 == await client.publish("t", 1)
        with pytest.raises(KeyError):  # this server's answers are no admin API's: that they come is enough
            await Registrar("http://admin.example:9070").register("http://pubsub:9080", "pubsub", force=True, wait=0)
        await KeySet("http://keys.example/jwks").fetch()
        assert [
            "POST http://restate.example:8080/pubsub/t/publish",
            "GET http://admin.example:9070/services/pubsub",
            "GET http://keys.example/jwks",
        ] == [line for line in proxy.asked if "/deployments" not in line]


async def test_a_call_with_tls_tunnels_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By CONNECT: the proxy sees the host's name, and nothing of the call."""
    async with CompanyProxy(free_port()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with create_pubsub_client("https://restate.example", retry=HASTY) as client:
            with pytest.raises(Unavailable):
                await client.publish("t", 1)
        assert {"CONNECT restate.example:443"} == set(proxy.asked)


async def test_a_proxy_that_wants_a_password_gets_it_and_says_so_where_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From its URL; the error names the variables."""
    async with (
        odd(lambda _request: (200, JSON, b'{"offset":3}')) as server,
        CompanyProxy(_port(server.url), password="right") as proxy,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//user:right@"))
        async with create_pubsub_client("http://restate.example") as client:
            assert 3 == await client.publish("t", 1)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:wrong@"))
        async with create_pubsub_client("https://restate.example", retry=HASTY) as client:
            with pytest.raises(Unavailable, match="the proxy answered 407: see HTTP_PROXY") as caught:
                await client.publish("t", 1)
        assert "wrong" not in caught.value.message


async def test_a_proxy_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As what it is, not as Restate."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with create_pubsub_client("http://restate.example", retry=HASTY) as client:
        with pytest.raises(Unavailable, match=r"the proxy does not answer \(nothing listens there\): see HTTP_PROXY"):
            await client.publish("t", 1)


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
