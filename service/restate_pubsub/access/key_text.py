"""What the text of PUBSUB_JWT_KEY looks like, if not like a shared secret. No I/O.

Whatever is no key in PEM would be a shared secret. So a public key in any other form would become one: everybody knows
it, and could sign tokens with it. And what is written a little differently than the issuer has it verifies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from restate_pubsub.access.key_forms import PEM_MARK, PUBLIC_PEM, key_form

_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w .@-]+)+[/\\]?")
_FILE = re.compile(r"[\w .@/\\-]+\.(?:pem|pub|key|crt|cer|der|jwks?|json|txt)", re.IGNORECASE)

LEAST_BYTES = 32
"""What is shorter is refused for that."""
LEAST_CHARACTERS = 8
"""A secret has at least so many different ones; any that is random has more."""


def is_pem(text: str) -> bool:
    """Whether a text is meant as PEM, damaged or not."""
    return PEM_MARK.search(text) is not None


def mistaken_for_secret(text: str) -> str | None:
    """Return what a text that is not PEM looks like, and the way out; None if it may be a shared secret."""
    return next((sentence for looks_like, sentence in _MISTAKES if looks_like(text)), None) or key_form(text)


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
        re.compile("[A-Za-z][A-Za-z0-9+.-]*://").match,
        "looks like a URL: for keys that are fetched set PUBSUB_JWKS_URL, for a file PUBSUB_JWT_KEY_FILE",
    ),
    (
        lambda text: len(text) >= LEAST_BYTES and len(set(text)) < LEAST_CHARACTERS,
        f"has fewer than {LEAST_CHARACTERS} different characters: make one with `openssl rand -base64 48`",
    ),
    (_is_path, "looks like a path: set PUBSUB_JWT_KEY_FILE to it"),
)
