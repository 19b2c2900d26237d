"""What was dropped is shown to nobody who comes afterwards, even if no pull of the topic waits just then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, stream

PROGRAM = (str(Path(__file__).parent / "never_waits.py"),)
OBJECT = "never-waits"


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service whose writes find nobody who waits."""
    service = await Service(restate, program=PROGRAM, PUBSUB_OBJECT_NAME=OBJECT).start()
    yield service
    await service.kill()


@pytest.mark.parametrize(("handler", "body"), [("truncate", 2), ("delete", None)])
async def test_nobody_waits(
    service: Service, restate: RestateServer, topic: str, handler: str, body: int | None
) -> None:
    """Whoever reads the topic keeps its messages in the process's memory; who comes then is told that they are gone."""
    for n in range(3):
        assert (await call(restate, topic, "publish", n, name=OBJECT))[0] == 200
    async with stream(service.topic_url(topic, "offset=0")) as before:
        assert [event.id for event in await before.take(3)] == ["1", "2", "3"]
        assert (await call(restate, topic, handler, body, name=OBJECT))[0] == 200
        async with stream(service.topic_url(topic, "offset=0")) as after:
            assert (await after.next()).event == "reset"
