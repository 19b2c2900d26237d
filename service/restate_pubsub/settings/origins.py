"""Origins of web pages, exact or as patterns: `https://app.example.org`, `https://*.example.org`, `*`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ORIGIN = re.compile(rf"https?://(?:\*\.)?(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?:\d{{1,5}}|\*))?")


def check_origins(origins: Sequence[str]) -> None:
    """Refuse what can never be an origin. Raises ValueError with what is allowed."""
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin.lower()):
            msg = (
                f"{origin!r} is not an origin: use scheme and host without a path, such as https://app.example.org, "
                "https://*.example.org, http://localhost:*, or *"
            )
            raise ValueError(msg)


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
    """Write an origin as browsers send it: small letters, no default port."""
    origin = origin.lower()
    default = {"https": ":443", "http": ":80"}.get(origin.partition(":")[0], "")
    return origin.removesuffix(default) if default else origin


def _expression(pattern: str) -> str:
    if pattern == "*":
        return r"(?s:.*)"
    # A star before the host stands for one label or more, as in a Content-Security-Policy; never for a dot's side.
    expression = re.escape(pattern).replace(r"://\*\.", rf"://(?:{_LABEL}\.)+")
    return expression.replace(r":\*", r"(?::\d{1,5})?")
