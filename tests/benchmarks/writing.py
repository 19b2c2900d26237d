"""What a write costs: acknowledgements, one topic's throughput, batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from benchmarks.contenders import Contender
from benchmarks.field import Field
from benchmarks.messages import message
from benchmarks.plan import Plan, turns
from benchmarks.stats import Results, percentile
from benchmarks.tokens import stream_writers
from support.harness import topic_name


async def acknowledgement(field: Field, plan: Plan, results: Results, _repetition: int) -> None:
    """Publish one at a time to a topic without readers; contenders take turns message by message."""
    names = {field.floor.name: field.floor.ingress, field.ours.name: field.ours.ingress}
    names["reference"] = field.eager.ingress
    topic = topic_name()
    took: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(plan.acks):
        for name, ingress in names.items():
            body = message()
            began = time.perf_counter()
            await ingress.call(topic, "publish", body)
            if turn >= 10:
                took[name].append((time.perf_counter() - began) * 1000)
    for name, values in took.items():
        for metric, share in (("p50", 0.5), ("p99", 0.99)):
            results.add("ack", name, metric, "ms", percentile(values, share))


async def throughput(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Publish into one topic for a while: one writer, sixteen, and batches."""

    async def pour(name: str, metric: str, writers: int, write: Callable[[], Awaitable[int]]) -> None:
        await field.calm()
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def writer() -> int:
            done = 0
            while loop.time() < began + plan.write_seconds:
                done += await write()
            return done

        done = sum(await asyncio.gather(*(writer() for _ in range(writers))))
        results.add("throughput", name, metric, "messages/s", done / (loop.time() - began))

    contenders: list[Contender] = [field.ours, field.eager]
    for contender in turns(contenders, repetition):

        async def one(contender: Contender = contender, topic: str = topic_name()) -> int:
            await contender.publish(topic, message())
            return 1

        await pour(contender.name, "one writer", 1, one)
        await pour(contender.name, "16 writers", 16, one)
        for size in (100, 1000) if contender.batches else ():

            async def many(contender: Contender = contender, topic: str = topic_name(), size: int = size) -> int:
                await contender.append(topic, [message() for _ in range(size)])
                return size

            await pour(contender.name, f"batches of {size}", 1, many)
    await field.calm()
    async with stream_writers(field.ours.ingress, [topic_name()]) as (write,):
        began, written = time.perf_counter(), 0
        while time.perf_counter() < began + plan.write_seconds:
            await write({"delta": "word "})
            written += 1
    seconds = time.perf_counter() - began  # leaving the block waited for the last batch
    results.add("throughput", field.ours.name, "client.stream", "messages/s", written / seconds)


async def batch(field: Field, _plan: Plan, results: Results, _repetition: int) -> None:
    """Append 1,000 messages of 200 bytes in one call, beside single publishes, in turns."""
    await field.calm()
    single: list[float] = []
    many: list[float] = []
    for _ in range(10):
        topic = topic_name()
        for kept, count in ((single, 1), (many, 1000)):
            bodies = [message() for _ in range(count)]
            began = time.perf_counter()
            await (field.ours.publish(topic, bodies[0]) if count == 1 else field.ours.append(topic, bodies))
            kept.append((time.perf_counter() - began) * 1000)
    name = field.ours.name
    results.add("batch", name, "one publish", "ms", percentile(single, 0.5))
    results.add("batch", name, "append of 1,000", "ms", percentile(many, 0.5))
    results.add("batch", name, "append / publish", "times", percentile(many, 0.5) / percentile(single, 0.5))
