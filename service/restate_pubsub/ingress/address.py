"""The ingress's URL: checked before the first call, and shown without its password."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from restate_pubsub.errors import WrongAddress
from restate_pubsub.protocol.urls import redacted_url


class Address(NamedTuple):
    """Where the ingress is: the URL that calls begin with, and the one that may be shown."""

    url: str
    shown: str


def checked(url: str, *, has_token: bool = False) -> Address:
    """Return the address that `url` names.

    Raises:
        WrongAddress: it is no URL of an ingress; the text says what is missing.

    """
    try:
        parts = urlsplit(url)
        shown = redacted_url(url)
        _ = parts.port
    except ValueError as error:
        msg = f"The ingress URL {url!r} is not a URL ({error}): write it as http://localhost:8080"
        raise WrongAddress(msg) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        hint = f"http://{shown}" if "://" not in url and shown else "http://localhost:8080"
        msg = f"The ingress URL {shown!r} must begin with http:// or https:// and name a host: write it as {hint}"
        raise WrongAddress(msg)
    if parts.query or parts.fragment:
        msg = f"The ingress URL {shown!r} has a query or a fragment: calls add their own path to it, so leave it out"
        raise WrongAddress(msg)
    if has_token and parts.username is not None:
        msg = f"The ingress URL for {shown!r} has a user name, and there is a token as well: give one of the two"
        raise WrongAddress(msg)
    return Address(url.rstrip("/"), shown.rstrip("/"))
