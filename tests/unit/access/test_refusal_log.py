"""Refusals in the log: each reason once in a while."""

from __future__ import annotations

from structlog.testing import capture_logs

from restate_pubsub.access.refusal_log import QUIET_SECONDS, REASONS, RefusalLog


def test_each_reason_is_said_once_in_a_while() -> None:
    """And how often it was not said meanwhile."""
    now = 0.0
    refusals = RefusalLog(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(5):
            refusals.note("token refused", "audience", "A")
        refusals.note("token refused", "ended")
        now = QUIET_SECONDS
        refusals.note("token refused", "audience", "A")
    assert lines == [
        {"event": "token refused", "log_level": "warning", "reason": "audience", "setting": "A"},
        {"event": "token refused", "log_level": "info", "reason": "ended"},
        {"event": "token refused", "log_level": "warning", "reason": "audience", "setting": "A", "unsaid": 4},
    ]


def test_made_up_reasons_fill_neither_the_log_nor_the_memory() -> None:
    """And they hide no reason of another kind, nor any for longer than a while."""
    now = 0.0
    refusals = RefusalLog(clock=lambda: now)
    with capture_logs() as lines:
        for at in range(10 * REASONS):
            refusals.note("origin refused", f"made up {at}", "A")
        refusals.note("token refused", "audience", "B")
        assert len(lines) == REASONS + 1
        assert sum(map(len, refusals._said.values())) == REASONS + 1
        now = QUIET_SECONDS
        refusals.note("origin refused", "another", "A")
    assert lines[-1]["reason"] == "another"
