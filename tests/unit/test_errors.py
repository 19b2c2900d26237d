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
