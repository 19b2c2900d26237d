"""Other people's readers, unmodified, on our streams: nothing lost, nothing twice, and no message that is none.

What they do differently is in docs/browser.md, from here.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from playwright.async_api import Page

from clients.readers import BROWSER, FILES, NODE_PACKAGES, PAGE, PYTHON, reading
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.origin import Origin
from support.waiting import until

EVERY = (*BROWSER, *NODE_PACKAGES, *PYTHON)
every_reader = pytest.mark.parametrize("name", EVERY)

HIDES_NAMES = {"openai"}
ASKS_AGAIN_AT_204 = {"reconnecting-eventsource", "react-native-sse", "@microsoft/fetch-event-source"}
EMPTY_AT_A_LONE_ID = {"@microsoft/fetch-event-source", "httpx-sse"}
DIES_AT_A_LONE_ID = {"openai"}
FORGETS_A_LONE_ID = {"event-source-polyfill", "eventsource-client"}
NO_IDS = {"openai"}


def messages(*data: Any) -> list[tuple[str, str]]:
    """Return what a reader hands out for these messages."""
    return [("message", json.dumps(one, separators=(",", ":"))) for one in data]


def url(origin: Origin, topic: str, query: str = "") -> str:
    return f"{origin.url}/pubsub/{topic}?{query}"


async def heartbeats(origin: Origin) -> None:
    """Wait until two have passed that are comments."""
    before = len(origin.passed)
    await until(lambda: origin.passed[before:].count(b":\n") >= 2, "heartbeats")


@every_reader
async def test_live_and_named(restate: RestateServer, origin: Origin, page: Page, topic: str, name: str) -> None:
    """Each message as it is published, once; opening and heartbeats are no messages to anybody."""
    await publish(restate, topic, {"at": 0})
    async with reading(name, url(origin, topic), page) as log:
        await log.has(1)
        await publish(restate, topic, [1, "é\u2028"], None)
        await log.has(3)
        await heartbeats(origin)
        await call(restate, topic, "append", {"messages": [{"data": "t", "event": "tool"}, {"data": "last"}]})
        got = [(event, json.loads(data)) for event, data in await log.has(5)]
        named = "message" if name in HIDES_NAMES else "tool"
        unnamed = [("message", data) for data in ({"at": 0}, [1, "é\u2028"], None, "last")]
        assert [*unnamed[:3], (named, "t"), unnamed[3]] == got
        assert log.over is None


@every_reader
@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_cut_in_the_middle(
    restate: RestateServer, service: Service, page: Page, topic: str, name: str, *, tidy: bool
) -> None:
    """It goes on where it was, also where a proxy makes a whole response of a broken one."""
    async with Origin(PAGE, files=FILES, tidy=tidy).serving(service) as origin:
        await publish(restate, topic, *range(3))
        async with reading(name, url(origin, topic), page) as log:
            await log.has(3)
            for turn in (1, 2):
                origin.cut()
                await publish(restate, topic, *range(3 * turn, 3 * turn + 3))
                await log.has(3 * turn + 3)
            assert messages(*range(9)) == log.events


async def test_who_asks_for_each_message_by_itself_gets_it_so_from_the_middle_of_a_run_too(
    restate: RestateServer, origin: Origin, page: Page, topic: str
) -> None:
    """The browser's own, with join=false, is cut off where a page is full of tokens that are kept as one."""
    tokens = [{"text": f"{at} "} for at in range(200)]
    halves = [{"messages": [{"data": one} for one in part], "join": "text"} for part in (tokens[:100], tokens[100:])]
    await call(restate, topic, "append", halves[0])
    async with reading("EventSource", url(origin, topic, "join=false"), page) as log:
        await log.has(100)
        origin.cut()
        await call(restate, topic, "append", halves[1])
        await log.has(200)
        assert messages(*tokens) == log.events
        assert [(200, None), (200, "100")] == origin.requests


async def test_the_service_killed_and_restarted(
    restate: RestateServer, service: Service, origin: Origin, page: Page, topic: str
) -> None:
    """All readers at once, on one topic."""
    await publish(restate, topic, *range(3))
    async with contextlib.AsyncExitStack() as stack:
        logs = {
            name: await stack.enter_async_context(
                reading(name, url(origin, topic), await page.context.new_page() if name in BROWSER else page)
            )
            for name in EVERY
        }
        for log in logs.values():
            await log.has(3)
        await service.kill()
        await service.start(register=False)
        await publish(restate, topic, *range(3, 6))
        for log in logs.values():
            await log.has(6)
        assert dict.fromkeys(EVERY, messages(*range(6))) == {name: log.events for name, log in logs.items()}


@every_reader
async def test_the_end(restate: RestateServer, origin: Origin, page: Page, topic: str, name: str) -> None:
    """Each asks once more and gets 204: most stop there, or tell their caller; some ask for ever."""
    async with reading(name, url(origin, topic), page) as log:
        await publish(restate, topic, "only")
        await log.has(1)
        await call(restate, topic, "close")
        if name in ASKS_AGAIN_AT_204:
            await until(lambda: len(origin.requests) > 3, f"{name} to ask again")
            assert log.over is None
        else:
            await until(lambda: log.over, f"{name} to stop, which said {log.said}")
            assert 2 == len(origin.requests)
        assert [200, 204] == [status for status, _ in origin.requests][:2]
        end = "message" if name in HIDES_NAMES else "end"
        assert [("message", '"only"'), (end, '{"nextOffset":1}')] == log.events


@pytest.mark.parametrize("name", [*BROWSER, *NODE_PACKAGES])
async def test_a_page_that_closes_at_the_end(
    restate: RestateServer, origin: Origin, page: Page, topic: str, name: str
) -> None:
    """Nobody asks again, then."""
    async with reading(name, url(origin, topic), page, close=True) as log:
        await publish(restate, topic, "only")
        await call(restate, topic, "close")
        await until(lambda: log.over, f"{name} to stop")
        assert ("stopped", [(200, None)]) == (log.over, origin.requests)


@every_reader
async def test_the_place_of_latest(restate: RestateServer, service: Service, page: Page, topic: str, name: str) -> None:
    """It comes in a block without data, which some hand out as a message, and some forget."""
    async with Origin(PAGE, files=FILES, tidy=True).serving(service) as origin:
        await publish(restate, topic, "before")
        async with reading(name, url(origin, topic, "offset=latest"), page) as log:
            if name in DIES_AT_A_LONE_ID:
                await until(lambda: log.over, f"{name} to die")
                return
            await until(lambda: b"id: 1\n\n" in origin.passed, "the place")
            origin.cut()
            await until(lambda: len(origin.requests) > 1, f"{name} to come back")
            assert (200, None if name in FORGETS_A_LONE_ID else "1") == origin.requests[1]
            assert ([("message", "")] if name in EMPTY_AT_A_LONE_ID else []) == log.events


@every_reader
async def test_the_place_of_latest_in_a_heartbeat(
    restate: RestateServer, service: Service, page: Page, topic: str, name: str
) -> None:
    """`?heartbeat=event`: nobody gets an empty message, and all that know ids come back to the place."""
    async with Origin(PAGE, files=FILES, tidy=True).serving(service) as origin:
        await publish(restate, topic, "before")
        async with reading(name, url(origin, topic, "offset=latest&heartbeat=event"), page) as log:
            await log.has(2)
            if name not in NO_IDS:
                origin.cut()
                await until(lambda: len(origin.requests) > 1, f"{name} to come back")
                assert (200, "1") == origin.requests[1]
            kind = "message" if name in HIDES_NAMES else "heartbeat"
            assert {(kind, '{"seconds":0.2}')} == set(log.events)
