"""What Restate says of a deployment that it cannot call, as sentences: its raw texts are for experts."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_CODES = re.compile(r"^(\[[A-Z]+\d+\]\s*)+")
_CALLED = re.compile(r"error when calling '([^']+)'")
_STATUS = re.compile(r"(?:got status code '|unexpected http status code: )(\d{3})")
_REFUSED, _NO_NAME = "connection refused", "its name cannot be resolved"
LONGEST = 300


class Failure(NamedTuple):
    """Why Restate could not call a deployment. `url` is where it tried, if it says so."""

    kind: Literal["signature", "unreachable", "answer", "other"]
    url: str | None
    text: str


def why_not_called(message: str) -> Failure:
    """Read what Restate says of a deployment that it could not discover or invoke."""
    text = _CODES.sub("", message).strip()
    found = _CALLED.search(text)
    url = found[1].rstrip("/") if found else None
    if status := _STATUS.search(text):
        kind: Literal["signature", "answer"] = "signature" if status[1] == "401" else "answer"
        return Failure(kind, url, f"it answers {status[1]}")
    if "Connection refused" in text:
        return Failure("unreachable", url, _REFUSED)
    if "lookup address" in text or "does not resolve" in text:
        return Failure("unreachable", url, _NO_NAME)
    if url is not None or "timed out" in text or "deadline" in text:
        rest = text.rpartition(": ")[2] if url is not None else text
        return Failure("unreachable", url, rest[:LONGEST])
    return Failure("other", None, text[:LONGEST] or "it does not say why")
