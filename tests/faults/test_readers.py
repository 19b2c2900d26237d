"""Readers that misbehave: one that takes nothing for long, and hundreds that come and vanish."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, topic_name
from support.traffic import FULL, UNLIMITED, Writers, agree, reading, report
from support.waiting import until

PATCHED = (str(Path(__file__).parent / "patched.py"),)
FREEZE = 60.0 if FULL else 15.0
SEND_TIMEOUT = 30 if FULL else 3
CHURN = 60.0 if FULL else 10.0
VISITORS = 500 if FULL else 200
STAY = 6.0
"""A visitor's longest stay, in seconds."""
SMALL_BUFFER = 32 * 1024
MESSAGE_BYTES = 32 * 1024
GROWTH_KILOBYTES = 15_000
"""What a process of 100 MB may hold more after thousands of streams: freed memory that the allocator keeps."""


async def test_a_reader_that_stops_reading_is_cut_and_comes_back(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """Nobody else notices; later it goes on where it was."""
    service = await Service(restate, PUBSUB_SEND_TIMEOUT=f"{SEND_TIMEOUT}s").start()
    parts.push_async_callback(service.stop)
    async with (
        Writers(restate.ingress_url, topic, padding=MESSAGE_BYTES) as writers,
        reading([service.topic_url(topic)] * 4) as others,
        reading([service.topic_url(topic)], buffer=SMALL_BUFFER) as (frozen,),
    ):
        await writers.some()
        since = time.monotonic()
        frozen.reading.clear()
        await asyncio.sleep(FREEZE)
        assert await service.metric("restate_pubsub_slow_readers_total") == 1
        frozen.reading.set()
        await writers.some()
        await writers.stop()
        await agree(writers, [*others, frozen])
        assert {1} == {reader.connects for reader in others}
        assert 2 == frozen.connects
        report(f"a reader takes nothing for {FREEZE:g} s: the others", writers, others, since)
        report(f"a reader takes nothing for {FREEZE:g} s: itself", writers, [frozen], since)


async def visit(port: int, path: str, until_then: float) -> int:
    """Connect and vanish at random, again and again; return how often."""
    visits = 0
    while time.monotonic() < until_then:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(random.uniform(0, STAY)):
                while await reader.read(65536):
                    pass
        visits += 1
        if random.random() < 0.5:
            writer.transport.abort()  # a reset
        else:
            writer.close()
    return visits


async def holds(service: Service, answer: Path) -> dict[str, Any]:
    """Ask the patched process what it holds."""
    before = contents(answer)
    assert service.process is not None
    service.process.send_signal(signal.SIGUSR1)
    text = await until(lambda: (text := contents(answer)) != before and text, "the report")
    held: dict[str, Any] = json.loads(text)
    return held


def contents(file: Path) -> str:
    """Return a file's text; nothing if there is none."""
    return file.read_text() if file.exists() else ""


async def test_readers_that_come_and_vanish_leave_nothing_behind(
    restate: RestateServer, parts: contextlib.AsyncExitStack, topic: str
) -> None:
    """No task, no reader, no memory; gauges return to zero; and those who stay notice nothing."""
    answer = restate.base_dir / "holds.json"
    service = Service(restate, program=PATCHED, HOLDS=str(answer), PUBSUB_FEED_LINGER="1s", env=UNLIMITED)
    await service.start()
    parts.push_async_callback(service.stop)
    paths = [f"/pubsub/{name}" for name in (topic, *(topic_name() for _ in range(19)))]

    async def churn(seconds: float) -> int:
        end = time.monotonic() + seconds
        visits = [visit(service.port, random.choice(paths), end) for _ in range(VISITORS)]
        return sum(await asyncio.gather(*visits))

    async def gone() -> bool:
        gauges = [await service.metric(f"restate_pubsub_{name}") for name in ("streams", "topics", "ring_bytes")]
        return gauges == [0, 0, 0]

    async def tasks_ended() -> bool:
        now = await holds(service, answer)
        return bool(now["tasks"] <= idle["tasks"] + 4)

    idle = await holds(service, answer)
    await churn(CHURN / 2)  # what a process takes once, it keeps
    await until(gone, "the gauges to return to zero")
    before = await holds(service, answer)
    async with (
        Writers(restate.ingress_url, topic, pause=0.2) as writers,
        reading([service.topic_url(topic)] * 4) as readers,
    ):
        since = time.monotonic()
        visits = await churn(CHURN)
        await writers.stop()
        await agree(writers, readers)
        assert {1} == {reader.connects for reader in readers}
        report(f"{VISITORS} readers come and vanish, {visits} times in all: those who stay", writers, readers, since)
    await until(gone, "the gauges to return to zero")
    await until(tasks_ended, "its tasks to end")
    after = await holds(service, answer)
    print(f"FAULT held before, after a warm-up, and after: {idle} {before} {after}")
    assert 0 == after["readers"]
    assert after["kilobytes"] < before["kilobytes"] + GROWTH_KILOBYTES
