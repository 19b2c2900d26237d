"""Who a request counts against: the client's address, seen through the proxies that are trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

from starlette.datastructures import Headers

IPV6_PREFIX = 64
"""One customer has at least this much of IPv6 for itself, so a single address means nothing."""

_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")


def client_of(scope: Mapping[str, Any], trusted_proxies: int) -> str:
    """Return the name under which a request is counted.

    With `trusted_proxies` n, each of which appends to X-Forwarded-For who called it, the client is the n-th entry
    from the right: what stands left of it was written by the client itself, and may be anything.
    """
    peer = scope.get("client")
    address = str(peer[0]) if peer else ""
    if trusted_proxies and (entries := forwarded(scope)):
        named = _grouped(entries[-min(trusted_proxies, len(entries))])
        if named is not None:
            return named
    return _grouped(address) or address


def forwarded(scope: Mapping[str, Any]) -> list[str]:
    """Return the entries of X-Forwarded-For, the outermost proxy's first."""
    fields = Headers(raw=scope["headers"]).getlist("x-forwarded-for")
    return [entry.strip() for field in fields for entry in field.split(",") if entry.strip()]


def _grouped(text: str) -> str | None:
    if (match := _WITH_PORT.fullmatch(text)) is not None:
        text = match[1] or match[2]
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, IPV6_PREFIX), strict=False))
