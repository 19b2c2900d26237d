"""Refusals in the log: each reason once in a while."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from restate_pubsub.access.refusal_log import QUIET_SECONDS, REASONS, RefusalLog


def test_each_reason_is_said_once_in_a_while() -> None:
    """And how often it was not said meanwhile."""
    now = 0.0
    refusals = RefusalLog(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(5):
            refusals.note("token refused", "expired", "A")
        refusals.note("token refused", "audience", "B")
        now = QUIET_SECONDS
        refusals.note("token refused", "expired", "A")
    assert [(line["reason"], line["setting"], line.get("unsaid")) for line in lines] == [
        ("expired", "A", None),
        ("audience", "B", None),
        ("expired", "A", 4),
    ]


@pytest.mark.parametrize("count", [REASONS * 10])
def test_made_up_reasons_take_no_memory(count: int) -> None:
    """Whatever comes from outside."""
    refusals = RefusalLog(clock=lambda: 0.0)
    with capture_logs() as lines:
        for at in range(count):
            refusals.note("token refused", f"made up {at}", "A")
    assert len(lines) == len(refusals._until) == REASONS
