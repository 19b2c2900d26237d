"""What a request asks for: topic, place, flags."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from restate_pubsub.errors import InvalidRequest, InvalidTopic
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.web.requests import flag_of, linger_of, start_of, topic_of


def request(path: str = "/pubsub/t", query: str = "", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": raw,
        }
    )


@pytest.mark.parametrize(
    ("path", "topic"),
    [
        ("/pubsub/t", "t"),
        ("/pubsub/a/b", "a/b"),
        ("/pubsub/a%2Fb", "a/b"),
        ("/pubsub/%C3%A9%20%F0%9F%99%82", "é 🙂"),
        ("/pubsub/..", ".."),
        ("/pubsub//a", "/a"),
        ("/pubsub/a/", "a/"),
        ("/pubsub/100%25", "100%"),
        ("/pubsub/a+b", "a+b"),
    ],
)
def test_the_topic_is_the_rest_of_the_path(path: str, topic: str) -> None:
    """Slashes and all, percent-escapes decoded once."""
    assert topic == topic_of(request(path), "/pubsub", Limits())


@pytest.mark.parametrize("path", ["/pubsub/", "/pubsub/%FF", "/pubsub/%C3", "/pubsub/" + "x" * 513])
def test_a_bad_topic_is_refused(path: str) -> None:
    """Empty, not UTF-8, too long."""
    with pytest.raises(InvalidTopic):
        topic_of(request(path), "/pubsub", Limits())


@pytest.mark.parametrize(
    ("query", "header", "start"),
    [
        ("", None, Start("offset", 0)),
        ("offset=7", None, Start("offset", 7, resumes=True)),
        ("offset=0", None, Start("offset", 0)),
        ("offset=latest", None, Start("latest")),
        ("offset=-5", None, Start("last", 5)),
        ("offset=7", "9", Start("offset", 9, resumes=True)),
        ("lastEventId=8&offset=7", None, Start("offset", 8, resumes=True)),
        ("lastEventId=8", "9", Start("offset", 9, resumes=True)),
        ("offset=latest", "0", Start("offset", 0, resumes=True)),
    ],
)
def test_where_to_begin(query: str, header: str | None, start: Start) -> None:
    """`Last-Event-ID` wins, then `lastEventId`, then `offset`."""
    headers = {} if header is None else {"last_event_id": header}
    assert start == start_of(request(query=query, **headers))


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ("offset=x", None),
        ("offset=1.5", None),
        ("offset=99999999999999999999", None),
        ("offset=--1", None),
        ("", "x"),
        ("", "-1"),
    ],
)
def test_a_bad_place_is_refused_by_value_and_rule(query: str, header: str | None) -> None:
    """And says what may be given."""
    headers = {} if header is None else {"last_event_id": header}
    with pytest.raises(InvalidRequest, match=r"is not an offset|is negative"):
        start_of(request(query=query, **headers))


@pytest.mark.parametrize(
    ("query", "value"), [("", False), ("strict=true", True), ("strict=1", True), ("strict=false", False)]
)
def test_a_flag_is_true_or_false(query: str, value: bool) -> None:  # noqa: FBT001
    """Missing is false."""
    assert value == flag_of(request(query=query), "strict")


def test_any_other_flag_is_refused() -> None:
    """By name and value."""
    with pytest.raises(InvalidRequest, match="strict 'maybe'"):
        flag_of(request(query="strict=maybe"), "strict")


@pytest.mark.parametrize(
    ("query", "seconds"), [("", 0.0), ("linger=", 0.0), ("linger=0.25", 0.25), ("linger=10", 10.0)]
)
def test_a_linger_is_seconds(query: str, seconds: float) -> None:
    """None by default."""
    assert seconds == linger_of(request(query=query))


@pytest.mark.parametrize("text", ["-1", "11", "100ms", "nan", "1e-3", "٣", "."])
def test_any_other_linger_is_refused(text: str) -> None:
    """By its value."""
    with pytest.raises(InvalidRequest, match="linger"):
        linger_of(request(query=f"linger={text}"))
