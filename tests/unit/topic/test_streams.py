"""Streams in a topic: attempts that replace each other, and requests that are repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import InvalidRequest, KeyReused, StreamReplaced, StreamStopped
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.digest import digest
from restate_pubsub.protocol.messages import Message, stop_message
from restate_pubsub.topic.streams import Admitted, KnownStream, admit, stop


def tokens(*texts: str) -> list[Message]:
    return [Message(b'"%b"' % text.encode()) for text in texts]


def opened(known: KnownStream | None, attempt: str, tail: int = 10) -> KnownStream:
    """Return what is known after an attempt was opened."""
    done = admit(known, StreamRef("s", attempt, first=True), [], tail)
    assert not done.messages
    assert done.known is not None
    return done.known


def test_a_first_attempt_is_announced_to_nobody() -> None:
    """Its messages are appended as they are."""
    done = admit(opened(None, "a"), StreamRef("s", "a"), tokens("x", "y"), 10)
    assert (tokens("x", "y"), 0) == (done.messages, done.announced)
    assert KnownStream(10, 12, 2, "a") == done.known


def test_a_later_attempt_says_where_the_abandoned_one_began() -> None:
    """So that a page can drop what it showed; then come the new words."""
    known = opened(KnownStream(10, 12, 2, "a"), "b")
    done = admit(known, StreamRef("s", "b"), tokens("z"), 15)
    assert [Message(b'{"id":"s","offset":10,"count":2}', "restart"), *tokens("z")] == done.messages
    assert KnownStream(16, 17, 1, "b") == done.known


def test_an_attempt_that_opens_and_writes_at_once_takes_over() -> None:
    """The way of the version before."""
    done = admit(KnownStream(10, 12, 2, "a"), StreamRef("s", "b", first=True), tokens("z"), 15)
    assert KnownStream(16, 17, 1, "b") == done.known


def test_an_attempt_is_refused_from_the_moment_another_is_opened() -> None:
    """Its words would be mixed with those of the attempt that replaces it."""
    known = opened(KnownStream(10, 12, 2, "a"), "b")
    with pytest.raises(StreamReplaced, match="from offset 10"):
        admit(known, StreamRef("s", "a"), tokens("y"), 12)


def test_an_attempt_that_was_opened_earlier_and_writes_late_is_refused() -> None:
    """Also if the later one has finished before its first batch comes: the order is that of the opening."""
    known = opened(opened(None, "a"), "b")
    finished = admit(known, StreamRef("s", "b"), tokens("z"), 10).known
    with pytest.raises(StreamReplaced):
        admit(finished, StreamRef("s", "a"), tokens("late"), 11)


def test_opening_twice_is_opening_once() -> None:
    """A call that got no answer is repeated."""
    known = opened(None, "a")
    assert known == opened(known, "a")
    wrote = admit(known, StreamRef("s", "a"), tokens("x"), 10).known
    assert wrote == opened(wrote, "a", 11)


@pytest.mark.parametrize("attempt", ["a", "b"])
def test_who_only_asks_changes_nothing(attempt: str) -> None:
    """Not even the attempt that has not written yet: what the one before it said stands until then."""
    known = KnownStream(10, 12, 2, "a", None if attempt == "a" else "b")
    assert Admitted(known, ()) == admit(known, StreamRef("s", attempt), (), 15)
    with pytest.raises(StreamReplaced):
        admit(known, StreamRef("s", "c"), (), 15)


def test_a_stream_that_the_topic_does_not_know_is_refused() -> None:
    """Its topic was deleted: what it has left would begin in the middle."""
    with pytest.raises(StreamReplaced, match="deleted"):
        admit(None, StreamRef("s", "a"), tokens("y"), 3)


@pytest.mark.parametrize("before", [None, KnownStream(10, 12, 2, "a"), KnownStream(10, 12, 2, "a", "b")])
@pytest.mark.parametrize("ref", [StreamRef("s", "a"), StreamRef("s", "b"), StreamRef("s", "c", first=True)])
def test_a_stopped_stream_admits_nobody(before: KnownStream | None, ref: StreamRef) -> None:
    """Not the attempt that writes, not one that is opened, not a later one; also if it was stopped before it began."""
    done = stop(before, stop_message("s", "enough"), "enough", 15)
    assert [Message(b'{"id":"s","reason":"enough"}', "stop")] == done.messages
    with pytest.raises(StreamStopped, match="at offset 15") as stopped:
        admit(done.known, ref, tokens("z"), 16)
    assert (15, "enough", True) == (stopped.value.offset, stopped.value.reason, stopped.value.final)


def test_stopping_twice_is_stopping_once() -> None:
    """One event, the first reason."""
    first = stop(KnownStream(10, 12, 2, "a"), stop_message("s", "enough"), "enough", 15)
    second = stop(first.known, stop_message("s", None), None, 16)
    assert not second.messages
    assert second.known == first.known


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20)), max_size=10))
def test_a_repeated_request_adds_nothing_however_it_is_cut(total: int, cuts: list[tuple[int, int]]) -> None:
    """Batches of a counted stream may overlap in any way."""
    body = tokens(*(str(at) for at in range(total)))
    known: KnownStream | None = None
    log: list[Message] = []
    for start, count in [*cuts, (len(log), 0)]:
        batch = body[start : start + count]
        if start > len(log) or start > total:
            continue
        ref = StreamRef("k", start=start, digest=digest("", body[:start]))
        done = admit(known, ref, batch, len(log))
        known, log = done.known, log + list(done.messages)
    done = admit(known, StreamRef("k", start=0, digest="", last=True), body, len(log))
    assert body == log + list(done.messages)
    assert done.known is not None
    assert done.known.done


@pytest.mark.parametrize("other", [["x"], ["x", "y", "w"], ["w"], [], ["x", "y", "z", "w"]])
def test_a_key_that_comes_with_another_body_is_refused(other: list[str]) -> None:
    """Shorter, longer or different: the two would be mixed."""
    done = admit(None, StreamRef("k", start=0, digest="", last=True), tokens("x", "y", "z"), 0)
    with pytest.raises(KeyReused, match="'k'"):
        admit(done.known, StreamRef("k", start=0, digest="", last=True), tokens(*other), 3)


def test_an_empty_request_is_remembered_as_well() -> None:
    """So that its repetition, with `close`, is no write to a closed topic."""
    ref = StreamRef("k", start=0, digest="", last=True)
    done = admit(None, ref, [], 5)
    assert done.known is not None
    again = admit(done.known, ref, [], 5)
    assert (done.known, []) == (again.known, list(again.messages))


def test_a_gap_is_refused() -> None:
    """Messages of the stream would be missing."""
    with pytest.raises(InvalidRequest, match="begins at message 3, but only 0"):
        admit(None, StreamRef("k", start=3), tokens("x"), 0)
