"""What tests try through a proxy, with the right configuration and with a line of it left out."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

import aiohttp

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, Stream, publish, stream

LIVE = 0.05
"""Seconds by which an event may come later than without a proxy."""


async def lateness(
    restate: RestateServer, service: Service, url: str, topic: str, compression: str = "identity"
) -> float:
    """Return how many seconds later than without a proxy events arrive that come one by one; their median."""
    late = []
    async with (
        stream(service.topic_url(topic)) as direct,
        stream(f"{url}/pubsub/{topic}", accept_encoding=compression) as behind,
    ):
        for at in range(7):
            task = asyncio.create_task(_arrival(behind))
            came, _ = await asyncio.gather(_arrival(direct), publish(restate, topic, at))
            late.append(await task - came)
    return statistics.median(late)


async def _arrival(reader: Stream) -> float:
    await reader.next()
    return time.monotonic()


async def upload(url: str, topic: str, patience: float = 5.0) -> object:
    """Upload three lines, each after the one before it has been read, and return the answer.

    Raises:
        TimeoutError: a line was not read within `patience` seconds.

    """
    arrived = asyncio.Queue[int]()
    held: list[int] = []

    async def lines() -> AsyncIterator[bytes]:
        for at in range(3):
            yield b"%d\n" % at
            try:
                await asyncio.wait_for(arrived.get(), patience)
            except TimeoutError:
                held.append(at)
                return

    async with stream(f"{url}/pubsub/{topic}") as reader, aiohttp.ClientSession() as session:

        async def read() -> None:
            while True:
                arrived.put_nowait((await reader.next()).data)

        reading = asyncio.create_task(read())
        try:
            headers = {"content-type": "application/x-ndjson"}
            async with session.post(f"{url}/pubsub/{topic}", data=lines(), headers=headers) as answer:
                found: object = await answer.json()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    if held:
        raise TimeoutError
    return found


async def pauses(seconds: int, *, keep_alive: bool) -> AsyncIterator[bytes]:
    """Yield a line, nothing but blank lines each second, or nothing at all, and a line."""
    yield b"1\n"
    for _ in range(seconds):
        await asyncio.sleep(1)  # the silence is the case
        if keep_alive:
            yield b"\n"
    yield b"2\n"


async def post_lines(url: str, topic: str, lines: AsyncIterator[bytes]) -> tuple[int, object]:
    """Upload lines, and return the answer."""
    headers = {"content-type": "application/x-ndjson"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/pubsub/{topic}", data=lines, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None) if answer.ok else await answer.text()


async def statuses(url: str, topic: str, address: str, invented: list[str]) -> list[int]:
    """Open streams from one address of this machine, each with an address that it invents; return the statuses."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as client:
        answers = [await client.get(f"{url}/pubsub/{topic}", headers={"x-forwarded-for": name}) for name in invented]
        for answer in answers:
            answer.close()
        return [answer.status for answer in answers]
