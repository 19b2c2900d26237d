"""Origins of web pages and apps, exact or as patterns: `https://app.example.org`, `https://*.example.org`, `*`.

Apps have schemes of their own: `capacitor://localhost`, `tauri://localhost`, `chrome-extension://…`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_WEB = re.compile(rf"https?://(?:\*\.)?(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?:\d{{1,5}}|\*))?")
_APP = re.compile(r"[a-z][a-z0-9+.-]*://(?:\*|[A-Za-z0-9._~-]+)(?::\d{1,5})?")
_NO_ORIGINS = ("http", "https", "ws", "wss", "ftp", "file", "data", "blob", "about", "javascript")
"""Schemes that the second form is not for: those of the web have the first, and a page of the others is `null`."""


def check_origins(origins: Sequence[str]) -> None:
    """Refuse what can never be an origin. Raises ValueError with what is allowed."""
    for origin in origins:
        if origin != "*" and not _is_origin(_plain(origin)):
            msg = (
                f"{origin!r} is not an origin: use scheme and host without a path, such as https://app.example.org, "
                "https://*.example.org, http://localhost:*, capacitor://localhost, moz-extension://*, or *"
            )
            raise ValueError(msg)


def _is_origin(origin: str) -> bool:
    if origin.partition(":")[0] in _NO_ORIGINS:
        return _WEB.fullmatch(origin) is not None
    return _APP.fullmatch(origin) is not None


class Origins:
    """Says whether an origin is allowed, and whether by its exact name."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """`allowed` has passed `check_origins`."""
        names = [_plain(origin) for origin in allowed]
        self.exact = tuple(name for name in names if "*" not in name)
        self._patterns = [re.compile(_expression(name)) for name in names if "*" in name]

    def __bool__(self) -> bool:
        """Whether any origin is allowed."""
        return bool(self.exact or self._patterns)

    def names(self, origin: str) -> bool:
        """Whether the origin is listed as it is; only such a one may send cookies."""
        return origin in self.exact

    def allow(self, origin: str) -> bool:
        """Whether the origin is listed, or fits a pattern."""
        return self.names(origin) or any(pattern.fullmatch(origin) for pattern in self._patterns)


def _plain(origin: str) -> str:
    """Write an origin as browsers send it: small letters, no default port. The host of an app keeps its letters."""
    scheme, mark, host = origin.partition("://")
    scheme = scheme.lower()
    if scheme not in ("http", "https"):
        return scheme + mark + host
    return scheme + mark + host.lower().removesuffix(":443" if scheme == "https" else ":80")


def _expression(pattern: str) -> str:
    if pattern == "*":
        return r"(?s:.*)"
    # A star before the host stands for one label or more, as in a Content-Security-Policy; never for a dot's side.
    expression = re.escape(pattern).replace(r"://\*\.", rf"://(?:{_LABEL}\.)+")
    # For an app it is the whole host: some browsers give an extension another one on each machine.
    expression = expression.replace(r"://\*", "://[A-Za-z0-9._~-]+")
    return expression.replace(r":\*", r"(?::\d{1,5})?")
