"""Which addresses peers may have. A subscription names one, and whoever reaches the ingress can subscribe."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit


class AllowedPeers:
    """Hosts that may be called: names, addresses and networks. A name stands for the addresses that it has, too."""

    def __init__(self, entries: Sequence[str]) -> None:
        """`entries` are names, addresses, or networks as `10.0.0.0/8`; without one, nobody is called."""
        self._networks = [network for network in map(_network, entries) if network is not None]
        self._names = [entry.lower() for entry in entries if _network(entry) is None]

    def __bool__(self) -> bool:
        """Whether anybody may be called."""
        return bool(self._networks or self._names)

    async def allows(self, url: str) -> bool:
        """Whether a peer may be called at `url`, which must have a host and nothing after the port."""
        host = _host(url)
        if host is None:
            return False
        if host in self._names:
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False  # a name that was not allowed could be made to stand for any address
        if any(address in network for network in self._networks):
            return True
        found = await asyncio.gather(*map(_addresses, self._names))
        return any(address in addresses for addresses in found)


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if host is None or port is None or parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return None
    shown = f"[{host}]" if ":" in host else host
    return host if url.lower() == f"{parts.scheme}://{shown}:{port}" else None


async def _addresses(name: str) -> set[object]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ip_address(str(address[0]).partition("%")[0]) for *_, address in found}
