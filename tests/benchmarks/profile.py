"""Where the service's CPU goes: samples of its stacks, by the library that was at work."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from benchmarks.crowd import crowd
from benchmarks.field import Field
from benchmarks.latency import at_rate
from benchmarks.messages import message
from benchmarks.plan import END_SECONDS, Plan
from benchmarks.stats import Results
from support.harness import topic_name

SAMPLES_PER_SECOND = 250
LOADS = (("publishing", 100.0, 1), ("fanning out", 20.0, 500))
"""What, messages/s, readers."""
SOCKETS, LOOP = "sockets (the kernel)", "asyncio, waking tasks"
TOGETHER = {
    "h11": "hypercorn: HTTP/1.1 (h11)",
    **dict.fromkeys(("h2", "hpack", "hyperframe", "priority"), "hypercorn: HTTP/2 (h2)"),
    "hypercorn": "hypercorn: connections, ASGI",
    **dict.fromkeys(("sse_starlette", "anyio"), "sse-starlette, anyio"),
    "starlette": "starlette",
    "restate": "the SDK of Restate",
    "prometheus_client": "prometheus-client",
    "restate_pubsub": "restate-pubsub",
}


async def profile(field: Field, plan: Plan, results: Results, _repetition: int) -> None:
    """Take samples while one topic is written, with one reader and with many."""
    for what, rate, readers in LOADS:
        await field.calm()
        topic = topic_name()
        async with crowd(field.ours.ports, [field.ours.path(topic)], readers) as opened:
            await field.ours.publish(topic, message("w"))
            await opened.ready()
            async with _sampled(field.ours.pids[0], plan.sample_seconds) as stacks:
                await at_rate(field.ours, topic, rate, plan.sample_seconds)
            await opened.found(END_SECONDS)
        if not stacks:
            results.note("profile", "py-spy could not attach to the service: it needs root, or ptrace_scope 0.")
            return
        shares = _shares(stacks)
        for name in (*dict.fromkeys(TOGETHER.values()), SOCKETS, LOOP, "other"):
            results.add("profile", name, what, "% of its CPU", 100 * shares[name] / shares.total())


@contextlib.asynccontextmanager
async def _sampled(pid: int, seconds: float) -> AsyncIterator[list[str]]:
    """Sample a process for `seconds`; when the block has ended, the list holds its stacks, each with its count."""
    stacks: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pubsub-profile-") as folder:
        out = Path(folder) / "stacks"
        spy = Path(sys.executable).with_name("py-spy")
        options = ("--format", "raw", "--rate", str(SAMPLES_PER_SECOND), "--duration", str(int(seconds) or 1))
        process = await asyncio.create_subprocess_exec(
            str(spy),
            "record",
            *options,
            "--output",
            str(out),
            "--pid",
            str(pid),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        yield stacks
        await process.wait()
        if out.exists():
            stacks += out.read_text().splitlines()


def _shares(stacks: Iterable[str]) -> Counter[str]:
    """Count samples by the innermost library that is not Python's own: what it calls there is its doing."""
    found: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        found[_at_work(frames.split(";"))] += int(count)
    return found


def _at_work(frames: list[str]) -> str:
    innermost = frames[-1]
    if "_SelectorSocketTransport" in innermost or "select (selectors" in innermost:
        return SOCKETS
    for frame in reversed(frames):
        if "BaseEventLoop" in frame:
            return LOOP
        place = re.search(r"\(([^/:]+)/", frame)
        if place and place[1] in TOGETHER:
            return TOGETHER[place[1]]
    return "other"
