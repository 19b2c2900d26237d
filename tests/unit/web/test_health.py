"""When a process should get new streams, and when it is ready: not the same."""

from __future__ import annotations

import pytest

from restate_pubsub.web.health import Health
from restate_pubsub.web.round_trip import Trouble

UNREACHABLE = Trouble("restate-unreachable", "Restate cannot be reached")
MISSING = Trouble("object-missing", "Restate does not have the object")


class Check:
    """A look that finds what it is told to."""

    def __init__(self) -> None:
        self.found: Trouble | None = UNREACHABLE

    async def trouble(self) -> Trouble | None:
        return self.found


@pytest.fixture
def restate() -> Check:
    """Return a Restate that is away."""
    return Check()


@pytest.fixture
def told() -> list[tuple[str | None, bool]]:
    """Return what the metrics were told."""
    return []


@pytest.fixture
def health(restate: Check, told: list[tuple[str | None, bool]]) -> Health:
    """Return the health of a process beside it."""

    def on_change(code: str | None, ready: bool) -> None:  # noqa: FBT001
        told.append((code, ready))

    return Health(restate, on_change)


async def test_a_process_that_never_saw_restate_gets_no_streams(health: Health) -> None:
    """Its settings may be wrong: a rollout must stop here."""
    assert health.not_serving == "Restate was not asked yet"
    assert health.code == "starting"
    await health.check()
    assert health.not_serving == "Restate cannot be reached"
    assert health.code == "restate-unreachable"


async def test_the_object_need_not_be_registered_for_streams(restate: Check, health: Health) -> None:
    """The registration comes after the pods are ready."""
    restate.found = MISSING
    await health.check()
    assert health.not_serving is None
    assert (health.not_ready, health.code) == (MISSING.reason, MISSING.code)


async def test_an_outage_of_restate_does_not_send_streams_away(restate: Check, health: Health) -> None:
    """There is nowhere better: all processes see it, and a stream waits where a refused browser gives up."""
    restate.found = None
    await health.check()
    assert health.not_ready is None
    restate.found = UNREACHABLE
    await health.check()
    await health.check()
    assert health.not_serving is None
    assert health.not_ready == "Restate cannot be reached"


async def test_one_late_answer_is_no_trouble(
    restate: Check, health: Health, told: list[tuple[str | None, bool]]
) -> None:
    """Two in a row are: a busy Restate must not make a process flap."""
    restate.found = None
    await health.check()
    restate.found = UNREACHABLE
    await health.check()
    assert health.code is None
    restate.found = None
    await health.check()
    restate.found = UNREACHABLE
    await health.check()
    assert health.code is None
    await health.check()
    assert health.code == "restate-unreachable"
    restate.found = None
    await health.check()
    assert told[-2:] == [("restate-unreachable", False), (None, True)]


async def test_a_process_that_drains_gets_no_streams(restate: Check, health: Health) -> None:
    """Whatever Restate does."""
    restate.found = None
    await health.check()
    health.draining = True
    assert str(health.not_serving).startswith("draining")
    assert health.code == "draining"
