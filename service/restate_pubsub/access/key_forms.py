"""Forms in which a key may be written: DER, OpenSSH, JWK, XML, a point; however often encoded in text. No I/O.

Nothing here has to load the key: what begins as one, or has a mark that only keys have, is one, whole or torn. A mark
has so many bits that random bytes never have it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePublicKey

PUBLIC_PEM = "give it in PEM, with its lines -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY-----"
LAYERS = 5
"""So many times one within the other: PEM is base64, and tools wrap it in base64 or hexadecimal digits again."""

PEM_MARK = re.compile(r"-{2,}\s*(?:BEGIN|END)\b")
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
_KIND_OF_KEY = re.compile(  # the object identifiers of RSA, of elliptic curves, and of Ed25519 and Ed448
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01.|\x06\x07\x2a\x86\x48\xce\x3d\x02\x01|\x06\x03\x2b\x65[\x70\x71]",
    re.DOTALL,
)
_SSH = re.compile(rb"\x00\x00\x00[\x07-\x30](?:ssh-|ecdsa-sha2-|sk-)")
_SSH_LINE = re.compile(r"(?<![\w-])(?:ssh-|ecdsa-sha2-|sk-)[\w@.-]+\s+AAAA")
_JWK = re.compile(
    r"""(?<![A-Za-z0-9])\\*["']?kty\\*["']?\s*(?::|=\s*\\*["'])"""  # also as YAML, and as Python writes it
    r"""|\\*["'](?:crv|n|e|x|y|keys)\\*["']\s*:\s*\\*["'\[]"""
)
_XML = re.compile(r"<\?xml\b|<(?:\w+:)?(?:\w*KeyValue|Modulus|X509\w+)\b")
_LISTING = re.compile(r"\b(?:Public-Key:|Modulus=)")
_CURVES = {65: SECP256R1(), 97: SECP384R1(), 133: SECP521R1()}

_WHITE = re.compile(r"\s|\\[nrt]")
_BETWEEN_DIGITS = re.compile(r"0[xX]|\\x|\\[nrt]|[\s:,;.%_-]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){16,}")


def key_form(text: str) -> str | None:
    """Return what form of a key a text is or holds, and the way out; None if it may be a shared secret."""
    seen: set[bytes] = set()
    layer = [text.encode()]
    for _ in range(LAYERS):
        for data in layer:
            if form := _form(data):
                return form
        seen.update(layer)
        layer = list({inner for data in layer for inner in _decoded(_as_text(data))} - seen)
    return None


def _as_text(data: bytes) -> str:
    """Return bytes as text: each byte a letter; UTF-16 of these is the same text."""
    return data.replace(b"\0", b"").decode("latin-1")


def _form(data: bytes) -> str | None:
    text = _as_text(data)
    return next((sentence for is_form, sentence in _FORMS if is_form(data, text)), None)


def _is_der(data: bytes) -> bool:
    if _DER.match(data) or _KIND_OF_KEY.search(data):
        return True
    # Any other SEQUENCE that is as long as it says; short ones say so little that a random secret may do so as well.
    size = {0x81: 1, 0x82: 2, 0x83: 3}.get(data[1], 0) if data[:1] == b"\x30" and len(data) > 1 else 0
    return size > 0 and int.from_bytes(data[2 : 2 + size]) == len(data) - 2 - size


def _is_point(data: bytes) -> bool:
    curve = _CURVES.get(len(data)) if data[:1] == b"\x04" else None
    if curve is None:
        return False
    try:
        EllipticCurvePublicKey.from_encoded_point(curve, data)
    except ValueError:
        return False  # a random number: hardly one is on the curve
    return True


_FORMS: tuple[tuple[Callable[[bytes, str], object], str], ...] = (
    (lambda data, _: _is_der(data), f"is a key without its PEM lines (DER): {PUBLIC_PEM}"),
    (
        lambda _, text: PEM_MARK.search(text),
        f"is PEM that was encoded once more: {PUBLIC_PEM} (`base64 -d`, `xxd -r -p`)",
    ),
    (
        lambda data, text: _SSH.match(data) or _SSH_LINE.search(text),
        f"is a public key in OpenSSH's form: {PUBLIC_PEM} (`ssh-keygen -e -m PKCS8 -f FILE`)",
    ),
    (
        lambda _, text: _JWK.search(text) or _JWK.search(unquote(text)),
        f"looks like a JWK or a JWKS: {PUBLIC_PEM}, or set PUBSUB_JWKS_URL to where the set is served",
    ),
    (lambda _, text: _XML.search(text), f"looks like a key in XML: {PUBLIC_PEM}"),
    (
        lambda _, text: _LISTING.search(text),
        f"looks like what openssl lists of a key: {PUBLIC_PEM} (`openssl pkey -pubin -in FILE`)",
    ),
    (
        lambda data, _: _is_point(data),
        f"is a point of an elliptic curve, which is a public key without its PEM lines: {PUBLIC_PEM}",
    ),
)


def _decoded(text: str) -> Iterator[bytes]:
    """Yield what the runs of digits in a text say: prefixes, hosts, options, quotes and separators end a run."""
    for form in {text, _BETWEEN_DIGITS.sub("", text)}:
        for run in _HEX.findall(form):
            yield bytes.fromhex(run)
    for form in {text, _WHITE.sub("", text)}:
        for run in _BASE64.findall(form):
            letters = run.rstrip("=").replace("-", "+").replace("_", "/")
            letters = letters[: len(letters) - (len(letters) % 4 == 1)]
            try:
                yield base64.b64decode(letters + "=" * (-len(letters) % 4))
            except (binascii.Error, ValueError):
                continue
