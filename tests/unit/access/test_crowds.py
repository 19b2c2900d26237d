"""Refusals that mount for one address are said once, with what decides."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from restate_pubsub.access.crowds import ADDRESSES, MOUNTING, SECONDS, Crowds


@pytest.mark.parametrize(
    ("trusted", "entries", "advice"),
    [
        (0, 2, "requests name 2, and 0 are believed"),
        (1, 0, "1 proxies are believed, and requests name 0"),
        (0, 0, "let the proxy add its clients' addresses"),
        (1, 1, "right if the address is a client's own"),
    ],
)
def test_refusals_that_mount_are_said_once(trusted: int, entries: int, advice: str) -> None:
    """Not before there are many, and never again."""
    crowds = Crowds(trusted)
    with capture_logs() as lines:
        for _ in range(MOUNTING - 1):
            crowds.refused("192.0.2.1", entries=entries)
        crowds.refused("192.0.2.2", entries=entries)
        assert [] == lines
        for _ in range(3 * MOUNTING):
            crowds.refused("192.0.2.1", entries=entries)
    (line,) = lines
    assert ("warning", "192.0.2.1") == (line["log_level"], line["client"])
    assert "PUBSUB_TRUSTED_PROXIES" == line["setting"]
    assert advice in line["advice"]


def test_refusals_far_apart_do_not_mount() -> None:
    """Each while is counted by itself."""
    now = 0.0
    crowds = Crowds(0, clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(3):
            for _ in range(MOUNTING - 1):
                crowds.refused("192.0.2.1", entries=0)
            now += SECONDS
    assert [] == lines


def test_made_up_addresses_do_not_fill_the_memory() -> None:
    """No more are counted than there may be."""
    crowds = Crowds(1)
    for at in range(3 * ADDRESSES):
        crowds.refused(f"made up {at}", entries=1)
    assert ADDRESSES == len(crowds._refused)
