"""The service's clock differs from Restate's: nothing ends before its time."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, topic_name

FAKETIME = shutil.which("faketime")
pytestmark = pytest.mark.skipif(FAKETIME is None, reason="faketime is missing: `make debian-packages`")


@pytest.fixture(scope="module", params=["-40s", "+40s"])
async def apart(request: pytest.FixtureRequest, restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service whose clock is 40 s behind Restate's, or ahead of it."""
    service = Service(
        restate, program=("-m", "restate_pubsub"), PUBSUB_OBJECT_NAME=f"apart{request.param[0]}".replace("+", "a"),
        PUBSUB_RETAIN_IDLE="60s",
    )  # fmt: skip
    preload = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    service.env |= {"LD_PRELOAD": preload, "FAKETIME": request.param, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    await service.start()
    yield service
    await service.stop()


async def test_a_pull_takes_the_time_that_it_was_given(restate: RestateServer, apart: Service) -> None:
    """Never less; more by the difference at most, where the service's clock is ahead."""
    began = time.monotonic()
    body = {"offset": 0, "timeout": 3}
    status, _ = await call(restate, topic_name(), "pull", body, name=apart.env["PUBSUB_OBJECT_NAME"])
    assert status == 408
    assert 2.0 <= time.monotonic() - began <= (50.0 if apart.env["FAKETIME"] == "+40s" else 10.0)


async def test_a_message_is_not_deleted_before_its_time(restate: RestateServer, apart: Service) -> None:
    """A topic that is to go after a minute is there after some seconds."""
    topic, name = topic_name(), apart.env["PUBSUB_OBJECT_NAME"]
    assert (await call(restate, topic, "publish", "kept", name=name))[0] == 200
    await asyncio.sleep(3)  # what must not happen in this time has no event
    assert (await call(restate, topic, "info", ..., name=name))[1]["head"] == 0
