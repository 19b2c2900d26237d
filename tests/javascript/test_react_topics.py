"""`useTopics` in a real React page, in Chromium: many topics on one stream, over cuts, other lists, and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page

from javascript.conftest import Bundle
from restate_pubsub import StreamStopped
from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish, topic_name
from support.origin import Origin
from support.waiting import PATIENCE

PAGE = """<!doctype html><title>topics</title><div id="root"></div><script type="module" src="/js/page.js"></script>"""


@pytest.fixture(scope="session")
async def origin(service: Service, bundle: Bundle) -> AsyncIterator[Origin]:
    """Return an origin with the page and the streams."""
    async with Origin(PAGE, files={"/js": bundle("topics.jsx")}).serving(service) as origin:
        yield origin


async def show(page: Page, origin: Origin, *topics: str, **options: str) -> None:
    await page.goto(f"{origin.url}/?{urlencode([*(('topic', topic) for topic in topics), *options.items()])}")


async def shows(page: Page, topic: str, *messages: Any, **more: Any) -> None:
    """Wait until the page shows of a topic just these messages, as (event, data, offset)."""
    wanted = {"messages": [list(one) for one in messages], "ended": False, "incomplete": False, "open": 0, **more}
    script = "([topic, wanted]) => JSON.stringify(window.shown?.[topic]) === JSON.stringify(wanted)"
    try:
        await page.wait_for_function(script, arg=[topic, wanted], timeout=PATIENCE * 1000)
    except Exception:
        assert wanted == await page.evaluate("topic => window.shown?.[topic]", topic)
        raise


async def connection(page: Page, text: str) -> None:
    """Wait until the page says so of its connection."""
    script = "text => document.getElementById('connection')?.textContent.trim() === text"
    await page.wait_for_function(script, arg=text, timeout=PATIENCE * 1000)


async def test_a_hundred_topics_on_one_stream(page: Page, origin: Origin, restate: RestateServer) -> None:
    """Each has its messages, before and after a cut, and there is one request at a time."""
    topics = [topic_name("react/ö") for _ in range(100)]
    before = len(origin.requests)
    await publish(restate, topics[99], "old")
    await show(page, origin, *topics)
    await connection(page, "live")
    await shows(page, topics[99], ("message", "old", 0))
    await asyncio.gather(*(publish(restate, topic, "new") for topic in topics[:99]))
    for topic in topics[:99]:
        await shows(page, topic, ("message", "new", 0))
    origin.cut()
    await publish(restate, topics[0], "after")
    await shows(page, topics[0], ("message", "new", 0), ("message", "after", 1))
    await shows(page, topics[99], ("message", "old", 0))
    assert ".".join(["1"] * 100) == origin.requests[-1][1]
    assert 4 >= len(origin.requests) - before  # React mounts twice in development


async def test_texts_restarts_and_stops_are_the_topics_own(
    page: Page, origin: Origin, restate: RestateServer, client: PubsubClient
) -> None:
    """As with `useTopic`: texts are joined, what a restart drops goes, and other topics keep what they have."""
    a, b = topic_name(), topic_name()
    await publish(restate, b, {"text": "B"}, "x")
    await show(page, origin, a, b, join="text")
    with contextlib.suppress(RuntimeError):
        async with client.stream(a, id="step") as stream:
            await stream.write({"text": "Hel"})
            await stream.write({"text": "lo"})
            await shows(page, a, ("message", {"text": "Hello"}, 1))
            raise RuntimeError
    async with client.stream(a, id="step") as stream:
        await stream.write({"text": "again"})
    await shows(page, a, ("message", {"text": "again"}, 3))
    await call(restate, b, "append", {"messages": [{"data": 1, "event": "tool"}]})
    await shows(page, b, ("message", {"text": "B"}, 0), ("message", "x", 1), ("tool", 1, 2))
    there = [("message", {"text": "B"}, 0), ("message", "x", 1), ("tool", 1, 2)]
    with pytest.raises(StreamStopped):
        async with client.stream(b, id="other") as stream:
            await stream.write("y")
            await shows(page, b, *there, ("message", "y", 3))
            await page.evaluate("topic => found.stop(topic, {id: 'other'})", b)
    await shows(page, b, *there, ("message", "y", 3), ("stop", {"id": "other"}, 4))


async def test_the_list_may_change(page: Page, origin: Origin, restate: RestateServer) -> None:
    """Topics that stay keep what they have and go on; a new one begins, one that went is forgotten."""
    a, b, c = topic_name(), topic_name(), topic_name()
    await publish(restate, a, 1, 2)
    await publish(restate, c, 3)
    await show(page, origin, a, b)
    await shows(page, a, ("message", 1, 0), ("message", 2, 1))
    await shows(page, b)
    await page.evaluate("topics => show(topics)", [c, a])
    await shows(page, c, ("message", 3, 0))
    assert ".2" == origin.requests[-1][1]
    await publish(restate, a, 4)
    await shows(page, a, ("message", 1, 0), ("message", 2, 1), ("message", 4, 2))
    assert {a, c} == set(await page.evaluate("Object.keys(shown)"))


async def test_topics_end_and_then_the_stream_does(page: Page, origin: Origin, restate: RestateServer) -> None:
    """Also where one ended while the stream was cut; once all have, nothing is asked any more."""
    a, b = topic_name(), topic_name()
    await publish(restate, a, 1)
    await show(page, origin, a, b)
    await shows(page, a, ("message", 1, 0))
    await call(restate, a, "close")
    await shows(page, a, ("message", 1, 0), ended=True)
    await connection(page, "live")
    origin.cut()
    await call(restate, b, "append", {"messages": [{"data": 2}], "close": True})
    await shows(page, b, ("message", 2, 0), ended=True)
    await connection(page, "ended")
    asked = len(origin.requests)
    await show(page, origin, a, b, url="/pubsub?offset=1")
    await connection(page, "ended")
    await shows(page, a, ended=True)
    await asyncio.sleep(0.5)  # five times as long as a reader waits before it comes back
    assert asked + 2 >= len(origin.requests)
    assert 204 == origin.requests[-1][0]


async def test_a_stream_that_is_refused_says_why(page: Page, origin: Origin) -> None:
    """More topics than one stream takes, for example."""
    await show(page, origin, *(str(n) for n in range(101)))
    await connection(page, "refused invalid-request")
