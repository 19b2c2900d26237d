"""What a request for several topics says: which, and where each begins. Anything else is refused by name and rule."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.web.requests import place_of, resumed_from, start_at, topic_named

MOST = 100
"""Topics of one stream: a page's list of chats, within the 16 KB that a request's head may have."""


def topics_of(request: Request, limits: Limits) -> list[str]:
    """Return the topics that the query names, in its order.

    Raises:
        InvalidRequest: none, too many, or one of them twice.
        InvalidTopic: one of them is empty, too long, or not UTF-8.

    """
    # As in a path, broken UTF-8 must not name another topic: Starlette's own parameters are decoded leniently.
    query: bytes = request.scope.get("query_string", b"")
    given = [pair.replace(b"+", b" ").partition(b"=") for pair in query.split(b"&")]
    names = [unquote_to_bytes(value) for name, _, value in given if unquote_to_bytes(name) == b"topic"]
    if not names:
        msg = "No topic is named: use ?topic=a&topic=b for several on one stream, or the path for one"
        raise InvalidRequest(msg)
    if len(names) > MOST:
        msg = f"{len(names)} topics are named; one stream has at most {MOST}: open another for the rest"
        raise InvalidRequest(msg)
    topics = [topic_named(name, limits) for name in names]
    seen: set[str] = set()
    for topic in topics:
        if topic in seen:
            msg = f"The topic {topic[:80]!r} is named twice: name each once"
            raise InvalidRequest(msg)
        seen.add(topic)
    return topics


def starts_of(request: Request, count: int) -> list[Start]:
    """Return where the reader begins in each of `count` topics.

    `Last-Event-ID` wins over `lastEventId`, and that over `offset`. An id has a place for each topic, in the URL's
    order. An empty one means that the stream had not said yet where it begins there, so `offset` holds.

    Raises:
        InvalidRequest: not places, or not as many as topics.

    """
    text = request.query_params.get("offset") or ""
    given = _each("offset", text, count) if "." in text else [text] * count
    starts = [start_at(one) for one in given]
    resumed = resumed_from(request)
    if resumed is None:
        return starts
    name, value = resumed
    places = _each(name, value, count)
    return [place_of(name, one) if one else start for one, start in zip(places, starts, strict=True)]


def _each(name: str, text: str, count: int) -> list[str]:
    places = text.split(".")
    if len(places) != count:
        msg = (
            f"{name} {text[:80]!r} has {len(places)} places, and the URL names {count} topics: "
            "send the id of the last event, with the same topics in the same order"
        )
        raise InvalidRequest(msg)
    return places
