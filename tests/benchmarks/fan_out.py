"""Deliveries: one topic, 500 readers, as fast as each can."""

from __future__ import annotations

import asyncio
import time

from benchmarks.contenders import Contender, Ours
from benchmarks.crowd import crowd
from benchmarks.field import Field
from benchmarks.messages import message
from benchmarks.plan import Plan, turns
from benchmarks.processes import cpu_seconds
from benchmarks.stats import Results
from support.harness import topic_name

FAN_OUT_READERS = 500


async def fan_out(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """As many messages of 200 bytes to 500 readers as each can take: in batches where there are any, and one by one."""
    everybody: list[Contender] = [field.ours, field.two, field.granian, field.nchan, *field.peers, field.broadcast]
    for contender in turns(everybody, repetition):
        for size in (100, 1) if contender.batches else (1,):
            slow = isinstance(contender, Ours) and size == 1
            total = plan.fan_out_messages // (10 if slow else 1)
            await _fan_out(field, results, contender, total, size)
    if repetition == 0:
        await _fan_out(field, results, field.eager, 20, 1)


async def _fan_out(field: Field, results: Results, contender: Contender, total: int, size: int) -> None:
    await field.calm()
    topic = topic_name()
    name = f"{contender.name}, batches of {size}" if size > 1 else f"{contender.name}, one by one"
    readers = FAN_OUT_READERS if contender is not field.eager else 50
    async with crowd(contender.ports, [contender.path(topic)], readers, probes=0) as opened:
        await contender.publish(topic, message("w"))
        await opened.ready()
        cpu, began = cpu_seconds(contender.pids), time.monotonic()
        if size > 1:
            for _ in range(0, total, size):
                await contender.append(topic, [message() for _ in range(size)])
        else:
            todo = iter(range(total))

            async def writer() -> None:
                for _ in todo:
                    await contender.publish(topic, message())

            await asyncio.gather(*(writer() for _ in range(16)))
        await contender.publish(topic, message("e"))
        found = await opened.found(60)
        cpu = cpu_seconds(contender.pids) - cpu
    if not all(part.complete for part in found):
        results.note("fan-out", f"{name}: not every reader had everything after 60 s.")
        return
    deliveries, seconds = total * readers, max(part.ended_at for part in found) - began
    results.add("fan-out", name, "deliveries/s", "1/s", deliveries / seconds)
    results.add("fan-out", name, "deliveries per CPU second", "1/s", deliveries / max(cpu, 0.01))
    busy = sum(part.cpu for part in found)
    results.add("fan-out", name, "readers' process, busy", "%", 100 * busy / seconds)
