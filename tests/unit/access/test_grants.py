"""What a claim permits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.access.grants import ACTIONS, Action, grant_of


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a", "A", False),
        ("a*", "a", True),
        ("a*", "ab/c", True),
        ("chat/*", "chat/1", True),
        ("chat/*", "chat", False),
        ("*", "anything/at/all", True),
        ("a*c", "abc", False),
        ("a*c", "a*c", True),
        ("", "a", False),
        ({"exact": "a"}, "a", True),
        ({"exact": "a"}, "ab", False),
        ({"exact": "room/*"}, "room/*", True),
        ({"exact": "room/*"}, "room/1", False),
        ({"exact": "*"}, "a", False),
        ({"exact": ""}, "a", False),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_pattern_is_a_topic_or_a_prefix(action: Action, pattern: Any, topic: str, *, expected: bool) -> None:
    """Only a star at the end is a wildcard, and in the exact form no star is. No action contains another."""
    grant = grant_of({action: [pattern]})
    assert expected == grant.permits(action, topic)
    for other in set(ACTIONS) - {action}:
        assert not grant.permits(other, topic)


@given(st.text(), st.text(min_size=1))
def test_the_exact_form_means_one_topic(name: str, topic: str) -> None:
    """Whatever users call themselves."""
    grant = grant_of({"subscribe": [{"exact": f"room/{name}"}]})
    assert grant.permits("subscribe", topic) is (topic == f"room/{name}")


@pytest.mark.parametrize(
    "claim",
    [
        "*",
        ["*"],
        7,
        {"subscribe": "*"},
        {"subscribe": {"exact": "a"}},
        {"subscribe": [7]},
        {"subscribe": [None]},
        {"control": [["a"]]},
        {"publish": [{"exact": "a", "until": 7}]},
        {"publish": [{"exact": ["a"]}]},
        {"publish": [{"prefix": "a"}]},
        {"publish": [{}]},
    ],
)
def test_another_shape_is_refused_as_a_whole(claim: Any) -> None:
    """Nothing is passed over: a pattern that we do not know may have been meant to narrow."""
    with pytest.raises(ValueError, match="subscribe"):
        grant_of(claim)
