"""Keys that verify tokens, each with the algorithms that its kind allows. No I/O.

The algorithms follow from the key, never from a token: a shared secret verifies HS* and nothing else, a public key
never HS*. So a token cannot choose to be checked with the public key as if it were a secret, and `none`
is no algorithm of any key (RFC 8725, sections 2.1 and 3.1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from restate_pubsub.access.key_text import is_pem, mistaken_for_secret
from restate_pubsub.errors import ConfigError

SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The least length of a shared secret: as long as the hash (RFC 7518, section 3.2)."""
RSA_BITS = 2048
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES = {SECP256R1.name: "ES256", SECP384R1.name: "ES384", SECP521R1.name: "ES512"}
ALGORITHMS = (*SECRET_BYTES, *RSA_ALGORITHMS, *CURVES.values(), "EdDSA")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, what it may verify, and the name that tokens call it by."""

    key: PublicKey | bytes
    algorithms: tuple[str, ...]
    kid: str | None = None


def key_of(text: str, wanted: Sequence[str]) -> VerifyingKey:
    """Read PUBSUB_JWT_KEY: a public key in PEM, or else a shared secret. `wanted` narrows the algorithms, if given.

    Raises:
        ConfigError: a private key, a key that is too weak, an algorithm that this kind of key does not have, or what
            looks like something else than a shared secret (`key_text`).

    """
    if not is_pem(text):
        if looks_like := mistaken_for_secret(text):
            msg = f"PUBSUB_JWT_KEY=…: {looks_like}"
            raise ConfigError(msg)
        return _secret(text.encode(), wanted)
    if "PRIVATE KEY" in text:
        msg = (
            "PUBSUB_JWT_KEY=…: is a private key; readers only verify: give the public half "
            "(`openssl pkey -pubout -in FILE`)"
        )
        raise ConfigError(msg)
    if "CERTIFICATE" in text:
        msg = "PUBSUB_JWT_KEY=…: is a certificate: give its public key (`openssl x509 -noout -pubkey -in FILE`)"
        raise ConfigError(msg)
    try:
        # An environment variable often carries its line feeds escaped.
        key = load_pem_public_key(text.replace("\\n", "\n").encode())
        kind, possible = kind_of(key)
    except (ValueError, UnsupportedAlgorithm) as error:
        msg = f"PUBSUB_JWT_KEY=…: not a public key that can be used: {str(error) or 'not PEM'}"
        raise ConfigError(msg) from None
    return VerifyingKey(key, narrowed(kind, possible, wanted), None)  # type: ignore[arg-type]  # kind_of has checked it


def _secret(secret: bytes, wanted: Sequence[str]) -> VerifyingKey:
    allowed = narrowed("a shared secret", tuple(SECRET_BYTES), wanted)
    fitting = tuple(name for name in allowed if len(secret) >= SECRET_BYTES[name])
    # Without a wish, the secret gets what it is long enough for; a wish is refused rather than passed over.
    if not fitting or (wanted and fitting != allowed):
        short = next(name for name in allowed if name not in fitting)
        msg = (
            f"PUBSUB_JWT_KEY=…: the shared secret has {len(secret)} bytes, {short} needs {SECRET_BYTES[short]}: "
            "make one with `openssl rand -base64 48`"
        )
        raise ConfigError(msg)
    return VerifyingKey(secret, fitting)


def narrowed(kind: str, possible: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return those of the possible algorithms that are wanted, all if none is. Raises ConfigError for any other."""
    for name in wanted:
        if name not in possible:
            msg = f"PUBSUB_JWT_ALGORITHMS={','.join(wanted)}: {name} is not for {kind}; it allows {', '.join(possible)}"
            raise ConfigError(msg)
    return tuple(wanted) or tuple(possible)


def kind_of(key: object) -> tuple[str, tuple[str, ...]]:
    """Name the kind of a public key, and what it may verify. Raises ValueError if it is none of ours, or weak."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < RSA_BITS:
            msg = f"the RSA key has {key.key_size} bits; at least {RSA_BITS} are needed"
            raise ValueError(msg)
        return "an RSA key", RSA_ALGORITHMS
    if isinstance(key, EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            msg = f"the curve {key.curve.name} is not one of P-256, P-384, P-521"
            raise ValueError(msg)
        return f"a {key.curve.name} key", (CURVES[key.curve.name],)
    if isinstance(key, (Ed25519PublicKey, Ed448PublicKey)):
        return "an Edwards curve key", ("EdDSA",)
    msg = f"{type(key).__name__} cannot verify tokens"
    raise ValueError(msg)


_READERS: dict[str, Callable[[str], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}


def keys_of_set(document: object, wanted: Collection[str]) -> list[VerifyingKey]:
    """Return the usable keys of a JWKS document (RFC 7517): public, for signatures, strong, of a known kind.

    Others are passed over: a set often holds keys for other uses, and new kinds must not break the old.

    Raises:
        ValueError: it is not a JWKS document.

    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        msg = 'not a JWKS document: {"keys": […]}'
        raise ValueError(msg)  # noqa: TRY004 - what is wrong is the text that was fetched
    found = (_key_of_jwk(entry, wanted) for entry in entries if isinstance(entry, dict))
    return [key for key in found if key is not None]


def _key_of_jwk(entry: Mapping[str, Any], wanted: Collection[str]) -> VerifyingKey | None:
    kind, kid, alg = entry.get("kty"), entry.get("kid"), entry.get("alg")
    operations = entry.get("key_ops", ["verify"])
    # A symmetric key ("oct") or a private one ("d") has no place in a public document.
    if not isinstance(kind, str) or kind not in _READERS or "d" in entry or not (kid is None or isinstance(kid, str)):
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = _READERS[kind](json.dumps(entry))
        _, possible = kind_of(key)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    allowed = tuple(name for name in possible if alg in (None, name) and (not wanted or name in wanted))
    return VerifyingKey(key, allowed, kid) if allowed else None
