"""What strangers are told of an error: nothing of what lies behind this service."""

from __future__ import annotations

import json

import pytest

from restate_pubsub.errors import PubsubError, RestateRefused, StreamFailed, TooMany, Unauthorized, Unavailable
from restate_pubsub.web.problems import problem_of

SECRET = "http://10.0.0.7:8080 said user:hush"


def failed(cause: PubsubError) -> StreamFailed:
    return StreamFailed("t", 3, 5, 7, cause)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable(SECRET), 503, "restate-unavailable"),
        (failed(Unavailable(SECRET)), 503, "stream-failed"),
        (RestateRefused(SECRET, 401), 502, "restate-refused"),
        (failed(RestateRefused(SECRET, 403)), 502, "stream-failed"),
    ],
)
def test_what_lies_behind_stays_there(error: PubsubError, status: int, code: str) -> None:
    """Also where one error carries another; a command and the log say all of it."""
    answer = problem_of(error)
    assert (answer.status_code, json.loads(bytes(answer.body))["code"]) == (status, code)
    assert "hush" not in str(answer.body)
    assert "10.0.0.7" not in str(answer.body)
    assert "hush" in str(error)


def test_how_far_a_stream_got_is_no_secret() -> None:
    """The writer has to know."""
    detail = json.loads(bytes(problem_of(failed(Unavailable(SECRET))).body))["detail"]
    assert detail == (
        "The stream to topic 't' failed: 3 of 5 messages are there, up to offset 7: "
        "Restate cannot be reached at the moment: try again."
    )


def test_the_headers_are_those_of_the_cause() -> None:
    """When to try again, and that it was the token."""
    over = TooMany("too many", code="x", retry_after=1.2)
    assert problem_of(failed(over)).headers["retry-after"] == "2"
    ended = Unauthorized("ended", invalid=True)
    assert problem_of(failed(ended)).headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert problem_of(failed(Unavailable(SECRET))).headers["retry-after"] == "1"
