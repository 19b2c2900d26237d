"""Abandoned attempts: what is left out, and what stays because it may be somebody else's."""

from __future__ import annotations

import pytest

from restate_pubsub.protocol.abandoned import Gap, without_abandoned
from restate_pubsub.protocol.joined import Entry, Run
from restate_pubsub.protocol.messages import Message, restart_message

BEFORE, OTHER, AFTER = Message(b'"before"'), Message(b'"other"', "page"), Message(b'"after"')
BEGUN = Message(b'{"type":"TEXT_MESSAGE_START"}')
TEXT = Run(b'{"text":"Hello"}', None, 9, [3, 2])


def without_count(offset: int) -> Message:
    """Return what a version before wrote, which did not count."""
    return Message(b'{"id":"s","offset":%d}' % offset, "restart")


@pytest.mark.parametrize(
    ("attempt", "count"), [([BEGUN], 1), ([TEXT], 2), ([BEGUN, TEXT], 3), ([BEGUN, TEXT, BEGUN, TEXT], 6)]
)
def test_an_attempt_is_left_out_whatever_it_wrote(attempt: list[Entry], count: int) -> None:
    restart = restart_message("s", 1, count)
    entries: list[Entry] = [BEFORE, *attempt, restart, AFTER]
    assert [BEFORE, Gap((*attempt, restart)), AFTER] == without_abandoned(0, entries)


def test_several_attempts_are_left_out_as_one() -> None:
    first, second = restart_message("s", 1, 3), restart_message("s", 5, 2)
    entries: list[Entry] = [BEFORE, BEGUN, TEXT, first, TEXT, second, AFTER]
    assert [BEFORE, Gap((BEGUN, TEXT, first, TEXT, second)), AFTER] == without_abandoned(0, entries)


def test_what_others_wrote_meanwhile_stays_with_the_attempt() -> None:
    entries: list[Entry] = [BEFORE, BEGUN, OTHER, TEXT, restart_message("s", 1, 3), AFTER]
    assert entries == without_abandoned(0, entries)


def test_who_has_seen_some_of_the_attempt_is_told() -> None:
    entries: list[Entry] = [TEXT, restart_message("s", 1, 3), AFTER]
    assert entries == without_abandoned(2, entries)


def test_an_attempt_stays_until_something_covers_its_offsets() -> None:
    entries: list[Entry] = [BEFORE, BEGUN, TEXT, restart_message("s", 1, 3)]
    assert entries == without_abandoned(0, entries)


def test_a_version_before_did_not_count() -> None:
    """There only a run is certainly of one attempt."""
    entries: list[Entry] = [BEFORE, TEXT, without_count(1), AFTER]
    assert [BEFORE, Gap((TEXT, without_count(1))), AFTER] == without_abandoned(0, entries)
    entries = [BEFORE, BEGUN, TEXT, without_count(1), AFTER]
    assert entries == without_abandoned(0, entries)
