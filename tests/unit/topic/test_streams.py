"""Streams in a topic: attempts that replace each other, and requests that are repeated."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import InvalidRequest, StreamReplaced
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import streams
from restate_pubsub.topic.state import KnownStream


def tokens(*texts: str) -> list[Message]:
    return [Message(b'"%b"' % text.encode()) for text in texts]


def test_a_first_attempt_is_announced_to_nobody() -> None:
    """Its messages are appended as they are."""
    done = streams.admit({}, StreamRef("s", "a", first=True), tokens("x", "y"), 10)
    assert (tokens("x", "y"), 0) == (done.messages, done.announced)
    assert {"s": KnownStream(10, 12, 2, "a")} == done.streams


def test_a_later_attempt_says_where_the_abandoned_one_began() -> None:
    """So that a page can drop what it showed; then come the new words."""
    known = {"s": KnownStream(10, 12, 2, "a")}
    done = streams.admit(known, StreamRef("s", "b", first=True), tokens("z"), 15)
    assert [Message(b'{"id":"s","offset":10}', "restart"), *tokens("z")] == done.messages
    assert {"s": KnownStream(16, 17, 1, "b")} == done.streams


def test_a_replaced_attempt_is_refused() -> None:
    """Its words would be mixed with those of the attempt that replaced it."""
    known = {"s": KnownStream(16, 17, 1, "b")}
    with pytest.raises(StreamReplaced, match="from offset 16"):
        streams.admit(known, StreamRef("s", "a"), tokens("y"), 17)


def test_an_attempt_goes_on_although_the_topic_has_forgotten_it() -> None:
    """A topic remembers only so many streams, and retention or `delete` forgets them."""
    done = streams.admit({}, StreamRef("s", "a"), tokens("y"), 3)
    assert tokens("y") == done.messages


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20)), max_size=10))
def test_a_repeated_request_adds_nothing_however_it_is_cut(total: int, cuts: list[tuple[int, int]]) -> None:
    """Batches of a counted stream may overlap in any way."""
    body = tokens(*(str(at) for at in range(total)))
    known: Mapping[str, KnownStream] = {}
    log: list[Message] = []
    for start, count in [*cuts, (len(log), 0)]:
        batch = body[start : start + count]
        if start > len(log) or start > total:
            continue
        done = streams.admit(known, StreamRef("k", start=start), batch, len(log))
        known, log = done.streams, log + list(done.messages)
    done = streams.admit(known, StreamRef("k", start=0), body, len(log))
    assert body == log + list(done.messages)


def test_a_gap_is_refused() -> None:
    """Messages of the stream would be missing."""
    with pytest.raises(InvalidRequest, match="begins at message 3, but only 0"):
        streams.admit({}, StreamRef("k", start=3), tokens("x"), 0)


def test_a_topic_remembers_the_newest_streams() -> None:
    """And no more than it should."""
    known: Mapping[str, KnownStream] = {}
    for at in range(200):
        known = streams.admit(known, StreamRef(f"s{at}", "a", first=True), tokens("x"), at).streams
    assert len(known) == streams.MAX_KNOWN
    assert "s199" in known
    assert "s0" not in known
