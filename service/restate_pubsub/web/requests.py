"""What a request says: its topic, where it wants to begin, its flags. Anything else is refused by name and rule."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from restate_pubsub.client.token_stream import check_linger
from restate_pubsub.errors import InvalidRequest, InvalidTopic
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.names import MAX_OFFSET, check_topic

OFFSET = re.compile(r"-?[0-9]{1,16}")
SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
JSON = "application/json"


def kind_of(request: Request) -> str:
    """Return the media type of the request's body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def topic_of(request: Request, mount: str, limits: Limits) -> str:
    """Return the topic that the path names, `/` and all; percent-escapes are UTF-8.

    Raises:
        InvalidTopic: empty, too long, or not UTF-8.

    """
    # The server has decoded `path` leniently: broken UTF-8 would name another topic. The raw path tells. It is
    # decoded as a whole before the mount is cut off: the mount's own letters may be escaped as well.
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    name = unquote_to_bytes(raw)[len(request.scope.get("root_path", "").encode()) + len(mount) + 1 :]
    return topic_named(name, limits)


def topic_named(name: bytes, limits: Limits) -> str:
    """Return the topic of that name, whose percent-escapes are decoded already.

    Raises:
        InvalidTopic: empty, too long, or not UTF-8.

    """
    try:
        topic = name.decode()
    except UnicodeDecodeError:
        msg = f"The topic {name[:80]!r} is not UTF-8 once its percent-escapes are decoded"
        raise InvalidTopic(msg) from None
    check_topic(topic, limits)
    return topic


def start_of(request: Request) -> Start:
    """Return where the reader wants to begin: `Last-Event-ID` wins over `lastEventId`, and that over `offset`.

    Raises:
        InvalidRequest: not an offset, or one that no topic can have.

    """
    resumed = resumed_from(request)
    return start_at(request.query_params.get("offset")) if resumed is None else place_of(*resumed)


def resumed_from(request: Request) -> tuple[str, str] | None:
    """Return the id of the last event that the reader has, after the name under which it came; None without one."""
    for name, value in (
        ("Last-Event-ID", request.headers.get("last-event-id")),
        ("lastEventId", request.query_params.get("lastEventId")),
    ):
        if value:
            return name, value
    return None


def place_of(name: str, text: str) -> Start:
    """Return where a reader goes on that has read before; `name` is what says so.

    Raises:
        InvalidRequest: not an offset, or one that no topic can have.

    """
    offset = _number(name, text)
    if offset < 0:
        msg = f"{name} {text!r} is negative: send the id of the last event"
        raise InvalidRequest(msg)
    return Start("offset", offset, resumes=True)


def start_at(text: str | None) -> Start:
    """Return where a reader begins by its `offset`.

    Raises:
        InvalidRequest: not an offset, or one that no topic can have.

    """
    if not text:
        return Start()
    if text == "latest":
        return Start("latest")
    offset = _number("offset", text)
    if offset < 0:
        return Start("last", -offset)
    return Start("offset", offset, resumes=offset > 0)


def _number(name: str, text: str) -> int:
    if OFFSET.fullmatch(text) and abs(int(text)) <= MAX_OFFSET:
        return int(text)
    msg = f"{name} {text[:80]!r} is not an offset: use a number of at most {MAX_OFFSET}"
    if name == "offset":
        msg += ", `latest`, or -K for the last K messages"
    raise InvalidRequest(msg)


def flag_of(request: Request, name: str, *, default: bool = False) -> bool:
    """Return a query parameter that is true or false; `default` where it is missing."""
    text = request.query_params.get(name, "true" if default else "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        msg = f"{name} {text[:80]!r} is neither true nor false"
        raise InvalidRequest(msg)
    return text in ("true", "1")


def linger_of(request: Request) -> float:
    """Return the seconds that must lie between two calls of a body that is published as it comes; 0 by default.

    Raises:
        InvalidRequest: not a number of seconds, or too many.

    """
    text = request.query_params.get("linger") or "0"
    if not SECONDS.fullmatch(text):
        msg = f"linger {text[:80]!r} is not a number of seconds, such as 0.1"
        raise InvalidRequest(msg)
    return check_linger(float(text))


def index_at(name: str, text: str | None) -> int | None:
    """Return what a parameter counts from the beginning, or, if negative, from the end; None if missing.

    Raises:
        InvalidRequest: not a number.

    """
    return _number(name, text) if text else None


def choice_of(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """Return a query parameter that is one of some words; the first where it is missing or empty."""
    text = request.query_params.get(name) or choices[0]
    if text not in choices:
        msg = f"{name} {text[:80]!r} is neither {' nor '.join(choices)}"
        raise InvalidRequest(msg)
    return text
