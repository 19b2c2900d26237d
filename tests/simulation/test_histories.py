"""Random histories, the same ones each time; `make soak` goes on for as long as it is asked to."""

from __future__ import annotations

import pytest

from simulation.histories import History, shrink
from simulation.world import FULL, HISTORIES

COUNT = 1000 if FULL else HISTORIES
PARTS = 20


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_the_guarantee_holds(part: int) -> None:
    """Kills, crashes, other settings, late and doubled sends, readers that come and go, in any order."""
    for seed in range(part, COUNT, PARTS):
        try:
            History(seed).run()
        except Exception as error:
            shortest = shrink(seed)
            msg = f"seed {seed}: {error!r}; the shortest such history: {shortest.steps}"
            raise AssertionError(msg) from error
