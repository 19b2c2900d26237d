"""From publish to reader: how late a message is, by the number of readers and by the rate of messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.contenders import Contender
from benchmarks.crowd import Found, crowd
from benchmarks.field import Field
from benchmarks.messages import SIZE, message
from benchmarks.plan import END_SECONDS, Plan, turns
from benchmarks.processes import cpu_seconds
from benchmarks.stats import Results, percentile
from support.harness import topic_name


async def latency_by_readers(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """20 messages/s to a growing number of readers."""
    ours: list[Contender] = [field.ours, field.other, field.two, field.granian]
    everybody: list[Contender] = [*ours, field.published, field.eager, field.nchan, *field.peers, field.broadcast]
    for readers in plan.readers:
        if readers == 1:
            await _floor(field, plan, results, _Point("latency-readers", readers, readers, 20))
        for contender in turns(everybody, repetition):
            if contender in (field.published, field.eager) and readers > plan.reference_readers:
                continue
            await _latency(field, plan, results, contender, _Point("latency-readers", readers, readers, 20))


async def latency_by_rate(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """A growing rate of messages to one reader."""
    everybody: list[Contender] = [field.ours, field.other, field.published, field.eager, field.nchan]
    for rate in plan.rates:
        await _floor(field, plan, results, _Point("latency-rate", rate, 1, rate))
        for contender in turns(everybody, repetition):
            await _latency(field, plan, results, contender, _Point("latency-rate", rate, 1, rate))


@dataclass(frozen=True, slots=True)
class _Point:
    """One point of a curve."""

    measure: str
    x: int
    readers: int
    rate: int


async def _latency(field: Field, plan: Plan, results: Results, contender: Contender, point: _Point) -> None:
    await field.calm()
    measure, x = point.measure, point.x
    topic = topic_name()
    async with crowd(contender.ports, [contender.path(topic)], point.readers) as readers:
        await contender.publish(topic, message("w"))
        await readers.ready()
        service, restate = cpu_seconds(contender.pids), cpu_seconds(field.restate_pids)
        sent, acks = await at_rate(contender, topic, point.rate, plan.sample_seconds)
        service, restate = cpu_seconds(contender.pids) - service, cpu_seconds(field.restate_pids) - restate
        late, missing = lateness(await readers.found(END_SECONDS), sent)
    found = {
        ("p50", "ms"): percentile(late, 0.5),
        ("p99", "ms"): percentile(late, 0.99),
        ("ack p50", "ms"): percentile(acks, 0.5),
        ("p50 after the ack", "ms"): percentile(late, 0.5) - percentile(acks, 0.5),
        ("CPU, service", "%"): 100 * service / plan.sample_seconds,
        ("CPU, Restate", "%"): 100 * restate / plan.sample_seconds,
    }
    for (metric, unit), value in found.items():
        results.add(measure, contender.name, metric, unit, value, at=str(x), x=x)
    if missing:
        text = (
            f"{contender.name} at {x}: {missing} deliveries had not arrived {END_SECONDS:g} s after the last publish."
        )
        results.note(measure, text)


async def _floor(field: Field, plan: Plan, results: Results, point: _Point) -> None:
    """Call the handler that does nothing at the same rate: machines answer the slower, the more they may rest."""
    await field.calm()
    _, acks = await at_rate(field.floor, topic_name(), point.rate, plan.sample_seconds)
    results.add(point.measure, field.floor.name, "ack p50", "ms", percentile(acks, 0.5), at=str(point.x), x=point.x)


class _Publishes(Protocol):
    async def publish(self, topic: str, message: bytes) -> None: ...


async def at_rate(
    contender: _Publishes, topic: str, rate: float, seconds: float, *, size: int = SIZE
) -> tuple[list[float], list[float]]:
    """Publish at a fixed rate, whatever the answers do; return when each was sent (s) and its acknowledgement (ms)."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent: list[float] = []
    acks: list[float] = []
    calls = []

    async def one() -> None:
        at = time.perf_counter()
        await contender.publish(topic, message(size=size))
        acks.append((time.perf_counter() - at) * 1000)

    for tick in range(max(int(rate * seconds), 1)):
        await asyncio.sleep(began + tick / rate - loop.time())
        sent.append(time.monotonic())
        calls.append(asyncio.create_task(one()))
    await asyncio.gather(*calls)
    await contender.publish(topic, message("e"))
    return sent, acks


def lateness(found: Sequence[Found], sent: Sequence[float]) -> tuple[list[float], int]:
    """Return the latencies in ms, and how many messages were not seen to arrive, which count as late as the end."""
    over = time.monotonic()
    late: list[float] = []
    missing = 0
    for part in found:
        for latencies in part.latencies:
            late.extend(micros / 1000 for micros in latencies)
            absent = sent[len(latencies) :]
            missing += len(absent)
            late.extend((over - at) * 1000 for at in absent)
    return late, missing
