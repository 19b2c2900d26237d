"""`python -m benchmarks.sizing`: measure what `restate-pubsub size` counts with, and check what it predicts.

CPU is counted, not time: a machine that others use as well makes everything late, and costs nearly the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from benchmarks.contenders import Ours
from benchmarks.crowd import Readers
from benchmarks.field import ROOM
from benchmarks.machine import describe
from benchmarks.messages import message
from benchmarks.processes import Ingress, cpu_seconds, resident_bytes
from benchmarks.tokens import Write, stream_writers
from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.commands.sizing import CHECKED, MB, MEASURED, Costs, Load, Use, told, use
from restate_pubsub.server.serving import raise_file_limit
from support.faults import Balancer
from support.harness import Service, restate_server, topic_name

SECONDS = 10.0
REST_SECONDS = 16.0
"""Longer than the time between two heartbeats."""
PULL_SECONDS = 600.0
"""What `PUBSUB_FEED_PULL_TIMEOUT` is if nobody says: so often a topic in which nothing happens is asked for again. Each
time is taken to cost what opening it costs, the connection of its stream included, since nobody waits that long here.
"""
SETTLE_SECONDS = 3.0
IDLE_STREAMS, IDLE_TOPICS = 2_000, 1_000
END_SECONDS = 30.0
HEAD = """
| replicas | | from the load | for the calls made | measured, median | least to most | error, load | error, calls |
|---|---|---|---|---|---|---|---|"""

PARTS: dict[str, Callable[[Use], float]] = {
    "service, cores": lambda found: found.service,
    "Restate, cores": lambda found: found.restate,
    "memory, MB": lambda found: found.memory / MB,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What a load took, and the calls that wrote in a second: fewer than asked for where tokens had to share one."""

    use: Use
    writes: float


@dataclass(frozen=True, slots=True)
class Replicas:
    """Some replicas with an object of their own, behind a balancer for Restate's calls."""

    restate: RestateServer
    ours: Ours

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds that the service and Restate have used."""
        assert self.restate.pid is not None
        return cpu_seconds(self.ours.pids), cpu_seconds([self.restate.pid])

    async def writes(self) -> float:
        """Return how many calls have written."""
        return sum([await service.metric("restate_pubsub_writes_total") for service in self.ours.services])

    @contextlib.asynccontextmanager
    async def reading(self, streams: Sequence[str], *, warm: bool) -> AsyncIterator[list[Readers]]:
        """Open a stream of each topic that is named, as often as it is named; each at a replica picked at random."""
        picked = random.Random(len(streams))
        at: dict[int, list[str]] = {port: [] for port in self.ours.ports}
        for topic in streams:
            at[picked.choice(self.ours.ports)].append(self.ours.path(topic))
        parts = [await Readers.open(port, paths, warm=warm) for port, paths in at.items() if paths]
        try:
            await asyncio.gather(*(part.ready() for part in parts))
            yield parts
        finally:
            for part in parts:
                await part.close()


@contextlib.asynccontextmanager
async def replicas(restate: RestateServer, count: int) -> AsyncIterator[Replicas]:
    """Start so many replicas, and write and read once, so that what everything costs once is not in any figure."""
    name = f"sizing-{topic_name()}"
    services = [Service(restate, **ROOM, PUBSUB_OBJECT_NAME=name) for _ in range(count)]
    ingress = Ingress(restate, name)
    try:
        for service in services:
            await service.start(register=False)
        async with Balancer(restate.base_dir, [service.port for service in services]) as balancer:
            await services[0].register(balancer.restate_url)
            found = Replicas(restate, Ours(services, ingress))
            await measure(found, Load(10 * count, count, 1, 10, 5, 0), seconds=2)
            yield found
    finally:
        await ingress.close()
        for service in services:
            await service.kill()


async def measure(at: Replicas, load: Load, seconds: float = SECONDS) -> Run:
    """Run a load, and return what it took."""
    topics = [topic_name() for _ in range(round(load.topics))]
    talking = topics[: round(load.talking)]
    await asyncio.gather(*(at.ours.publish(topic, message("w")) for topic in topics))
    async with at.reading([topic for topic in topics for _ in range(round(load.readers))], warm=True) as readers:
        await asyncio.sleep(SETTLE_SECONDS)
        calls = await at.writes()
        before, began = at.cpu(), time.monotonic()
        pace, count = load.tokens_per_second, round(load.tokens_per_second * seconds)
        async with stream_writers(at.ours.ingress, talking, load.linger) as writes:
            dues = (
                [began + (tick + number / len(talking)) / pace for tick in range(count)]
                for number in range(len(talking))
            )
            await asyncio.gather(*map(_talk, writes, dues))
        took, after = time.monotonic() - began, at.cpu()
        calls = (await at.writes() - calls) / took
        # The topics in which nobody talked end as well, so that every reader can say whether it had everything.
        await asyncio.gather(*(at.ours.publish(topic, message("e")) for topic in topics))
        found = await asyncio.gather(*(part.found(END_SECONDS) for part in readers))
        assert all(part.complete for part in found), "a reader did not get everything"
    service, restate = ((then - first) / took for first, then in zip(before, after, strict=True))
    return Run(Use(service, restate, resident_bytes(at.ours.pids)), calls)


async def _talk(write: Write, due: Sequence[float]) -> None:
    for at in due:
        await asyncio.sleep(at - time.monotonic())
        await write({"delta": "word ", "t": time.monotonic_ns(), "k": "m"})


async def _rates(at: Replicas, seconds: float = REST_SECONDS) -> tuple[float, float]:
    """Return what the service and Restate use while nothing is asked of them, in milliseconds a second."""
    await asyncio.sleep(SETTLE_SECONDS)
    before, began = at.cpu(), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    service, restate = (1000 * (then - first) / took for first, then in zip(before, at.cpu(), strict=True))
    return service, restate


async def costs(restate: RestateServer) -> Costs:
    """Measure every cost: each is what one more of it adds to a run that has it but once."""
    async with replicas(restate, 1) as one:
        memory = resident_bytes(one.ours.pids)
        rest = await _rates(one)
        async with one.reading([topic_name()] * IDLE_STREAMS, warm=False):
            streams = await _rates(one)
            stream_bytes = (resident_bytes(one.ours.pids) - memory) / IDLE_STREAMS
    async with replicas(restate, 1) as one:
        before, at_first, began = resident_bytes(one.ours.pids), one.cpu(), time.monotonic()
        async with one.reading([topic_name() for _ in range(IDLE_TOPICS)], warm=False):
            await asyncio.sleep(SETTLE_SECONDS)
            took = time.monotonic() - began
            opened = [1000 * (then - first) for first, then in zip(at_first, one.cpu(), strict=True)]
            topics = [(used - took * idle) / IDLE_TOPICS for used, idle in zip(opened, rest, strict=True)]
            topic_bytes = (resident_bytes(one.ours.pids) - before) / IDLE_TOPICS - stream_bytes
        # Twelve answers of eight calls a second: one token a call, then ten, to one reader and to thirty.
        single = Load(streams=12, readers=1, answers_per_second=1, answer_tokens=96, tokens_per_second=8, linger=0)
        many = Load(streams=360, readers=30, answers_per_second=1, answer_tokens=96, tokens_per_second=8, linger=0)
        full = Load(
            streams=360, readers=30, answers_per_second=1, answer_tokens=960, tokens_per_second=80, linger=0.125
        )
        some = Load(streams=72, readers=6, answers_per_second=1, answer_tokens=96, tokens_per_second=8, linger=0)
        alone, crowd, batches, together = [await measure(one, load) for load in (single, many, full, some)]
    async with replicas(restate, 3) as three:
        apart = await measure(three, some)

    def cpu(of: Run) -> tuple[float, float]:
        """Return what a call took, of the service and of Restate, whose rest is not counted."""
        return 1000 * of.use.service / of.writes, (1000 * of.use.restate - rest[1]) / of.writes

    # A call of `full` brings each reader as many messages more as tokens shared it.
    more = full.tokens / batches.writes - 1
    event = max(0.0, (cpu(batches)[0] - cpu(crowd)[0]) / full.readers / more)
    delivery = max(0.0, (cpu(crowd)[0] - cpu(alone)[0]) / (many.readers - single.readers) - event)
    handovers = told(some, 3)
    return Costs(
        write=cpu(alone)[0] - delivery - event,
        delivery=delivery,
        event=event,
        handover=max(0.0, (cpu(apart)[0] - cpu(together)[0]) / handovers),
        stream=max(0.0, (streams[0] - rest[0]) / IDLE_STREAMS),
        topic=max(0.0, topics[0] / PULL_SECONDS),
        restate_write=cpu(alone)[1],
        restate_handover=max(0.0, (cpu(apart)[1] - cpu(together)[1]) / handovers),
        restate_topic=max(0.0, topics[1] / PULL_SECONDS),
        restate_rest=rest[1],
        process_bytes=memory,
        stream_bytes=stream_bytes,
        topic_bytes=max(0.0, topic_bytes),
    )


async def run(repetitions: int, *, only_check: bool) -> None:
    """Measure the costs, then run the same load on one, two and three replicas."""
    print(f"{describe()['machine']}, {dt.datetime.now(dt.UTC):%Y-%m-%d}\nthe load checked: {CHECKED}")
    with tempfile.TemporaryDirectory(prefix="pubsub-sizing-", ignore_cleanup_errors=True) as folder:
        restate = restate_server(Path(folder), RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE="1GB")
        await restate.start()
        try:
            if not only_check:
                found = [await costs(restate) for _ in range(repetitions)]
                print("\n| cost | counted with | measured now, median | least to most |\n|---|---|---|---|")
                for part in fields(Costs):
                    values = [getattr(one, part.name) for one in found]
                    known, middle = asdict(MEASURED)[part.name], statistics.median(values)
                    print(f"| {part.name} | {known:.4g} | {middle:.4g} | {min(values):.4g} to {max(values):.4g} |")
            print(HEAD)
            for count in (1, 2, 3):
                async with replicas(restate, count) as at:
                    runs = [await measure(at, CHECKED) for _ in range(repetitions)]
                calls = [one.writes for one in runs]
                print(_row(count, "calls/s that write", (CHECKED.writes, statistics.median(calls)), calls))
                # The same with as many calls as were made: a busy machine's are slower, and more tokens share one.
                made = replace(CHECKED, linger=CHECKED.talking / statistics.median(calls))
                stated, called = use(CHECKED, MEASURED, count), use(made, MEASURED, count)
                for what, of in PARTS.items():
                    print(_row(count, what, (of(stated), of(called)), [of(one.use) for one in runs]), flush=True)
        finally:
            await restate.kill()


def _row(count: int, what: str, predicted: tuple[float, float], measured: Sequence[float]) -> str:
    middle = statistics.median(measured)
    stated, called = predicted
    spread = f"{min(measured):.3g} to {max(measured):.3g}"
    errors = f"{100 * (stated / middle - 1):+.0f} % | {100 * (called / middle - 1):+.0f} %"
    return f"| {count} | {what} | {stated:.3g} | {called:.3g} | {middle:.3g} | {spread} | {errors} |"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3, help="how often each is measured")
    parser.add_argument("--only-check", action="store_true", help="leave out measuring the costs")
    options = parser.parse_args()
    raise_file_limit()
    asyncio.run(run(options.repetitions, only_check=options.only_check))


if __name__ == "__main__":
    main()
