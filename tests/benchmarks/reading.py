"""Reading a long topic from its beginning, over one stream."""

from __future__ import annotations

import asyncio
import time

from benchmarks.contenders import Contender
from benchmarks.field import Field
from benchmarks.messages import message
from benchmarks.plan import Plan, turns
from benchmarks.processes import cpu_seconds
from benchmarks.stats import Results
from support.harness import topic_name

WRITERS = 32
COMPARED = 2_000
"""So many messages the reference reads in seconds; at 10,000 its process ended before the read did."""
READ_SECONDS = 150.0


async def read(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Read a long topic over one stream: first by nobody's cache, then again at once."""
    both: list[Contender] = [field.ours, field.eager]
    samples = [(contender, COMPARED) for contender in turns(both, repetition)]
    if plan.read_messages > COMPARED:
        samples.append((field.ours, plan.read_messages))
    for contender, count in samples:
        name = f"{contender.name}, {count:,} messages"
        topic = topic_name()
        bodies = [message() for _ in range(count - 1)] + [message("e")]
        if contender.batches:
            for first in range(0, len(bodies), 1000):
                await contender.append(topic, bodies[first : first + 1000])
        else:
            await _one_by_one(contender, topic, bodies)
        for metric in ("cold", "warm"):
            await field.calm()
            service, restate = cpu_seconds(contender.pids), cpu_seconds(field.restate_pids)
            began = time.perf_counter()
            try:
                took = await _read_once(contender.ports[0], contender.path(topic))
            except (TimeoutError, EOFError) as error:
                what = "the stream ended" if isinstance(error, EOFError) else "it was not done"
                results.note("read", f"{name}, {metric}: {what} after {time.perf_counter() - began:.0f} s.")
                break
            results.add("read", name, metric, "ms", took * 1000)
            service, restate = cpu_seconds(contender.pids) - service, cpu_seconds(field.restate_pids) - restate
            results.add("read", name, f"{metric}: CPU, service", "ms", service * 1000)
            results.add("read", name, f"{metric}: CPU, Restate", "ms", restate * 1000)


async def _one_by_one(contender: Contender, topic: str, bodies: list[bytes]) -> None:
    """Publish as a contender must that has no batches: the last one last, the others with many writers at a time."""
    rest = iter(bodies[:-1])

    async def write() -> None:
        for body in rest:
            await contender.publish(topic, body)

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    await contender.publish(topic, bodies[-1])


async def _read_once(port: int, path: str) -> float:
    """Return the seconds from connecting to having the last message."""
    marker = b'"k":"e"}'
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    tail = b""
    try:
        async with asyncio.timeout(READ_SECONDS):
            while marker not in tail:
                chunk = await reader.read(2**20)
                if not chunk:
                    raise EOFError
                tail = (tail + chunk)[-64:]
        return time.perf_counter() - began
    finally:
        writer.close()
