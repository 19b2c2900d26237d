"""Keys and tokens for tests."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "a-shared-secret-of-at-least-64-bytes-so-that-all-three-HS-algorithms-may-use-it"


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a new RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return a new elliptic curve key, P-256 unless told."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def ed_key() -> ed25519.Ed25519PrivateKey:
    """Return a new Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:
    """Return the public half in PEM."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """Return the public half as an entry of a JWKS document."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        text = jwt.algorithms.RSAAlgorithm.to_jwk(public)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        text = jwt.algorithms.ECAlgorithm.to_jwk(public)
    else:
        text = jwt.algorithms.OKPAlgorithm.to_jwk(public)
    entry: dict[str, Any] = json.loads(text) | more
    return entry if kid is None else entry | {"kid": kid}


def token(
    key: Any = SECRET,
    algorithm: str = "HS256",
    *,
    subscribe: Sequence[Any] = (),
    publish: Sequence[Any] = (),
    control: Sequence[Any] = (),
    lasts: float = 60.0,
    kid: str | None = None,
    **claims: Any,
) -> str:
    """Return a token that is good for `lasts` seconds."""
    payload = {
        "exp": time.time() + lasts,
        "pubsub": {"subscribe": list(subscribe), "publish": list(publish), "control": list(control)},
        **claims,
    }
    return jwt.encode(payload, key, algorithm, headers={"kid": kid} if kid else None)
