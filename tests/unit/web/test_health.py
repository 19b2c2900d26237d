"""When a process should get new streams, and when it is ready: not the same."""

from __future__ import annotations

import pytest

from restate_pubsub.errors import Unavailable
from restate_pubsub.web.health import Health


class Ingress:
    """A Restate that answers as told."""

    name = "pubsub"

    def __init__(self) -> None:
        self.has: list[str] | None = None

    async def services(self) -> list[str]:
        if self.has is None:
            msg = "Restate cannot be reached"
            raise Unavailable(msg)
        return self.has


@pytest.fixture
def restate() -> Ingress:
    """Return a Restate that is away."""
    return Ingress()


@pytest.fixture
def health(restate: Ingress) -> Health:
    """Return the health of a process beside it."""
    return Health(restate, lambda _ready: None)  # type: ignore[arg-type]  # what it uses of an Ingress


async def test_a_process_that_never_saw_restate_gets_no_streams(health: Health) -> None:
    """Its settings may be wrong: a rollout must stop here."""
    assert health.not_serving == "Restate was not asked yet"
    await health.check()
    assert health.not_serving == "Restate cannot be reached"


async def test_the_object_need_not_be_registered_for_streams(restate: Ingress, health: Health) -> None:
    """The registration comes after the pods are ready."""
    restate.has = []
    await health.check()
    assert health.not_serving is None
    assert "run `restate-pubsub register`" in str(health.not_ready)


async def test_an_outage_of_restate_does_not_send_streams_away(restate: Ingress, health: Health) -> None:
    """There is nowhere better: all processes see it, and a stream waits where a refused browser gives up."""
    restate.has = ["pubsub"]
    await health.check()
    assert health.not_ready is None
    restate.has = None
    await health.check()
    assert health.not_serving is None
    assert health.not_ready == "Restate cannot be reached"


async def test_a_process_that_drains_gets_no_streams(restate: Ingress, health: Health) -> None:
    """Whatever Restate does."""
    restate.has = ["pubsub"]
    await health.check()
    health.draining = True
    assert str(health.not_serving).startswith("draining")
