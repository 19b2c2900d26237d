"""The tree of errors: what each says of itself."""

from __future__ import annotations

import pytest

from restate_pubsub import errors
from restate_pubsub.errors import PubsubError


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.TopicClosed("closed"), True),
        (errors.TooLarge(), True),
        (errors.InvalidMessage(), True),
        (errors.OffsetGone(0, 2), True),
        (errors.CallFailed("no such handler", 404), True),
        (errors.StreamFailed("t", 1, 2, 1, errors.TopicClosed("closed")), True),
        (errors.StreamFailed("t", 1, 2, 1, errors.Unavailable()), False),
        (errors.Unavailable(), False),
        (errors.PullTimeout(), False),
        (errors.Unauthorized(), False),
        (errors.TooMany("too many", code="too-many", retry_after=1.0), False),
        (PubsubError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PubsubError) else str(value),
)
def test_an_error_says_whether_trying_again_can_help(error: PubsubError, *, final: bool) -> None:
    """In a durable step, a final one should end the step."""
    assert final == error.final


def drawn(error: type[PubsubError], lead: str = "") -> list[str]:
    """Draw the tree from the classes: a branch, a name, and the status where the class has one."""
    children = [child for child in error.__subclasses__() if child.__module__ == errors.__name__]
    lines = []
    for child in children:
        last = child is children[-1]
        branch = f"{lead}{'└──' if last else '├──'} {child.__name__}"
        status = "" if child.status == PubsubError.status else str(child.status)
        if issubclass(child, errors.CallFailed):
            status = "4xx"
        lines += [f"{branch:<28}{status}".rstrip(), *drawn(child, f"{lead}{'    ' if last else '│   '}")]
    return lines


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    """Each class in its place with its status, and a word on it."""
    assert errors.__doc__ is not None
    name, *written = errors.__doc__[errors.__doc__.index("\nPubsubError") :].strip().splitlines()
    assert name == "PubsubError"
    assert [line[:31].rstrip() for line in written] == drawn(PubsubError)
    assert all(line[33:].strip() for line in written)


def test_no_two_errors_share_a_code() -> None:
    """What decides by the code must know which it is."""
    kinds = [PubsubError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    own = [kind.code for kind in kinds if "code" in vars(kind)]
    assert sorted(set(own)) == sorted(own)


def test_facts_travel_with_the_code() -> None:
    """As text, which is all that Restate's metadata carries; what is not known is left out."""
    assert errors.OffsetGone(0, 2).metadata == {"code": "offset-gone", "offset": "0", "head": "2"}
    assert errors.TopicClosed.at("t", 7).metadata == {"code": "topic-closed", "tail": "7"}
    assert errors.TopicClosed("closed").metadata == {"code": "topic-closed"}


def test_a_failed_stream_says_what_nobody_knows() -> None:
    """A call without an answer may have been done."""
    failed = errors.StreamFailed("t", 3, 6, 3, errors.Unavailable("gone"), uncertain=2)
    assert str(failed) == (
        "The stream to topic 't' failed: 3 of 6 messages are there, up to offset 3 (the next 2 may be there, too): gone"
    )
