"""The bytes on the wire, and the ring that holds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.fanout.ring import TAKE_MAX_BYTES, Ring
from restate_pubsub.fanout.steps import Chunk
from restate_pubsub.protocol import sse as frames
from restate_pubsub.protocol.messages import Message


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (frames.message_frame(0, Message(b'{"a":1}')), b'id: 1\ndata: {"a":1}\n\n'),
        (frames.message_frame(9, Message(b"1", "tool")), b"id: 10\nevent: tool\ndata: 1\n\n"),
        (frames.message_frame(0, Message(b"{\r\n1}")), b"id: 1\ndata: {  1}\n\n"),
        (frames.message_frame(0, Message(b"")), b"id: 1\ndata: null\n\n"),
        (frames.opening(2500), b": open\nretry: 2500\n"),
        (frames.place_frame(7), b"id: 7\n\n"),
        (frames.end_frame(7), b'id: 7\nevent: end\ndata: {"nextOffset":7}\n\n'),
        (frames.reset_frame(0, 5, 9, 5), b'id: 5\nevent: reset\ndata: {"requested":0,"head":5,"tail":9}\n\n'),
        (frames.HEARTBEAT, b":\n"),
        (frames.heartbeat_event(15.0), b'event: heartbeat\ndata: {"seconds":15}\n\n'),
        (frames.heartbeat_event(0.25), b'event: heartbeat\ndata: {"seconds":0.25}\n\n'),
    ],
)
def test_frames_are_exactly_these_bytes(frame: bytes, expected: bytes) -> None:
    """Other people's clients parse them."""
    assert expected == frame


@given(st.lists(st.one_of(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 60))))
def test_a_ring_is_the_end_of_what_was_added(steps: list[list[bytes] | int]) -> None:
    """Through any mix of additions and shrinking, and `take` gives the rest from anywhere."""
    ring, log = Ring(100), [b""] * 100
    for step in steps:
        if isinstance(step, int):
            ring.shrink(step)
            assert ring.size <= step
        else:
            ring.extend(step)
            log += step
        assert len(log) == ring.tail
        assert sum(map(len, log[ring.base :])) == ring.size
        for at in range(ring.base, ring.tail):
            assert Chunk(at, b"".join(log[at:]), ring.tail) == ring.take(at)


def test_readers_at_the_same_place_share_one_piece() -> None:
    """The frames are joined once, however many read them."""
    ring = Ring()
    ring.extend([b"a", b"b"])
    assert ring.take(0) is ring.take(0)


def test_a_reader_far_behind_takes_the_ring_in_parts() -> None:
    """One write is bounded, but always makes progress."""
    ring = Ring()
    ring.extend([b"x" * (TAKE_MAX_BYTES - 1), b"yy", b"z" * TAKE_MAX_BYTES * 2])
    taken, at = [], 0
    while at < ring.tail:
        chunk = ring.take(at)
        taken.append(len(chunk.data))
        at = chunk.next_offset
    assert taken == [TAKE_MAX_BYTES - 1, 2, TAKE_MAX_BYTES * 2]


@pytest.mark.parametrize(("head", "base"), [(3, 3), (5, 5), (9, 9)])
def test_dropping_below_the_head_keeps_the_rest(head: int, base: int) -> None:
    """Past the tail, the ring goes on empty from there."""
    ring = Ring()
    ring.extend([b"a", b"b", b"c", b"d", b"e"])
    ring.drop_below(head)
    assert (base, max(5, base)) == (ring.base, ring.tail)
