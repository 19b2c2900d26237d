"""The types of settings: how each is written in the environment, and what is said of a value that is not."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from restate_pubsub.settings.kinds import Kind, write_list
from restate_pubsub.settings.origins import check_origins
from restate_pubsub.settings.units import format_duration, format_size, parse_duration, parse_size


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        msg = "not a URL: use http://host:port or https://host"
        if "@" in text:
            msg += "; in a user's name and password write / ? # @ : as %2F %3F %23 %40 %3A"
        raise ValueError(msg)
    return text.rstrip("/")


def _advertised(text: str) -> str:
    scheme, _, place = text.rstrip("/").partition("://")
    host, _, port = place.rpartition(":")
    if ":" in host and not host.startswith("["):  # Kubernetes gives a pod's IPv6 address without brackets
        host = f"[{host}]"
    try:
        parts = urlsplit(f"{scheme}://{host}:{port}")
        good = parts.scheme in ("http", "https") and parts.port and parts.netloc == f"{host}:{port}" and parts.hostname
    except ValueError:
        good = False
    if not good or re.search(r"[\s@]", place):
        msg = "not an address of this replica: use http://host:port, with the port that other replicas reach"
        raise ValueError(msg)
    return f"{scheme}://{host}:{port}"


def _path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        msg = "not a path: use something like /pubsub (letters, digits and . _ ~ - between slashes)"
        raise ValueError(msg)
    return text


def _bind(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]*):(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        msg = "not an address: use host:port, such as 0.0.0.0:9080 or [::]:9080"
        raise ValueError(msg)
    return text


def _binds(value: object) -> object:
    binds = _listed(value)
    for bind in binds if isinstance(binds, (list, tuple)) else ():
        _bind(str(bind))
    return binds


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _object_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", text):
        msg = "not an object name: begin with a letter, then letters, digits and . _ -"
        raise ValueError(msg)
    return text


def _identity_keys(value: object) -> object:
    keys = _listed(value)
    for key in keys if isinstance(keys, tuple) else ():
        if not re.fullmatch(r"publickeyv1_[1-9A-HJ-NP-Za-km-z]+", key):
            msg = "not an identity key: each begins with publickeyv1_ and goes on in base58"
            raise ValueError(msg)
    return keys


def _origins(value: object) -> object:
    origins = _listed(value)
    if isinstance(origins, tuple):
        check_origins(origins)
    return origins


def _cookie(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        msg = "not a cookie's name: use letters, digits and _ . -"
        raise ValueError(msg)
    return text


def _bearer(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", text):
        msg = "not a bearer token: has white space around it, or what is not ASCII; remove it"
        raise ValueError(msg)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        msg = "not a bearer token: is in quotes; remove them"
        raise ValueError(msg)
    return secret


def _claim(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", text) or ("" in text.split(".") and "://" not in text):
        msg = "not a claim's name: use a name, a URL, or names joined by dots, such as realm_access.pubsub"
        raise ValueError(msg)
    return text


def _unit(parse: Any) -> Any:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


DURATION = Kind("duration", pattern=r"^(\d+(\.\d+)?\s*(ms|s|m|h|d)|0)$", number="zero", write=format_duration)
SIZE = Kind("size", pattern=r"^\d+(\.\d+)?\s*([kKmMgG][iI]?)?[bB]?$", number="number", write=format_size)
URL = Kind("URL", pattern="^https?://")
PATH = Kind("path", pattern=r"^(/[A-Za-z0-9._~-]+)+$")
NAME = Kind("name")
ADDRESS = Kind("address")
LIST = Kind("list", write=write_list)

Seconds = Annotated[float, DURATION, _unit(parse_duration)]
Size = Annotated[int, SIZE, _unit(parse_size)]
Url = Annotated[str, URL, AfterValidator(_url)]
Advertised = Annotated[str, URL, AfterValidator(_advertised)]
Path = Annotated[str, PATH, AfterValidator(_path)]
ObjectName = Annotated[str, NAME, AfterValidator(_object_name)]
Claim = Annotated[str, NAME, AfterValidator(_claim)]
BearerToken = Annotated[SecretStr, AfterValidator(_bearer)]
Cookie = Annotated[str, NAME, AfterValidator(_cookie)]
Strings = Annotated[tuple[str, ...], LIST, BeforeValidator(_listed)]
IdentityKeys = Annotated[tuple[str, ...], LIST, BeforeValidator(_identity_keys)]
Bind = Annotated[str, ADDRESS, AfterValidator(_bind)]
Binds = Annotated[tuple[str, ...], LIST, BeforeValidator(_binds)]
Origins = Annotated[tuple[str, ...], LIST, BeforeValidator(_origins)]
