"""What the text of PUBSUB_JWT_KEY looks like, if not like a shared secret. No I/O.

Whatever is no key in PEM would be a shared secret. So a public key in any other form would become one: everybody knows
it, and could sign tokens with it. And what is written a little differently than the issuer has it verifies nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

_PEM_MARK = re.compile(r"-{2,}\s*(?:BEGIN|END)\b")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){16,}")
# The beginnings of DER, whole or torn: SPKI, PKCS#8 and certificates have a SEQUENCE inside the first, with an object
# identifier or a version in it; PKCS#1 and SEC 1 have an INTEGER: the modulus, which is long, or a version.
_LENGTH = rb"(?:[\x02-\x7f]|\x81.|\x82..|\x83...)"
_DER = re.compile(
    rb"(?s:\x30" + _LENGTH + rb"(?:"
    rb"(?:\x02\x01[\x00\x01])?\x30" + _LENGTH + rb"(?:\x06[\x03-\x0a]|\xa0\x03\x02\x01)"
    rb"|\x02(?:\x81[\x80-\xff]|\x82[\x01-\x08].)"
    rb"|\x02\x01\x00\x02(?:\x81[\x80-\xff]|\x82[\x01-\x08].)"
    rb"|\x02\x01\x01\x04[\x1c-\x42]))"
)
_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w .@-]+)+[/\\]?")
_FILE = re.compile(r"[\w .@/\\-]+\.(?:pem|pub|key|crt|cer|der|jwks?|json|txt)", re.IGNORECASE)

PUBLIC_PEM = "give it in PEM, with its lines -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"


def is_pem(text: str) -> bool:
    """Whether a text is meant as PEM, damaged or not."""
    return _PEM_MARK.search(text) is not None


def mistaken_for_secret(text: str) -> str | None:
    """Return what a text that is not PEM looks like, and the way out; None if it may be a shared secret."""
    return next((sentence for looks_like, sentence in _MISTAKES if looks_like(text)), None) or _encoded_key(text)


def _is_path(text: str) -> bool:
    if _FILE.fullmatch(text):
        return True
    # A secret in base64 may begin with a slash as well, but has both cases and no other marks.
    return _PATH.fullmatch(text) is not None and (text == text.lower() or re.search(r"[ ._@\\-]", text) is not None)


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`"


_MISTAKES: tuple[tuple[Callable[[str], object], str], ...] = (
    (
        re.compile(r"(?s:\s.*|.*(?:\s|\\[nrt]))").fullmatch,
        "has white space or a line end around it, which would be a part of the shared secret: remove it",
    ),
    (_is_quoted, "is in quotes, which would be a part of the shared secret: remove them"),
    (
        re.compile(r"\{\s*\"").match,
        f"looks like a JWK or a JWKS: {PUBLIC_PEM}, or set PUBSUB_JWKS_URL to where the set is served",
    ),
    (
        re.compile(r"\$\w+|\$?\{\{?.*\}?\}|\$\(.*\)|<[^<>]*>").fullmatch,
        "looks like a variable or a placeholder that nothing has filled in: put the key itself there",
    ),
    (
        re.compile("publickeyv1_").match,
        "is a request identity key of Restate, which verifies no tokens: set PUBSUB_RESTATE_IDENTITY_KEYS to it",
    ),
    (
        re.compile("ssh-|ecdsa-sha2-").match,
        f"is a public key in OpenSSH's form: {PUBLIC_PEM} (`ssh-keygen -e -m PKCS8 -f FILE`)",
    ),
    (
        re.compile("[A-Za-z][A-Za-z0-9+.-]*://").match,
        "looks like a URL: for keys that are fetched set PUBSUB_JWKS_URL, for a file PUBSUB_JWT_KEY_FILE",
    ),
    (_is_path, "looks like a path: set PUBSUB_JWT_KEY_FILE to it"),
)


def _encoded_key(text: str) -> str | None:
    """Whether it is a key, or a torn one, in base64 or hexadecimal digits."""
    joined = re.sub(r"\s|\\n|\\r", "", text)
    decoded = b""
    if _HEX.fullmatch(joined):
        decoded = bytes.fromhex(joined)
    if not _DER.match(decoded) and _BASE64.fullmatch(joined):
        letters = joined.rstrip("=").replace("-", "+").replace("_", "/")
        letters = letters[: len(letters) - (len(letters) % 4 == 1)]
        try:
            decoded = base64.b64decode(letters + "=" * (-len(letters) % 4))
        except (binascii.Error, ValueError):
            return None
    if _DER.match(decoded):
        return f"is a key without its PEM lines (DER): {PUBLIC_PEM}"
    if _PEM_MARK.search(decoded[:200].decode("latin-1")):
        return f"is PEM that was encoded in base64 once more: {PUBLIC_PEM} (`base64 -d`)"
    return None
