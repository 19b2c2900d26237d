"""What `join` costs a writer: the same token streams with it and without, in turns."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.crowd import crowd
from benchmarks.field import Field
from benchmarks.latency import lateness
from benchmarks.messages import message
from benchmarks.plan import END_SECONDS, Plan, turns
from benchmarks.processes import cpu_seconds
from benchmarks.stats import Results, percentile
from benchmarks.tokens import due_times, stream_writers, talk
from support.harness import topic_name

WITH, WITHOUT = "with join", "without"
TIMED = r"@(\d+) "
"""When a token of a joined text was due: a joined message has several."""


def spoken(due: float) -> dict[str, Any]:
    """Return a token whose text says when it was due, so that tokens differ in their text alone."""
    return {"text": f"word @{int(due * 1e9)} "}


async def joining(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Run concurrent streams of 50 tokens/s with one reader each, with `join` and without."""
    for streams in plan.joining_streams:
        for pair in range(plan.joining_pairs):
            for name in turns((WITH, WITHOUT), repetition + pair):
                await _streams(field, plan, results, streams, name)


async def _streams(field: Field, plan: Plan, results: Results, streams: int, name: str) -> None:
    await field.calm()
    ours = field.ours
    topics = [topic_name() for _ in range(streams)]
    async with crowd(ours.ports, [ours.path(topic) for topic in topics], 1, timed=TIMED) as readers:
        await asyncio.gather(*(ours.publish(topic, message("w")) for topic in topics))
        await readers.ready()
        service, restate = cpu_seconds(ours.pids), cpu_seconds(field.restate_pids)
        dues = due_times(streams, plan.token_seconds)
        async with stream_writers(ours.ingress, topics, join="text" if name == WITH else None) as writes:
            await asyncio.gather(*(talk(write, due, spoken) for write, due in zip(writes, dues, strict=True)))
        service, restate = cpu_seconds(ours.pids) - service, cpu_seconds(field.restate_pids) - restate
        late, missing = lateness(await readers.found(END_SECONDS), dues[0])
    assert not missing, f"{name}, {streams} streams: {missing} tokens have not arrived"
    tokens = sum(map(len, dues))
    found = {
        ("p50", "ms"): percentile(late, 0.5),
        ("p95", "ms"): percentile(late, 0.95),
        ("CPU a token, service", "ms"): service / tokens * 1000,
        ("CPU a token, Restate", "ms"): restate / tokens * 1000,
    }
    for (metric, unit), value in found.items():
        results.add("joining", name, metric, unit, value, at=str(streams), x=streams)
