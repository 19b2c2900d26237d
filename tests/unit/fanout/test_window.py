"""What a process knows of a log, and what readers are told from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from restate_pubsub.fanout.steps import Chunk, End, Reset
from restate_pubsub.fanout.window import Begin, HeadMoved, Learnt, Located, Missing, News, Start, Unknown, Window
from restate_pubsub.protocol.messages import Batch
from support.following import encoded, lines, numbers


def window(head: int = 0, tail: int = 0, *, closed: bool = False, ring: int | None = None) -> Window:
    """Return a window of `[head, tail)`, of which the messages from `ring` on are in memory."""
    ring = tail if ring is None else ring
    made = Window(encoded, 10_000)
    made.learn(Located(head, ring, closed=False, asked_at=0))
    made.learn(Batch(ring, numbers(ring, tail), tail, closed=closed))
    return made


def batch(start: int, stop: int, *, closed: bool = False, head: int | None = None) -> Batch:
    return Batch(start, numbers(start, stop), stop, closed, head)


@pytest.mark.parametrize(
    ("news", "learnt"),
    [
        (batch(5, 7), Learnt(changed=True, arrived=2)),
        (batch(3, 7), Learnt(changed=True, arrived=2)),
        (batch(3, 5), Learnt()),
        (batch(6, 8), Learnt(gap=True)),
        (batch(6, 8, head=6), Learnt(changed=True, arrived=2, jumped=True)),
        (batch(6, 8, head=4), Learnt(changed=True, gap=True)),
        (batch(5, 5, closed=True), Learnt(changed=True)),
        (batch(5, 7, closed=True), Learnt(changed=True, arrived=2)),
        (batch(5, 5, head=5), Learnt(changed=True)),
        (HeadMoved(1), Learnt()),
        (HeadMoved(4), Learnt(changed=True)),
        (HeadMoved(9), Learnt(changed=True, jumped=True)),
        (Located(2, 5, closed=False, asked_at=5), Learnt()),
        (Located(2, 9, closed=False, asked_at=5), Learnt()),
        (Located(2, 5, closed=True, asked_at=5), Learnt(changed=True)),
        (Located(4, 5, closed=False, asked_at=5), Learnt(changed=True)),
        (Located(0, 1, closed=False, asked_at=5), Learnt(changed=True, jumped=True, lost=True)),
        (Located(2, 4, closed=False, asked_at=4), Learnt()),
        (Located(2, 4, closed=True, asked_at=4), Learnt()),
    ],
)
def test_what_news_do_is_said(news: News, learnt: Learnt) -> None:
    """`[2, 5)` is known, 3 and 4 are in memory. Whoever waits is woken exactly if `changed`."""
    assert learnt == window(2, 5, ring=3).learn(news)


@pytest.mark.parametrize("news", [batch(0, 3), HeadMoved(3)])
def test_news_before_the_position_is_known_are_left_out(news: News) -> None:
    """They are in what the first pull brings, since that begins at a position that is read afterwards."""
    fresh = Window(encoded, 100)
    assert Learnt() == fresh.learn(news)
    assert not fresh.located
    assert Unknown.NOT_LOCATED is fresh.begin(Start())


def test_a_topic_that_was_deleted_and_goes_on_is_open() -> None:
    """Whether the log says so when it is asked, or the news do."""
    for news in (Located(5, 5, closed=False, asked_at=5), batch(5, 5, head=5), batch(5, 6)):
        ended = window(0, 5, closed=True)
        assert ended.closed
        assert ended.learn(news).changed
        assert not ended.closed


def test_an_answer_that_is_older_than_the_news_does_not_end_the_topic() -> None:
    """It was closed when the log was asked, and has been deleted and written to since."""
    ended = window(0, 5, closed=True)
    ended.learn(batch(5, 7, head=5))
    assert Learnt() == ended.learn(Located(0, 5, closed=True, asked_at=5))
    assert Missing.NEWER is ended.next(7, 0)


@pytest.mark.parametrize(
    ("start", "asked", "found"),
    [
        (Start(), None, Reset(0, 2, 5)),
        (Start("offset", 1), None, Reset(1, 2, 5)),
        (Start("offset", 2), None, Begin(2, 0)),
        (Start("offset", 5), None, Begin(5, 0)),
        (Start("offset", 6), None, Unknown.ASK),
        (Start("offset", 6), 9, Begin(6, 0)),
        (Start("offset", 6), 5, Reset(6, 2, 5)),
        (Start("latest"), None, Begin(5, 0)),
        (Start("last", 2), None, Begin(3, 0)),
        (Start("last", 9), None, Begin(2, 0)),
    ],
)
def test_where_a_reader_begins(start: Start, asked: int | None, found: Begin | Reset | Unknown) -> None:
    """`[2, 5)` is known; only the log can tell whether there is more."""
    assert found == window(2, 5).begin(start, asked)


@pytest.mark.parametrize("start", [Start("offset", 3), Start("latest"), Start("last", 1), Start("offset", 9)])
def test_a_reader_of_a_closed_topic_begins_when_the_log_has_said_that_it_still_is(start: Start) -> None:
    """It may have been deleted, and be open again; otherwise any offset past its end is its end."""
    ended = window(2, 5, closed=True)
    assert Unknown.ASK is ended.begin(start)
    found = ended.begin(start, 5)
    assert isinstance(found, Begin)
    if found.offset >= 5:
        assert End(5) == ended.next(*found)


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        (1, Reset(1, 2, 5)),
        (2, Missing.OLDER),
        (3, Chunk(3, lines(3, 5), 5)),
        (4, Chunk(4, lines(4, 5), 5)),
        (5, Missing.NEWER),
        (7, Missing.NEWER),
    ],
)
def test_what_a_reader_gets_next(offset: int, found: object) -> None:
    """`[2, 5)` is known, 3 and 4 are in memory. What lies below the head is a reset, whoever has learnt of that."""
    assert found == window(2, 5, ring=3).next(offset, 0)


def test_a_head_that_moved_into_memory_hides_what_lies_below_it() -> None:
    """Also from a reader that had begun before."""
    known = window(0, 5, ring=1)
    assert Chunk(2, lines(2, 5), 5) == known.next(2, 0)
    known.learn(HeadMoved(4))
    assert Reset(2, 4, 5) == known.next(2, 0)
    assert Chunk(4, lines(4, 5), 5) == known.next(4, 0)


def test_an_offset_from_before_the_counter_was_lost_is_a_reset() -> None:
    """Also where the topic has that offset again."""
    known = window(0, 5, ring=0)
    known.learn(Located(0, 1, closed=False, asked_at=5))
    known.learn(batch(1, 9))
    assert Reset(4, 0, 9) == known.next(4, 0)
    assert Chunk(4, lines(4, 9), 9) == known.next(4, 1)


def test_memory_that_is_given_up_is_older() -> None:
    """Nothing is lost, but has to be read again."""
    known = window(0, 5, ring=0)
    assert len(lines(4, 5)) == known.give_up(len(lines(0, 4)))
    assert Missing.OLDER is known.next(3, 0)
    assert Chunk(4, lines(4, 5), 5) == known.next(4, 0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30))
def test_news_in_any_order_make_one_log(parts: list[tuple[int, int]]) -> None:
    """Doubled, overlapping, early and late: each message is taken once, at its offset."""
    known = window(0, 0)
    for first, second in parts:
        start, stop = min(first, second), max(first, second)
        before = known.tail
        learnt = known.learn(batch(start, stop))
        assert known.tail == (max(before, stop) if start <= before else before)
        assert learnt.arrived == known.tail - before
        assert learnt.gap == (start > before)
        if known.tail:
            assert Chunk(0, lines(0, known.tail), known.tail) == known.next(0, 0)


class Follows(RuleBasedStateMachine):
    """A log, the window of it, and a reader: it gets each message once and in order, or is told what is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.tail = 0
        self.closed = False
        self.known = Window(encoded, 60)
        self.said: list[News] = []
        self.offset = 0
        self.epoch = 0

    @initialize(head=st.integers(0, 5), count=st.integers(0, 5))
    def begin(self, head: int, count: int) -> None:
        self.head, self.tail = head, head + count
        self.locate()
        self.offset = self.tail

    @precondition(lambda self: not self.closed)
    @rule(count=st.integers(1, 4), kept=st.integers(0, 6), close=st.booleans())
    def write(self, count: int, kept: int, close: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        first, self.tail = self.tail, self.tail + count
        self.head = max(self.head, self.tail - kept - count)
        self.closed = close
        self.said.append(batch(first, self.tail, closed=close, head=self.head))

    @rule(count=st.integers(1, 4))
    def truncate(self, count: int) -> None:
        self.head = min(self.head + count, self.tail)
        self.said.append(batch(self.tail, self.tail, closed=self.closed, head=self.head))

    @rule(data=st.data())
    def news_come(self, data: st.DataObject) -> None:
        """Any of them, also again, and also long after others."""
        if self.said:
            self.known.learn(data.draw(st.sampled_from(self.said)))

    @rule(limit=st.integers(1, 8))
    def pull(self, limit: int) -> None:
        at = self.known.tail
        if at < self.head:
            self.known.learn(HeadMoved(self.head))
        else:
            stop = min(self.tail, at + limit)
            self.known.learn(batch(at, stop, closed=self.closed and stop == self.tail, head=self.head))

    @rule()
    def locate(self) -> None:
        self.known.learn(Located(self.head, self.tail, self.closed, self.known.tail))

    @rule()
    def lose_the_counter(self) -> None:
        if self.known.tail > 3:
            self.head, self.tail, self.closed = 0, 2, False
            self.said.clear()
            self.locate()

    @rule(size=st.integers(1, 40))
    def give_up(self, size: int) -> None:
        self.known.give_up(size)

    @rule()
    def read(self) -> None:
        found = self.known.next(self.offset, self.epoch)
        if isinstance(found, Chunk):
            assert found.offset == self.offset
            assert found.data == lines(found.offset, found.next_offset)
            assert found.offset < found.next_offset <= self.known.tail
            self.offset = found.next_offset
        elif isinstance(found, Reset):
            assert (self.offset, self.known.head) == (found.requested, found.head)
            assert self.epoch != self.known.epoch or found.requested < found.head
            self.offset, self.epoch = found.head, self.known.epoch
        elif found is Missing.OLDER:
            self.offset = self.known.ring.base  # it reads that part again
        elif isinstance(found, End):
            assert found.next_offset == self.known.tail <= self.offset

    @invariant()
    def it_knows_no_more_than_there_is(self) -> None:
        if self.known.located:
            assert self.known.head <= self.head
            assert self.known.tail <= self.tail
            assert self.known.head <= self.known.ring.base <= self.known.tail
            assert self.known.ring.size <= 60

    def teardown(self) -> None:
        """In the end, two pulls bring whatever has happened."""
        for _ in range(2):
            self.pull(100)
        assert (self.head, self.tail, self.closed) == (self.known.head, self.known.tail, self.known.closed)


TestFollows = Follows.TestCase


def test_learnt_is_changed_whenever_a_reader_may_get_something_else() -> None:
    """What is woken depends on nothing but that: no way of learning can forget to wake."""
    for news in (batch(5, 6), HeadMoved(4), Located(3, 5, closed=True, asked_at=5), batch(5, 5, closed=True)):
        known = window(2, 5, ring=3)
        before = [known.next(at, 0) for at in range(2, 8)]
        learnt = known.learn(news)
        assert replace(learnt, changed=before != [known.next(at, 0) for at in range(2, 8)]) == learnt
