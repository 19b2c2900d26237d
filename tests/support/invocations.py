"""Invocations as a Restate server sends them: frames of its protocol, and the signature of their requests."""

from __future__ import annotations

import struct
import time

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PRIVATE_KEY = "MC4CAQAwBQYDK2VwBCIEIPe++4ZTPQDF81otpoU/mOGHC2vOAVp9WbiCblvn3nXO"
PRIVATE_PEM = f"-----BEGIN PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END PRIVATE KEY-----\n"
"""The key of a Restate server that signs."""
PUBLIC_KEY = "publickeyv1_AfQwmwfgEZhrWpvv8N52SHpRtZqGGaFr4AZN6qtYWSiY"
"""What PUBSUB_RESTATE_IDENTITY_KEYS says of it."""


def varint(field: int, value: bytes) -> bytes:
    """Return a field of a message."""
    return bytes([field << 3 | 2, len(value)]) + value


def frame(kind: int, payload: bytes, length: int | None = None) -> bytes:
    """Return a message with its head, which may lie about its length."""
    return struct.pack(">HHI", kind, 0, len(payload) if length is None else length) + payload


def start(key: bytes, entries: int = 1) -> bytes:
    """Return the start of an invocation of an object; so many entries of its journal follow, and the input is one."""
    return frame(0x0000, varint(1, b"x" * 16) + varint(2, b"inv_1") + bytes([3 << 3, entries]) + varint(6, key))


def given(body: bytes) -> bytes:
    """Return the entry that has the handler's input."""
    return frame(0x0400, varint(14, varint(1, body)))


def signed(path: str) -> dict[str, str]:
    """Return the headers by which a Restate server signs a request to `path` below the endpoint."""
    now = int(time.time())
    claims = {"aud": path, "nbf": now - 60, "iat": now, "exp": now + 60}
    key = load_pem_private_key(PRIVATE_PEM.encode(), None)
    text = jwt.encode(claims, key, "EdDSA", headers={"kid": PUBLIC_KEY})  # type: ignore[arg-type]
    return {"x-restate-signature-scheme": "v1", "x-restate-jwt-v1": text}
