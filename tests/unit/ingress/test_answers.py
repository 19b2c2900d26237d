"""What an answer is: by code, by text where there is none, and what to make of a page that is not Restate's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from restate_pubsub import errors
from restate_pubsub.errors import PubsubError
from restate_pubsub.ingress import answers
from restate_pubsub.ingress.answers import Answer, Target

TARGET = Target("http://restate:8080", "pubsub", "t", "append")
JSON = {"content-type": "application/json"}


def raised(status: int, body: bytes, **headers: str) -> PubsubError:
    """Return the error that an answer becomes."""
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(PubsubError) as caught:
        answers.result(Answer(status, found, body), TARGET)
    return caught.value


def refused(status: int, message: str, *, source: str = "invocation", **metadata: str) -> PubsubError:
    """Return the error that a handler's failure becomes."""
    failure: dict[str, Any] = {"code": status, "message": message, "source": source}
    if metadata:
        failure["metadata"] = metadata
    return raised(status, json.dumps(failure).encode(), content_type="application/json", x_restate_error_source=source)


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("no"),
        errors.InvalidMessage("no"),
        errors.InvalidTopic("no"),
        errors.TooLarge("no"),
        errors.TopicClosed.at("t", 7),
        errors.StreamReplaced.by("s", 3),
        errors.StreamStopped.at("s", 3, None),
        errors.StreamStopped.at("s", 3, "enough: 7"),
        errors.PullTimeout("no"),
        errors.OffsetGone(1, 2),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_what_it_was(error: PubsubError) -> None:
    """By its code, whatever the text says; with its facts."""
    found = refused(error.status, f"another text than {error.message}", **error.metadata)
    assert type(found) is type(error)
    assert found.metadata == error.metadata


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "append: not JSON", errors.InvalidRequest),
        (408, "Nothing was published", errors.PullTimeout),
        (409, "Topic 't' was closed at offset 3: publish elsewhere", errors.TopicClosed),
        (409, "Stream 's' was opened again and goes on from offset 4: this attempt must stop", errors.StreamReplaced),
        (410, "Offset 0 is lower than the head 2", errors.OffsetGone),
        (500, "Offset 0 is lower than the head 2", errors.OffsetGone),  # the TypeScript object's
        (413, "too large", errors.TooLarge),
        (409, "killed", errors.CallAborted),
        (409, "cancelled", errors.CallAborted),
        (409, "canceled", errors.CallAborted),  # one that had not begun
        (409, "Cancelled", errors.CallAborted),  # as another SDK's handler says it
        (404, "no such handler", errors.CallFailed),
        (500, "boom", errors.CallFailed),
    ],
)
def test_without_a_code_status_and_text_decide(status: int, message: str, kind: type[PubsubError]) -> None:
    """Objects of older versions and the TypeScript one send none."""
    assert type(refused(status, message)) is kind


def test_the_code_of_a_later_version_is_kept() -> None:
    """It is no error that this version knows, and none that it only resembles."""
    error = refused(409, "Stream 's' was paused", code="stream-paused", reason="enough")
    assert (type(error), error.code, error.status, error.final) == (errors.CallFailed, "stream-paused", 409, True)


@pytest.mark.parametrize("metadata", [{"code": "offset-gone"}, {"code": "offset-gone", "offset": "x", "head": "-1"}])
def test_facts_that_are_no_facts_are_passed_over(metadata: dict[str, str]) -> None:
    """The code stays."""
    assert refused(410, "gone", **metadata).code == "offset-gone"


def test_what_an_operator_has_ended_says_what_to_do() -> None:
    """It is not final: the topic is open."""
    error = refused(409, "killed")
    assert not error.final
    assert error.code == "call-aborted"
    for part in ("killed", "append", "'t'", "may have been done or not", "another idempotency key"):
        assert part in error.message


@pytest.mark.parametrize(
    ("status", "message", "kind", "part"),
    [
        (404, "service 'pubsub' not found, make sure", errors.Unavailable, "not registered"),
        (404, "the service 'pubsub' exists, but the handler 'append' was not found", errors.Unavailable, "no handler"),
        (503, "overloaded", errors.Unavailable, "503"),
        (429, "slow down", errors.Unavailable, "429"),
        (401, "who are you", errors.RestateRefused, "RESTATE_AUTH_TOKEN"),
        (400, "bad path", errors.InvalidRequest, "bad path"),
    ],
)
def test_the_ingress_s_own_answers(status: int, message: str, kind: type[PubsubError], part: str) -> None:
    """They say nothing about the call; what may pass is tried again."""
    error = refused(status, message, source="ingress")
    assert type(error) is kind
    assert part in error.message


@pytest.mark.parametrize(
    ("status", "body", "content_type", "kind", "part"),
    [
        (200, b"<html>Sign in</html>", "text/html; charset=utf-8", errors.Unavailable, "<html>Sign in"),
        (200, b'{"offset":1}', "text/plain", errors.Unavailable, "text/plain"),
        (502, b"<html>Bad gateway", "text/html", errors.Unavailable, "status 502"),
        (404, b"", "", errors.Unavailable, "not Restate's ingress"),
        (404, b"Are you lost?", "text/plain", errors.Unavailable, "Are you lost"),
        (302, b"", "", errors.Unavailable, "status 302"),
        (403, b"<html>", "text/html", errors.RestateRefused, "token"),
        (413, b"<html>", "text/html", errors.TooLarge, "proxy"),
        (405, b'{"type":"urn:restate-pubsub:problem:not-enabled"}', "application/problem+json", errors.WrongAddress,
         "service itself"),
        (200, b"\xff\xfe", "application/octet-stream", errors.Unavailable, "octet-stream"),
    ],
)  # fmt: skip
def test_another_server_s_answers(
    status: int, body: bytes, content_type: str, kind: type[PubsubError], part: str
) -> None:
    """Named as what they are; no page is ever taken for an answer."""
    error = raised(status, body, content_type=content_type)
    assert type(error) is kind
    assert part in error.message
    assert TARGET.at not in error.public


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"offset":"1","nextOffset":2}',
        b'{"offset":-1,"nextOffset":2}',
        b'{"offset":1',
        b'"\xff"',
    ],
)
def test_a_result_of_another_shape_is_no_result(body: bytes) -> None:
    """It may be a proxy's, or another object's: it is tried again, and named at the end."""
    with pytest.raises(errors.Unavailable, match="not the object 'pubsub'"):
        answers.shaped(body, answers.Appended, TARGET)


def test_our_own_service_and_the_typescript_object_are_recognised() -> None:
    """One counts what was published, the other answers nothing: the write has happened, elsewhere or uncounted."""
    with pytest.raises(errors.WrongAddress, match="service itself"):
        answers.shaped(b'{"offset":1,"nextOffset":2,"count":1}', answers.Appended, TARGET)
    with pytest.raises(errors.WrongAddress, match="answered nothing"):
        answers.shaped(b"", answers.Published, TARGET)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"<html>",
        b'{"messages":[1]}',
        b'{"messages":[1],"nextOffset":1}',
        b'{"messages":[],"nextOffset":7}',
        b'{"messages":[1],"nextOffset":9}',
        b'{"messages":[1],"nextOffset":5,"offset":4}',
    ],
)
def test_a_pull_s_answer_that_does_not_add_up_moves_nobody(body: bytes) -> None:
    """Neither back nor past messages."""
    with pytest.raises(errors.Unavailable, match="not the object"):
        answers.pulled(body, 5, TARGET, named=False)


def test_a_named_pull_may_begin_elsewhere() -> None:
    """With the newest batch alone."""
    batch = answers.pulled(b'{"messages":[1],"nextOffset":9,"offset":8}', 5, TARGET, named=True)
    assert (batch.offset, batch.next_offset) == (8, 9)
