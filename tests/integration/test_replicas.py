"""Two service processes behind one Restate: every reader of either gets everything, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import behind_a_balancer
from support.harness import Event, Service, call, running_restate, stream, topic_name
from support.waiting import until


class Pair(NamedTuple):
    """A Restate of its own, and two services that share its requests."""

    restate: RestateServer
    one: Service
    two: Service


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Return two replicas behind haproxy, which spreads Restate's requests one by one."""
    async with running_restate(tmp_path) as restate, contextlib.AsyncExitStack() as stack:
        one, two = Service(restate), Service(restate)
        await behind_a_balancer(stack, [one, two])
        await until(lambda: two.answers("/health/ready"), "readiness")
        yield Pair(restate, one, two)


async def follow(service: Service, topic: str) -> list[Event]:
    """Read a topic to its end, coming back with the last id as a browser does."""
    events: list[Event] = []
    while not events or events[-1].event != "end":
        headers = {"Last_Event_ID": events[-1].id} if events else {}
        with contextlib.suppress(Exception):
            async with stream(service.topic_url(topic), **headers) as reader:
                while True:
                    events.append(await reader.next())
        if not events or events[-1].event != "end":
            await asyncio.sleep(0.1)
    return events


async def write(restate: RestateServer, topic: str, writer: int, count: int) -> None:
    """Publish and append in turns, each with a key; every call must be acknowledged."""
    for n in range(0, count, 4):
        bodies: list[tuple[str, Any]] = [("publish", [writer, n])]
        bodies += [("append", {"messages": [{"data": [writer, n + more]} for more in (1, 2, 3)]})]
        for handler, body in bodies:
            status, answer = await call(
                restate, topic, handler, body, idempotency_key=f"{topic}-{writer}-{n}-{handler}"
            )
            assert 200 == status, answer


async def check(pair: Pair, *, kill: bool) -> None:
    """Four writers and six readers on each of three topics."""
    topics = [topic_name() for _ in range(3)]
    readers = {
        topic: [asyncio.create_task(follow(service, topic)) for service in (pair.one, pair.two) for _ in range(3)]
        for topic in topics
    }
    for each in (pair.one, pair.two):
        await each.has_streams(9)
    writers = [asyncio.create_task(write(pair.restate, topic, n, 40)) for topic in topics for n in range(4)]
    if kill:
        await until(lambda: _arrived(pair, 60), "traffic")
        await pair.two.kill()
        await asyncio.sleep(0.5)
        await pair.two.start(register=False)
    await asyncio.gather(*writers)
    for topic in topics:
        assert 200 == (await call(pair.restate, topic, "close"))[0]
        expected: list[Any] | None = None
        for events in await asyncio.wait_for(asyncio.gather(*readers[topic]), 60):
            assert "end" == events[-1].event
            messages = [event for event in events if event.event == "message"]
            assert list(range(1, 161)) == [int(event.id) for event in messages]
            expected = expected or [event.data for event in messages]
            assert expected == [event.data for event in messages]
        for writer in range(4):
            assert list(range(40)) == [n for who, n in expected or [] if who == writer]


async def _arrived(pair: Pair, count: int) -> bool:
    return await pair.one.metric("restate_pubsub_messages_arrived_total") >= count


async def test_every_reader_gets_everything_in_order(pair: Pair) -> None:
    """Whichever replica ran the write; both did."""
    await check(pair, kill=False)
    for service in (pair.one, pair.two):
        assert await service.metric("restate_pubsub_writes_total") > 30


async def test_a_killed_replica_costs_nobody_a_message(pair: Pair) -> None:
    """Kill -9 in the middle of the writes, and a start: its readers come back, the others never notice."""
    await check(pair, kill=True)


async def test_readers_of_one_replica_get_what_the_other_wrote(pair: Pair) -> None:
    """Also when the one that wrote is stopped in good order in between."""
    topic = topic_name()
    async with stream(pair.one.topic_url(topic)) as reader:
        for n in range(20):
            assert 200 == (await call(pair.restate, topic, "publish", n))[0]
        assert list(range(20)) == [event.data for event in await reader.take(20)]
        assert 0 == await pair.two.stop()
        for n in range(20, 30):
            assert 200 == (await call(pair.restate, topic, "publish", n))[0]
        assert list(range(20, 30)) == [event.data for event in await reader.take(10)]


async def test_topics_that_end_when_restate_is_back_end_for_every_reader(pair: Pair) -> None:
    """Some feeds learn of the end by a pull and some by asking where their topic is: nobody waits for the next pull."""
    topics = [topic_name() for _ in range(30)]
    for topic in topics:
        assert 200 == (await call(pair.restate, topic, "publish", 0))[0]
    async with contextlib.AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(stream(service.topic_url(topic)))
            for service in (pair.one, pair.two)
            for topic in topics
        ]
        assert [0] * len(readers) == [(await reader.next()).data for reader in readers]
        await pair.restate.kill()
        await until(lambda: _failed(pair, len(topics)), "every feed to notice")
        await pair.restate.start()
        closed = await asyncio.gather(*(call(pair.restate, topic, "close") for topic in topics))
        assert {200} == {status for status, _ in closed}
        ends = await asyncio.gather(*(reader.next() for reader in readers))
        assert {("end", "1")} == {(event.event, event.id) for event in ends}


async def _failed(pair: Pair, feeds: int) -> bool:
    unavailable = 'restate_pubsub_pulls_total{outcome="unavailable"}'
    return min([await each.metric(unavailable) for each in (pair.one, pair.two)]) >= feeds


LONG = 8000
"""Messages that are read in parts."""


def connected(service: Service) -> bool:
    """Whether somebody has a connection to it."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{service.port:04X}") and row[3] == "01" for row in rows)


async def pull_on(restate: RestateServer, topic: str, done: asyncio.Event) -> int:
    """Pull a topic again and again; return how many messages came, each where it must be."""
    offset = count = 0
    while not done.is_set():
        status, answer = await call(restate, topic, "pull", {"offset": offset})
        assert 200 == status, answer
        assert answer["messages"] == list(range(offset, answer["nextOffset"]))
        count += len(answer["messages"])
        offset = answer["nextOffset"] % LONG
    return count


async def test_replicas_that_differ_in_their_settings_go_on_with_each_other_s_pulls(tmp_path: Path) -> None:
    """As during an update: one is killed again and again in the middle of pulls, and no journal is another's."""
    async with running_restate(tmp_path) as restate, contextlib.AsyncExitStack() as stack:
        one = Service(restate, PUBSUB_RETAIN_MESSAGES="100000")
        two = Service(restate, PUBSUB_PULL_MAX_MESSAGES="500", PUBSUB_PULL_MAX_BYTES="20000", PUBSUB_PULL_TIMEOUT="12s")
        await behind_a_balancer(stack, [one, two])
        topic = topic_name()
        for n in range(LONG // 1000):
            messages = [{"data": at} for at in range(n * 1000, (n + 1) * 1000)]
            assert 200 == (await call(restate, topic, "append", {"messages": messages}))[0]
        done = asyncio.Event()
        pulls = [asyncio.create_task(pull_on(restate, topic, done)) for _ in range(12)]
        for _ in range(4):
            await until(lambda: connected(two), "calls at the replica that is killed")
            await two.kill()
            await two.start(register=False)
        done.set()
        assert sum(await asyncio.gather(*pulls)) > LONG
        assert "RT0016" not in restate.log_file.read_text()
