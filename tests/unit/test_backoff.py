"""Waits between attempts."""

from __future__ import annotations

import itertools

import pytest

from restate_pubsub.backoff import Backoff, PollPace


def test_waits_double_up_to_the_longest_and_begin_again() -> None:
    """Without chance, they are whole."""
    backoff = Backoff(0.1, 0.5, chance=lambda: 0.0)
    assert [0.1, 0.2, 0.4, 0.5, 0.5] == [backoff.next() for _ in range(5)]
    backoff.reset()
    assert 0.1 == backoff.next()


def test_chance_takes_up_to_half_off() -> None:
    """And never more: a wait of nothing would be none."""
    backoff = Backoff(1.0, 1.0, chance=itertools.cycle([0.0, 0.5, 0.999]).__next__)
    assert [1.0, 0.75, pytest.approx(0.5005)] == [backoff.next() for _ in range(3)]
    assert len({Backoff(1.0, 1.0).next() for _ in range(20)}) > 1


def test_a_poll_that_ends_at_once_with_nothing_is_followed_by_longer_and_longer_waits() -> None:
    """Up to one call a second or so."""
    pace = PollPace(chance=lambda: 0.0)
    assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0] == [pace.after(0.0, 30.0, moved=False) for _ in range(7)]


@pytest.mark.parametrize(("took", "asked", "moved"), [(0.0, 30.0, True), (1.0, 30.0, False), (0.1, 0.1, False)])
def test_a_poll_that_brought_something_or_waited_is_asked_again_at_once(
    took: float, asked: float, *, moved: bool
) -> None:
    """And what was too fast before is forgotten."""
    pace = PollPace(chance=lambda: 0.0)
    assert 0.05 == pace.after(0.0, 30.0, moved=False)
    assert 0.0 == pace.after(took, asked, moved=moved)
    assert 0.05 == pace.after(0.0, 30.0, moved=False)
