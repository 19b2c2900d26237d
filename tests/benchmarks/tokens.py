"""Token streams: how late a token is on the screen when many models talk at once, each into a topic of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Contender, Ours
from benchmarks.crowd import crowd
from benchmarks.field import Field
from benchmarks.latency import lateness
from benchmarks.messages import message
from benchmarks.plan import END_SECONDS, Plan, turns
from benchmarks.processes import Ingress, cpu_seconds
from benchmarks.stats import Results, percentile
from restate_pubsub.client.pubsub_client import create_pubsub_client
from support.harness import topic_name

TOKENS_PER_SECOND = 50
HOLDS_MS = 250.0
"""A stream holds while its p95 is below this: later, and a reader sees the text stutter."""

LINGER = 0.1
"""The `linger` of the streams that have one: a tenth of a second, as people do not see a text stutter at that."""

Write = Callable[[dict[str, Any]], Awaitable[object]]


@contextlib.asynccontextmanager
async def stream_writers(
    ingress: Ingress, topics: Sequence[str], linger: float = 0.0, *, join: str | None = None
) -> AsyncIterator[list[Write]]:
    """Open a token stream of the client for each topic; leaving waits until everything is written."""
    client: Any = create_pubsub_client(ingress.url, ingress.name)
    async with client, contextlib.AsyncExitStack() as stack:
        streams = [client.stream(topic, linger=linger, join=join) for topic in topics]
        yield [(await stack.enter_async_context(stream)).write for stream in streams]


def _one_by_one(contender: Contender, field: Field, topic: str) -> Write:
    """Return a publish for each token; the reference's client sends one way."""

    async def write(token: dict[str, Any]) -> None:
        body = json.dumps(token, separators=(",", ":")).encode()
        if contender is field.eager:
            await field.eager.ingress.call(topic, "publish/send", body)
        else:
            await contender.publish(topic, body)

    return write


def token(due: float) -> dict[str, Any]:
    """Return a token that says when it was due."""
    return {"delta": "word ", "t": int(due * 1e9), "k": "m"}


def due_times(streams: int, seconds: float) -> list[list[float]]:
    """Return when the tokens of each stream are due. They are spread over a tick: models do not talk in step."""
    began = time.monotonic() + 0.05
    ticks = range(int(TOKENS_PER_SECOND * seconds))
    return [[began + (tick + at / streams) / TOKENS_PER_SECOND for tick in ticks] for at in range(streams)]


async def talk(write: Write, due: Sequence[float], said: Callable[[float], dict[str, Any]] = token) -> None:
    """Write a token at each of the due times; one that had to wait for its turn is late from then on."""
    for at in due:
        await asyncio.sleep(at - time.monotonic())
        await write(said(at))
    await write({"delta": ".", "t": time.monotonic_ns(), "k": "e"})


async def tokens(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Run concurrent streams of 50 tokens/s with one reader each."""
    contenders: list[tuple[Contender, float]] = [
        (field.ours, 0.0),
        (field.ours, LINGER),
        (field.two, 0.0),
        (field.three, 0.0),
    ]
    others: list[Contender] = [field.eager, field.nchan, *field.peers]
    for streams in plan.token_streams:
        for contender, linger in turns([*contenders, *((other, 0.0) for other in others)], repetition):
            # Where the reference is hopelessly behind, more of it only fills Restate with what nobody waits for.
            if contender is not field.eager or streams <= plan.reference_streams:
                await _tokens(field, plan, results, _Load(contender, streams, linger))


@dataclass(frozen=True, slots=True)
class _Load:
    contender: Contender
    streams: int
    linger: float

    @property
    def name(self) -> str:
        """The contender's name in the tables."""
        return f"{self.contender.name}, linger {self.linger:g} s" if self.linger else self.contender.name


async def _tokens(field: Field, plan: Plan, results: Results, load: _Load) -> None:
    await field.calm()
    contender, streams, name = load.contender, load.streams, load.name
    topics = [topic_name() for _ in range(streams)]
    async with crowd(contender.ports, [contender.path(topic) for topic in topics], 1) as readers:
        await asyncio.gather(*(contender.publish(topic, message("w")) for topic in topics))
        await readers.ready()
        cpu, restate = cpu_seconds(contender.pids), cpu_seconds(field.restate_pids)
        dues = due_times(streams, plan.token_seconds)
        began = dues[0][0]
        if isinstance(contender, Ours):
            async with stream_writers(contender.ingress, topics, load.linger) as writes:
                await asyncio.gather(*map(talk, writes, dues))
        else:
            await asyncio.gather(*map(talk, [_one_by_one(contender, field, topic) for topic in topics], dues))
        seconds = time.monotonic() - began
        cpu, restate = cpu_seconds(contender.pids) - cpu, cpu_seconds(field.restate_pids) - restate
        late, missing = lateness(await readers.found(END_SECONDS), dues[0])
    at = f"{streams}"
    for metric, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        results.add("tokens", name, metric, "ms", percentile(late, share), at=at, x=streams)
    results.add("tokens", name, "CPU, service", "%", 100 * cpu / seconds, at=at, x=streams)
    results.add("tokens", name, "CPU, Restate", "%", 100 * restate / seconds, at=at, x=streams)
    if missing:
        text = f"{name}, {at} streams: {missing} tokens had not arrived {END_SECONDS:g} s after the last write."
        results.note("tokens", text)
