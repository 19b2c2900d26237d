"""What it costs to stand still: memory and CPU of open streams, and of topics that are read and not written."""

from __future__ import annotations

import asyncio
import time

from benchmarks.contenders import Contender
from benchmarks.crowd import Readers
from benchmarks.field import Field
from benchmarks.plan import Plan, turns
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.stats import Results
from support.harness import topic_name


async def idle(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Many streams of one topic, opened and then at rest, in a process that has done nothing else."""
    contenders: list[Contender] = [field.ours, field.nchan, *field.peers, field.eager]
    for like in turns(contenders, repetition):
        streams = plan.idle_streams if like is not field.eager else min(plan.idle_streams, plan.reference_readers)
        async with field.fresh(like) as contender:
            # One stream first: what every process needs once is not the price of a stream.
            first = await Readers.open(contender.ports[0], [contender.path(topic_name())], warm=False)
            await first.ready()
            await field.calm()
            await _idle(field, plan, results, contender, streams)
            await first.close()


async def _idle(field: Field, plan: Plan, results: Results, contender: Contender, streams: int) -> None:
    base_cpu, base_restate = await _rates(field, contender, plan.idle_seconds / 2)
    before, opening = resident_bytes(contender.pids), cpu_seconds(contender.pids)
    part = await Readers.open(contender.ports[0], [contender.path(topic_name())], per_path=streams, warm=False)
    try:
        await part.ready()
        opening = cpu_seconds(contender.pids) - opening
        await field.calm()
        memory = (resident_bytes(contender.pids) - before) / streams
        cpu, restate = await _rates(field, contender, plan.idle_seconds)
    finally:
        await part.close()
    name = f"{contender.name} ({streams:,} streams)"
    results.add("idle", name, "memory per stream", "KB", memory / 1000)
    results.add("idle", name, "1,000 connects: CPU", "s", 1000 * opening / streams)
    results.add("idle", name, "CPU, all streams", "% of a core", cpu - base_cpu)
    results.add("idle", name, "CPU, Restate", "% of a core", restate - base_restate)


async def _rates(field: Field, contender: Contender, seconds: float) -> tuple[float, float]:
    """Return the CPU of the contender and of Restate over a while, in percent of a core."""
    cpu, restate, began = cpu_seconds(contender.pids), cpu_seconds(field.restate_pids), time.monotonic()
    await asyncio.sleep(seconds)
    took = (time.monotonic() - began) / 100
    return (cpu_seconds(contender.pids) - cpu) / took, (cpu_seconds(field.restate_pids) - restate) / took


async def idle_topics(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Many topics, a reader on each, in which nothing happens: what it costs to find them, and to wait."""
    contenders: list[Contender] = [field.ours, field.eager, field.nchan, *field.peers]
    for contender in turns(contenders, repetition):
        await field.calm()
        memory = resident_bytes(contender.pids)
        _, base = await _rates(field, contender, min(plan.idle_topic_seconds, 10.0))
        paths = [contender.path(topic_name()) for _ in range(plan.idle_topics)]
        own, cpu = cpu_seconds(contender.pids), cpu_seconds(field.restate_pids)
        part = await Readers.open(contender.ports[0], paths, warm=False)
        try:
            await part.ready()
            await field.calm()  # a stream has its head before its topic is found
            own = cpu_seconds(contender.pids) - own
            memory = resident_bytes(contender.pids) - memory
            opening = cpu_seconds(field.restate_pids) - cpu
            service, restate = await _rates(field, contender, plan.idle_topic_seconds)
        finally:
            await part.close()
        per_thousand = 1000 / plan.idle_topics
        name = contender.name
        results.add("idle-topics", name, "opening 1,000: CPU, service", "s", own * per_thousand)
        results.add("idle-topics", name, "memory per topic", "KB", memory / plan.idle_topics / 1000)
        results.add("idle-topics", name, "opening one: CPU, Restate", "ms", 1000 * opening / plan.idle_topics)
        results.add("idle-topics", name, "1,000 topics: CPU, Restate", "% of a core", (restate - base) * per_thousand)
        results.add("idle-topics", name, "1,000 topics: CPU, service", "% of a core", service * per_thousand)
