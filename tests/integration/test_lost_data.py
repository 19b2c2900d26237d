"""Restate comes back without its data: what docs/runbook.md says of it, step by step."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.harness import Service, get, publish, restate_server, stream, topic_name
from support.waiting import until


async def test_registering_again_is_all_that_it_takes(tmp_path: Path) -> None:
    """Readiness says what is missing; then open streams go on, and a reader that was further is told so."""
    restate, topic = restate_server(tmp_path), topic_name()
    await restate.start()
    service = Service(restate, PUBSUB_HEALTH_INTERVAL="1s")
    try:
        await service.start()
        await publish(restate, topic, "one", "two", "three")
        async with stream(service.topic_url(topic)) as reader:
            assert [event.data for event in await reader.take(3)] == ["one", "two", "three"]
            await restate.kill()
            for left in restate.base_dir.iterdir():
                if left.is_dir():
                    shutil.rmtree(left)
            await restate.start()

            async def code() -> str | None:
                status, body, _ = await get(f"{service.url}/health/ready")
                return body["code"] if status == 503 else None

            async def missing() -> bool:
                return await code() == "object-missing"

            await until(missing, f"the service to notice:\n{service.log}")
            await service.register(service.url)
            await publish(restate, topic, "four")
            reset, four = await reader.take(2)
            assert (reset.event, reset.data) == ("reset", {"requested": 3, "head": 0, "tail": reset.data["tail"]})
            assert four.data == "four"
    finally:
        await service.stop()
        await restate.kill()
