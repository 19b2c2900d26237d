"""Tokens that we make are tokens that we take, and permit what was said."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from restate_pubsub.access.grants import ACTIONS
from restate_pubsub.access.keys import key_of
from restate_pubsub.access.mint import Prefix, mint_token
from restate_pubsub.access.tokens import OneKey, Verifier
from restate_pubsub.errors import ConfigError, InvalidRequest
from support.tokens import SECRET, ec_key, ed_key, public_pem, rsa_key


def private_pem(key: Any) -> str:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()


def verifier(key: str = SECRET, **options: Any) -> Verifier:
    return Verifier(OneKey(key_of(key, [])), **options)


@pytest.mark.parametrize(
    "key", [rsa_key(), ec_key(), ec_key(ec.SECP521R1()), ed_key(), SECRET[:32], SECRET[:48], SECRET]
)
async def test_every_key_that_the_service_takes_can_sign(key: Any) -> None:
    """A shared secret, or the private half of a public key."""
    signing, verifying = (key, key) if isinstance(key, str) else (private_pem(key), public_pem(key))
    made = mint_token(signing, subscribe=["a"], publish=[Prefix("b/")], control=["c"], lasts=60)
    grant = await verifier(verifying).verify(made)
    assert grant.permits("subscribe", "a")
    assert grant.permits("publish", "b/c")
    assert grant.permits("control", "c")
    assert [grant.permits(action, "d") for action in ACTIONS] == [False] * 3
    assert grant.expires is not None
    assert 55 < grant.expires - time.time() <= 60


@pytest.mark.parametrize("user", ["*", "a*", "a", ""])
async def test_a_string_is_one_topic_whatever_is_in_it(user: str) -> None:
    """A user named `*` gets one room."""
    grant = await verifier().verify(mint_token(SECRET, subscribe=[f"room/{user}"]))
    assert grant.permits("subscribe", f"room/{user}")
    assert not grant.permits("subscribe", f"room/{user}b")
    assert not grant.permits("subscribe", "room/all")


async def test_what_the_settings_ask_for_can_be_put_in() -> None:
    """Audience, issuer, the claim's name."""
    strict = verifier(audience=["here"], issuer=["us"], claim="https://example.com/pubsub")
    made = mint_token(
        SECRET, subscribe=["a"], audience="here", issuer="us", subject="somebody", claim="https://example.com/pubsub"
    )
    assert (await strict.verify(made)).permits("subscribe", "a")
    narrow = Verifier(OneKey(key_of(SECRET, ["HS512"])))
    assert (await narrow.verify(mint_token(SECRET, subscribe=["a"], algorithm="HS512"))).permits("subscribe", "a")


@pytest.mark.parametrize(
    ("key", "options", "kind"),
    [
        (SECRET, {}, InvalidRequest),
        (SECRET, {"subscribe": "room/1"}, InvalidRequest),
        (SECRET, {"subscribe": ["a"], "lasts": 0}, InvalidRequest),
        (SECRET, {"subscribe": ["a"], "lasts": float("nan")}, InvalidRequest),
        (SECRET, {"subscribe": ["a"], "algorithm": "RS256"}, ConfigError),
        ("short", {"subscribe": ["a"]}, ConfigError),
        (public_pem(ec_key()), {"subscribe": ["a"]}, ConfigError),
        (private_pem(ec_key(ec.SECP256K1())), {"subscribe": ["a"]}, ConfigError),
    ],
)
def test_what_cannot_be_meant_is_refused(key: str, options: dict[str, Any], kind: type[Exception]) -> None:
    """Before anybody gets a token that opens nothing, or the wrong thing."""
    with pytest.raises(kind) as caught:
        mint_token(key, **options)
    assert key not in str(caught.value)


def test_making_tokens_loads_no_server() -> None:
    """A web application that makes them has its own."""
    program = (
        "import sys; import restate_pubsub.access.mint; "
        "print([name for name in ('starlette', 'structlog', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
