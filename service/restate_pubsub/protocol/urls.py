"""URLs as they may be shown: a user's name and password in them are nobody's business."""

from __future__ import annotations

import re

_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s\"'<>]+@")


def redacted(text: str) -> str:
    """Return a text in which every URL has lost its user and password: `http://…@host:8080`."""
    return _CREDENTIALS.sub("…@", text) if "://" in text else text


def redacted_url(url: str) -> str:
    """Return one URL without user and password, even if they hold what should have been escaped."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}…@{rest.rpartition('@')[2]}" if mark and "@" in rest else url
