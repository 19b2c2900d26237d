"""Make access tokens, on the server that knows who may do what: for a reader, a writer, or who stops and answers.

Needs PyJWT with `cryptography` (`pip install "pyjwt[crypto]"`), and nothing else of the service.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from restate_pubsub.access.grants import CLAIM
from restate_pubsub.access.key_text import is_pem
from restate_pubsub.access.keys import key_of, kind_of, narrowed
from restate_pubsub.errors import ConfigError, InvalidRequest

LASTS_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Prefix:
    """All topics whose names begin with `text`: `Prefix("chat/")`; `Prefix("")` is every topic."""

    text: str


Topics = Iterable[str | Prefix]


def mint_token(
    key: str,
    *,
    subscribe: Topics = (),
    publish: Topics = (),
    control: Topics = (),
    lasts: float = LASTS_SECONDS,
    audience: str | None = None,
    issuer: str | None = None,
    subject: str | None = None,
    kid: str | None = None,
    algorithm: str | None = None,
    claim: str = CLAIM,
) -> str:
    """Return a token that permits to read, write, or control topics for `lasts` seconds.

    A string is one topic, whatever is in it; for all topics that begin alike give a `Prefix`. So a name that a user
    chose cannot open more: `subscribe=[f"room/{user}"]` is one room, also for a user named `*`.

    `key` is the shared secret of PUBSUB_JWT_KEY, or a private key in PEM whose public half the service knows. `kid`
    names it where the service has a JWKS. `algorithm` is the first that the key's kind allows (HS256, RS256, …).
    `claim` is PUBSUB_JWT_CLAIM; a dotted name is one claim here.

    Raises:
        ConfigError: a key that the service would not take.
        InvalidRequest: nothing is permitted, or for no time.

    """
    permits = {"subscribe": _patterns(subscribe), "publish": _patterns(publish), "control": _patterns(control)}
    permits = {action: patterns for action, patterns in permits.items() if patterns}
    if not permits:
        msg = "The token would permit nothing: name topics in subscribe, publish or control"
        raise InvalidRequest(msg)
    if not lasts > 0:
        msg = f"lasts={lasts}: use a number of seconds above 0"
        raise InvalidRequest(msg)
    named = {"aud": audience, "iss": issuer, "sub": subject}
    claims: dict[str, Any] = {"exp": time.time() + lasts, claim: permits}
    claims |= {name: value for name, value in named.items() if value is not None}
    signing, chosen = _signing(key, [algorithm] if algorithm else [])
    return jwt.encode(claims, signing, chosen, headers={"kid": kid} if kid is not None else None)


def _patterns(topics: Topics) -> list[object]:
    if isinstance(topics, str):
        msg = f"{topics!r}: is text, give a list of topics"
        raise InvalidRequest(msg)
    return [_pattern(topic) for topic in topics]


def _pattern(topic: str | Prefix) -> object:
    if isinstance(topic, Prefix):
        return topic.text + "*"
    return {"exact": topic} if topic.endswith("*") else topic


def _signing(key: str, wanted: Sequence[str]) -> tuple[Any, str]:
    """Return what signs, and the first algorithm of its kind unless another is wanted."""
    if not is_pem(key):
        return key, key_of(key, wanted).algorithms[0]
    try:
        private = load_pem_private_key(key.encode(), None)
        kind, possible = kind_of(private.public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        msg = f"The key cannot sign: give a private key in PEM without a password, or a shared secret ({error})"
        raise ConfigError(msg) from None
    return private, narrowed(kind, possible, wanted)[0]
