"""Which proxy a call goes through: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, as other programs read them.

`NO_PROXY` is a list of host names with commas between them: `restate` and `.svc.cluster.local` also stand for all names
that end so, `host:8080` for one port, `*` for everything. An IP address is compared as text; ranges (`10.0.0.0/8`) are
not understood. This machine itself (`localhost`, `127.0.0.1`, `::1`) is never reached through a proxy.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from restate_pubsub.errors import ConfigError
from restate_pubsub.protocol.urls import redacted_url


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for calls to `url`, None for none.

    Raises:
        ConfigError: the proxy is not one that speaks HTTP.

    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or _is_this_machine(host) or urllib.request.proxy_bypass(_with_port(host, parts.port)):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        msg = (
            f"{parts.scheme.upper()}_PROXY={redacted_url(proxy)}: only proxies that speak HTTP work here "
            f"(http://host:port); to reach {host} without one, name it in NO_PROXY"
        )
        raise ConfigError(msg)
    return proxy


def _with_port(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
