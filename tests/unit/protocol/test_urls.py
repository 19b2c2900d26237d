"""URLs as they may be shown."""

from __future__ import annotations

import time

import pytest

from restate_pubsub.protocol.urls import redacted, redacted_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:hush@host:8080", "http://…@host:8080"),
        ("Restate at https://user:hush@host/ingress?a=b cannot", "Restate at https://…@host/ingress?a=b cannot"),
        ("http://hush@host and http://u:hush@[::1]:1/x", "http://…@host and http://…@[::1]:1/x"),
        ("http://user:hu@sh@host", "http://…@host"),
        ("URL('http://u:hush@host')", "URL('http://…@host')"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://host/?mail=a@b", "http://host/?mail=a@b"),
        ("somebody@example.org", "somebody@example.org"),
        ("", ""),
    ],
)
def test_user_and_password_are_nobody_s_business(text: str, expected: str) -> None:
    """Wherever in a text the URL is."""
    assert expected == redacted(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://u:p/w@host:1/x", "http://…@host:1/x"),
        ("http://u:p#w@host", "http://…@host"),
        ("http://host:8080", "http://host:8080"),
        ("host:8080", "host:8080"),
        ("", ""),
    ],
)
def test_a_url_that_was_not_escaped_shows_nothing_either(url: str, expected: str) -> None:
    """A password may hold what ends the host's part for a parser."""
    assert expected == redacted_url(url)


@pytest.mark.parametrize("part", ["http://", "://a", "x@", "http://" + "a" * 50])
def test_no_text_takes_long(part: str) -> None:
    """Lines of logs go through it: twice the text, about twice the time."""

    def took(size: int) -> float:
        text = "http://" + part * (size // len(part))
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            redacted(text)
            best = min(best, time.perf_counter() - began)
        return best

    assert took(400_000) < 8 * took(100_000) + 0.01
