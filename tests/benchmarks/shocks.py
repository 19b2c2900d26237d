"""What goes wrong: everybody comes at once, a reader that does not read, and a kill."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from benchmarks.contenders import Broadcast, Contender, Nchan, Ours
from benchmarks.crowd import Readers, crowd
from benchmarks.field import Field
from benchmarks.latency import at_rate, lateness
from benchmarks.messages import message
from benchmarks.peers import Peer
from benchmarks.plan import END_SECONDS, Plan, turns
from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.stats import Results, percentile
from support.harness import topic_name

MISSED = 200
SLOW_READERS, SLOW_BYTES, SLOW_RATE = 20, 64 * 1024, 20
QUIET_SECONDS = 3.0


async def storm(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Many readers that come back at once, each of whom has missed 200 messages."""
    contenders: list[Contender] = [field.ours, field.nchan, *field.peers]
    for contender in turns(contenders, repetition):
        await field.calm()
        topic = topic_name()
        await contender.publish(topic, message("w"))
        for _ in range(MISSED):
            await contender.publish(topic, message())
        await contender.publish(topic, message("e"))
        cpu, began = cpu_seconds(contender.pids), time.monotonic()
        # Centrifugo sends what was missed as one event, and writes more behind the messages.
        part = await Readers.open(contender.ports[0], [contender.path(topic)], per_path=plan.storm_readers, tail=1024)
        try:
            await part.ready()
            found = await part.found(60)
        finally:
            await part.close()
        name = f"{contender.name} ({plan.storm_readers:,} readers)"
        if not found.complete:
            results.note("storm", f"{name}: not every reader had everything after 60 s.")
            continue
        results.add("storm", name, "until the last has everything", "s", found.ended_at - began)
        results.add("storm", name, "CPU", "s", cpu_seconds(contender.pids) - cpu)


async def slow_reader(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Readers that take nothing, beside 50 that do."""
    contenders: list[Contender] = [field.ours, field.nchan, *field.peers]
    for contender in turns(contenders, repetition):
        await field.calm()
        topic = topic_name()
        path = contender.path(topic)
        async with crowd(contender.ports, [path], 50) as readers, _stopped(contender, path) as _:
            await contender.publish(topic, message("w"))
            await readers.ready()
            memory = resident_bytes(contender.pids)
            sent, _ = await at_rate(contender, topic, SLOW_RATE, plan.sample_seconds, size=SLOW_BYTES)
            memory = resident_bytes(contender.pids) - memory
            late, missing = lateness(await readers.found(END_SECONDS), sent)
        name = contender.name
        results.add("slow-reader", name, "the others: p50", "ms", percentile(late, 0.5))
        results.add("slow-reader", name, "the others: p99", "ms", percentile(late, 0.99))
        results.add("slow-reader", name, "memory, all readers", "MB", memory / 1e6)
        if missing:
            results.note("slow-reader", f"{name}: {missing} deliveries to the others had not arrived.")


@contextlib.asynccontextmanager
async def _stopped(contender: Contender, path: str) -> AsyncIterator[None]:
    """Open streams that are asked for and not read."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
    writers = []
    try:
        for _ in range(SLOW_READERS):
            reader, writer = await asyncio.open_connection("127.0.0.1", contender.ports[0], limit=1024)
            writers.append(writer)
            writer.write(request)
            await reader.read(1)  # the answer has begun; asyncio stops to read when its buffer is full
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


async def kill(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Messages that were acknowledged, and are gone after all of a contender was killed and started again."""
    del repetition
    contenders: list[Contender] = [field.ours, field.nchan, *field.peers]
    for contender in contenders:
        await field.calm()
        topic = topic_name()
        for _ in range(plan.acks):
            await contender.publish(topic, message())
        await _kill(field, contender)
        await contender.publish(topic, message("e"))
        kept = await _stored(contender, topic)
        results.add("kill", contender.name, "acknowledged", "messages", plan.acks)
        results.add("kill", contender.name, "gone after kill -9", "messages", plan.acks - kept)


async def _kill(field: Field, contender: Contender) -> None:
    if isinstance(contender, Ours):
        await field.kill_and_restart(contender)
    elif isinstance(contender, Peer):
        await contender.kill_and_restart()
    elif isinstance(contender, (Nchan, Broadcast)):
        await contender.process.kill()
        await contender.process.start()


async def _stored(contender: Contender, topic: str) -> int:
    """Return how many of the measured messages a new reader is given."""
    url = URL(f"http://127.0.0.1:{contender.ports[0]}{contender.path(topic)}", encoded=True)
    found = b""
    headers = {"accept": "text/event-stream"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=QUIET_SECONDS)
    with contextlib.suppress(TimeoutError, aiohttp.ServerTimeoutError):
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session, session.get(url) as response:
            assert response.status == 200, await response.text()
            async for chunk in response.content.iter_any():
                found += chunk
    return found.count(b'"k":"m"')
