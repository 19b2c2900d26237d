"""Tokens: what they permit, what is refused, where they are carried."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from restate_pubsub.access.grants import Grant, grant_of
from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.keys import key_of
from restate_pubsub.access.tokens import Guard, OneKey, Verifier, check, keys_from
from restate_pubsub.errors import ClaimMissing, ConfigError, Forbidden, PubsubError, Unauthorized
from restate_pubsub.settings.fields import load
from support.tokens import SECRET, ec_key, ed_key, public_pem, rsa_key, token


def verifier(key: str = SECRET, **options: Any) -> Verifier:
    return Verifier(OneKey(key_of(key, [])), **options)


def request(
    method: str = "GET", headers: Mapping[str, str] | None = None, query: str = "", host: str = "pubsub.example.org"
) -> Request:
    given_headers = {"host": host, **(headers or {})}
    return Request(
        {
            "type": "http",
            "method": method,
            "path": "/pubsub/t",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given_headers.items()],
        }
    )


def guard(*, query: bool = False, trusted: tuple[str, ...] = ()) -> Guard:
    return Guard(verifier(), cookie="pubsub_token", query=query, trusted_origins=trusted)


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (SECRET, "HS256"),
        (SECRET, "HS384"),
        (SECRET, "HS512"),
        (rsa_key(), "RS256"),
        (rsa_key(), "PS512"),
        (ec_key(), "ES256"),
        (ed_key(), "EdDSA"),
    ],
)
async def test_a_good_token_grants_what_it_names(key: Any, algorithm: str) -> None:
    """With every kind of key."""
    shown = key if isinstance(key, str) else public_pem(key)
    grant = await verifier(shown).verify(token(key, algorithm, subscribe=["a*"], publish=["b"]))
    assert grant.permits("subscribe", "ab")
    assert grant.permits("publish", "b")
    assert not grant.permits("publish", "ab")
    assert grant.expires is not None
    assert 55 < grant.expires - time.time() <= 60


def confused(pem: str) -> str:
    """Sign with the public key's text as an HMAC secret, as an attacker would who has only that."""
    import hashlib  # noqa: PLC0415
    import hmac  # noqa: PLC0415

    body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'pubsub': {'subscribe': ['*']}})}"
    signature = hmac.new(pem.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def test_the_text_of_a_public_key_is_no_secret() -> None:
    """The classic confusion of algorithms: an HMAC made with the public key's PEM."""
    pem = public_pem(rsa_key())
    with pytest.raises(Unauthorized, match="signature is not valid"):
        await verifier(pem).verify(confused(pem))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 7, ["HS256"], {"a": 1}, "RS256", "HS257"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_a_token_cannot_choose_how_it_is_checked(alg: Any, signature: str) -> None:
    """`none`, and whatever else the header says, is not an algorithm of this key."""
    forged = f"{part({'alg': alg})}.{part({'pubsub': {'subscribe': ['*']}})}.{signature}"
    with pytest.raises(Unauthorized):
        await verifier().verify(forged)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: token(lasts=-1), "has expired"),
        (lambda: token(nbf=time.time() + 60), "not valid yet"),
        (lambda: token(iat=time.time() + 60), "not valid yet"),
        (lambda: token(aud="other"), "not for this audience"),
        (lambda: token(aud=[]), "not for this audience"),
        (lambda: token(aud=""), "not for this audience"),
        (lambda: token(aud=None), "not for this audience"),
        (lambda: token("x" * 64), "signature is not valid"),
        (lambda: token(pubsub="*"), "claim 'pubsub' is not"),
        (lambda: token(pubsub={"subscribe": "*"}), "claim 'pubsub' is not"),
        (lambda: token(pubsub={"subscribe": [7]}), "claim 'pubsub' is not"),
        (lambda: token(control=[{"exact": 7}]), "claim 'pubsub' is not"),
        (lambda: token(publish=[{"prefix": "a"}]), "claim 'pubsub' is not"),
        (lambda: token(exp="soon"), "cannot be read"),
        (lambda: token(exp=float("inf")), "cannot be read"),
        (lambda: token(exp=float("nan")), "cannot be read"),
        ("", "not a JWT"),
        ("a.b", "not a JWT"),
        ("ä.ö.ü", "not a JWT"),
        ("." * 8192, "not a JWT"),
        ("x" * 8193, "8193 characters"),
        (part("[" * 5000) + ".e30.", "not a JWT"),
        (base64.urlsafe_b64encode(b"[" * 5100).decode().rstrip("=") + ".e30.", "not a JWT"),
        (jwt.encode({"pubsub": {}}, SECRET, headers={"crit": ["unknown"]}), "not a JWT|signature"),
    ],
)
async def test_a_bad_token_is_refused(bad: str | Callable[[], str], said: str) -> None:
    """Each with a reason that its bearer may know."""
    with pytest.raises(Unauthorized, match=said):
        await verifier().verify(bad if isinstance(bad, str) else bad())


@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=200) | st.binary(max_size=100).map(bytes.hex))
def test_no_text_is_a_token_by_chance(text: str) -> None:
    """Whatever comes is refused, and nothing else happens."""
    with pytest.raises(Unauthorized):
        verifier().verify(text).send(None)


async def test_audience_and_issuer_are_checked_where_they_are_set() -> None:
    """Both, and a token that lacks them is refused."""
    strict = verifier(audience=["here"], issuer=["us", "them"])
    await strict.verify(token(aud=["there", "here"], iss="them"))
    for bad in (token(iss="us"), token(aud="here"), token(aud="there", iss="us"), token(aud="here", iss="else")):
        with pytest.raises(Unauthorized):
            await strict.verify(bad)


async def test_the_leeway_is_for_clocks_that_are_ahead() -> None:
    """A token from an issuer whose clock is ahead is good; one that has ended is not."""
    lenient = verifier(leeway=30)
    await lenient.verify(token(nbf=time.time() + 20, iat=time.time() + 20))
    with pytest.raises(Unauthorized, match="expired"):
        await lenient.verify(token(lasts=-1))


async def test_a_token_without_an_end_grants_until_the_key_changes() -> None:
    """`exp` is the issuer's choice."""
    grant = await verifier().verify(jwt.encode({"pubsub": {"subscribe": ["a"]}}, SECRET))
    assert grant.expires is None


@pytest.mark.parametrize("claims", [{"sub": "somebody"}, {"pubsub": None}, {"Pubsub": {}}])
async def test_a_token_without_the_claim_is_told_that_it_is_missing(claims: dict[str, Any]) -> None:
    """It is a good token, for something else; that it lacks a permission would mislead."""
    with pytest.raises(ClaimMissing, match="is valid, but has no claim 'pubsub'") as caught:
        await verifier().verify(jwt.encode(claims, SECRET))
    assert (caught.value.status, caught.value.code, caught.value.setting) == (403, "claim-missing", "PUBSUB_JWT_CLAIM")


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("permits", {"permits": {"subscribe": ["a"]}}),
        ("https://example.com/pubsub", {"https://example.com/pubsub": {"subscribe": ["a"]}}),
        ("realm_access.pubsub", {"realm_access": {"pubsub": {"subscribe": ["a"]}}}),
        ("realm_access.pubsub", {"realm_access.pubsub": {"subscribe": ["a"]}, "realm_access": {"pubsub": {}}}),
    ],
)
async def test_the_claim_has_the_name_that_the_issuer_can_give_it(name: str, claims: dict[str, Any]) -> None:
    """A URL, as some issuers insist on, or a claim inside another."""
    grant = await verifier(claim=name).verify(jwt.encode(claims, SECRET))
    assert grant.permits("subscribe", "a")
    with pytest.raises(ClaimMissing):
        await verifier(claim=name).verify(token(subscribe=["a"], realm_access=["pubsub"]))


async def test_the_header_wins_over_the_query_and_the_query_over_the_cookie() -> None:
    """One request, one token."""
    head, query, cookie = (token(subscribe=[name]) for name in ("head", "query", "cookie"))
    with_all = {"authorization": f"bearer {head}", "cookie": f"a=b; pubsub_token={cookie}"}
    both = guard(query=True)
    assert (await both.verify(request(headers=with_all, query=f"access_token={query}"))).permits("subscribe", "head")
    del with_all["authorization"]
    assert (await both.verify(request(headers=with_all, query=f"access_token={query}"))).permits("subscribe", "query")
    assert (await guard().verify(request(headers=with_all, query=f"access_token={query}"))).permits(
        "subscribe", "cookie"
    )


async def test_a_query_counts_only_if_switched_on_and_is_taken_out() -> None:
    """What comes later, such as a log, cannot see it."""
    asked = request(query=f"offset=3&access_token={token(subscribe=['a'])}&x=%C3%A4")
    with pytest.raises(Unauthorized, match="needed"):
        await guard().verify(asked)
    await guard(query=True).verify(asked)
    assert asked.scope["query_string"].decode() == "offset=3&x=%C3%A4"
    assert asked.query_params["x"] == "ä"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "permitted"),
    [
        ({}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://other.example.org"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "null"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://pubsub.example.org.evil.example"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "https://pubsub.example.org"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://pubsub.example.org"}, True),
        ({"origin": "http://pubsub.example.org"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://app.example.org"}, True),
    ],
)
async def test_a_cookie_alone_never_writes_for_another_site(
    method: str, headers: dict[str, str], *, permitted: bool
) -> None:
    """Browsers add cookies to what other sites' pages send; such a page cannot forge Origin or Sec-Fetch-Site."""
    carried = headers | {"cookie": f"pubsub_token={token(publish=['*'])}"}
    asked = request(method, carried)
    careful = guard(trusted=("https://app.example.org",))
    if permitted:
        await careful.verify(asked)
    else:
        with pytest.raises(Forbidden, match="cookie alone"):
            await careful.verify(asked)
    # A header is no cookie: no other site's page has the token to put there.
    await careful.verify(request(method, headers | {"authorization": f"Bearer {token()}"}))


def test_a_refusal_is_the_same_for_every_topic() -> None:
    """Nothing looks whether there is such a topic."""
    with pytest.raises(Forbidden) as caught:
        check(grant_of({"subscribe": ["a"]}), "subscribe", "b")
    assert str(caught.value) == "The token does not permit to subscribe to this topic: 'b'"


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://[", "pubsub.example.org"),
        ("http://[::1", "pubsub.example.org"),
        ("http://]", "["),
        ("//", "pubsub.example.org"),
        ("http://pubsub.example.org:x", "pubsub.example.org"),
        ("\x80\xff", "\x80\xff"),
        ("http://", ""),
        ("http://a@pubsub.example.org", "pubsub.example.org"),
        ("ftp://pubsub.example.org", "pubsub.example.org"),
        ("http://pubsub.example.org/", "pubsub.example.org"),
        ("http://\u2100.example".encode().decode("latin-1"), "pubsub.example.org"),
    ],
)
async def test_a_malformed_origin_is_another_site(origin: str, host: str) -> None:
    """It is refused like any other, and nothing breaks."""
    carried = {"cookie": f"pubsub_token={token(publish=['*'])}", "origin": origin}
    with pytest.raises(Forbidden, match="cookie alone"):
        await guard().verify(request("POST", carried, host=host))


@given(
    st.text(alphabet=st.characters(codec="latin-1"), max_size=60).map("http://".__add__)
    | st.text(alphabet="[]:/@.a0%", max_size=20).map("https://".__add__)
)
def test_no_origin_breaks_the_guard(origin: str) -> None:
    """Whatever is in it."""
    carried = {"cookie": "pubsub_token=x", "origin": origin}
    with pytest.raises(PubsubError):
        guard().verify(request("POST", carried)).send(None)


async def test_what_is_refused_is_told_to_who_logs() -> None:
    """With the setting that decides, where one does; a missing token, and one for something else, too."""
    seen: list[PubsubError] = []
    careful = Guard(verifier(audience=["here"]), cookie="c", query=False, on_refused=seen.append)
    for headers in ({"authorization": f"Bearer {token(aud='there')}"}, {"cookie": f"c={token()}"}, {}):
        with pytest.raises(PubsubError):
            await careful.verify(request("POST" if "cookie" in headers else "GET", headers))
    with pytest.raises(Forbidden):
        careful.check(Grant({}), "subscribe", "t")
    settings = ["PUBSUB_JWT_AUDIENCE", "PUBSUB_CORS_ORIGINS", None, None]
    assert settings == [getattr(error, "setting", None) for error in seen]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PUBSUB_JWT_KEY": SECRET, "PUBSUB_JWKS_URL": "https://id.example.org/jwks"}, "are both set"),
        ({"PUBSUB_JWKS_URL": "https://id.example.org/jwks", "PUBSUB_JWT_ALGORITHMS": "HS256"}, "needs a shared secret"),
        ({"PUBSUB_JWKS_URL": "https://id.example.org/jwks", "PUBSUB_JWT_ALGORITHMS": "none"}, "'none' is not one of"),
        ({"PUBSUB_JWT_KEY": SECRET, "PUBSUB_JWT_ALGORITHMS": "HS256,RS256"}, "RS256 is not for a shared secret"),
        ({"PUBSUB_JWT_ALGORITHMS": "HS256"}, "PUBSUB_JWT_ALGORITHMS: set, but no key"),
        (
            {"PUBSUB_JWT_AUDIENCE": "a", "PUBSUB_JWT_ISSUER": "b"},
            "PUBSUB_JWT_AUDIENCE, PUBSUB_JWT_ISSUER: set, but no key, so everybody could read",
        ),
        ({"PUBSUB_JWT_CLAIM": "a"}, "PUBSUB_JWT_CLAIM: set, but no key"),
        ({"PUBSUB_JWT_COOKIE": "a"}, "PUBSUB_JWT_COOKIE: set, but no key"),
        ({"PUBSUB_JWT_QUERY": "true"}, "PUBSUB_JWT_QUERY: set, but no key"),
        ({"PUBSUB_JWT_LEEWAY": "1s"}, "PUBSUB_JWT_LEEWAY: set, but no key"),
        ({"PUBSUB_JWT_KEY": "short"}, "5 bytes"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(env: dict[str, str], said: str) -> None:
    """At the start, and without the key in the text."""
    with pytest.raises(ConfigError, match=said) as caught:
        keys_from(load(env))
    assert SECRET not in str(caught.value)


def test_the_settings_say_where_keys_come_from() -> None:
    """No key, no guard."""
    assert keys_from(load({})) is None
    assert keys_from(load({"PUBSUB_JWT_LEEWAY": "5s"})) is None  # its default: as good as not set
    assert isinstance(keys_from(load({"PUBSUB_JWT_KEY": SECRET})), OneKey)
    assert isinstance(keys_from(load({"PUBSUB_JWKS_URL": "https://id.example.org/jwks"})), KeySet)
