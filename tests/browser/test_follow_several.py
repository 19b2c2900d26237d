"""`follow` on several topics, as the service serves it, in Chromium."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page

from browser.test_follow import FILES
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish, topic_name
from support.origin import Origin
from support.waiting import PATIENCE

PAGE = """<!doctype html><title>follow</title><script type="module">
  import { follow } from "/client/restate-pubsub.js";
  window.said = [];
  const note = (name) => (...what) => said.push([name, ...what]);
  window.begin = (topics, options) => (window.stop = follow(
    "/pubsub?" + new URLSearchParams(topics.map((topic) => ["topic", topic])),
    Object.fromEntries(["message", "tool", "reset", "end"].map((name) => [name, note(name)])),
    options,
  ));
</script>"""


@pytest.fixture
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that a test may kill and start."""
    service = await Service(restate, PUBSUB_RETRY="100ms", PUBSUB_HEARTBEAT="500ms").start()
    yield service
    await service.stop()


async def says(page: Page, *said: list[Any]) -> None:
    """Wait until the page was told exactly this, in whatever order the topics came."""
    wanted = sorted(json.dumps(one, separators=(",", ":")) for one in said)
    script = "wanted => JSON.stringify(said.map((one) => JSON.stringify(one)).sort()) === JSON.stringify(wanted)"
    try:
        await page.wait_for_function(script, arg=wanted, timeout=PATIENCE * 1000)
    except Exception:
        found = sorted(json.dumps(one, separators=(",", ":")) for one in await page.evaluate("said"))
        assert wanted == found
        raise


async def test_each_function_gets_the_topic_and_the_place_in_it(
    page: Page, restate: RestateServer, service: Service
) -> None:
    """Over a kill of the service, too; an end is told once, however often the stream comes back."""
    a, b = topic_name("a"), topic_name("b")
    async with Origin(PAGE, files=FILES).serving(service) as origin:
        await publish(restate, a, 0, 1, 2)
        await call(restate, a, "truncate", 1)
        await call(restate, b, "append", {"messages": [{"data": {"x": 1}, "event": "tool"}], "close": True})
        await page.goto(origin.url)
        await page.wait_for_function("() => Boolean(window.begin)")
        await page.evaluate("topics => { begin(topics, {}) }", [a, b])
        told: list[list[Any]] = [
            ["reset", {"requested": 0, "head": 1, "tail": 3}, 0, a],
            ["message", 1, 1, a],
            ["message", 2, 2, a],
            ["tool", {"x": 1}, 0, b],
            ["end", {"nextOffset": 1}, 0, b],
        ]
        await says(page, *told)
        await service.kill()
        await service.start(register=False)
        await publish(restate, a, 3)
        await says(page, *told, ["message", 3, 3, a])
        assert "3.1" == origin.requests[-1][1]
        await call(restate, a, "close")
        await says(page, *told, ["message", 3, 3, a], ["end", {"nextOffset": 4}, 3, a])


async def test_topics_that_have_all_ended_are_told_by_a_204(
    page: Page, restate: RestateServer, service: Service
) -> None:
    """The page gave the places itself; it is told of each end, and asks no more."""
    a, b = topic_name("a"), topic_name("b")
    async with Origin(PAGE, files=FILES).serving(service) as origin:
        for topic, count in ((a, 1), (b, 2)):
            await call(restate, topic, "append", {"messages": [{"data": 1}] * count, "close": True})
        await page.goto(origin.url)
        await page.wait_for_function("() => Boolean(window.begin)")
        await page.evaluate("topics => { begin(topics, { lastEventId: '1.2' }) }", [a, b])
        ends = [["end", {"nextOffset": at}, at - 1, topic] for topic, at in ((a, 1), (b, 2))]
        await says(page, *ends)
        assert [(204, "1.2")] == origin.requests
