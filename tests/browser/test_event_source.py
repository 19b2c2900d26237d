"""A plain `EventSource` page in Chromium, over everything that may happen to the stream behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.origin import Origin
from support.waiting import PATIENCE

PAGE = """<!doctype html>
<title>EventSource</title>
<script>
  const topic = location.pathname.slice(1);
  window.log = {messages: [], named: [], opens: 0, errors: 0};
  const source = window.source = new EventSource(`/pubsub/${topic}${location.search}`);
  source.onopen = () => log.opens++;
  source.onerror = () => log.errors++;
  source.onmessage = (event) => log.messages.push(JSON.parse(event.data));
  for (const name of ["token", "reset", "end"])
    source.addEventListener(name, (event) => log.named.push([name, JSON.parse(event.data)]));
</script>
"""


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that tests may kill and start; browsers come back to it quickly."""
    service = await Service(restate, PUBSUB_HEARTBEAT="1s", PUBSUB_RETRY="200ms", PUBSUB_DRAIN_TIMEOUT="2s").start()
    yield service
    await service.stop()


@pytest.fixture
async def origin(service: Service) -> AsyncIterator[Origin]:
    """Return the running origin."""
    async with Origin(PAGE).serving(service) as origin:
        yield origin


async def show(page: Page, origin: Origin, topic: str, query: str = "") -> None:
    await page.goto(f"http://127.0.0.1:{origin.port}/{topic}{query}", wait_until="commit")
    await page.wait_for_function("window.log && log.opens > 0")


async def messages(page: Page, count: int) -> list[Any]:
    """Wait until the page has so many messages; return all it has."""
    await page.wait_for_function(f"log.messages.length >= {count}", timeout=PATIENCE * 1000)
    found: list[Any] = await page.evaluate("log.messages")
    return found


async def test_messages_are_on_the_page_as_they_come(
    restate: RestateServer, page: Page, origin: Origin, topic: str
) -> None:
    """`onmessage` and `JSON.parse` are all it takes; a message with an event goes to that event's listeners."""
    await publish(restate, topic, {"text": "before"})
    await show(page, origin, topic)
    assert [{"text": "before"}] == await messages(page, 1)
    await publish(restate, topic, {"text": "live 🚀\n\u2028"}, None)
    await call(restate, topic, "append", {"messages": [{"data": "tok", "event": "token"}, {"data": [1]}]})
    assert [{"text": "before"}, {"text": "live 🚀\n\u2028"}, None, [1]] == await messages(page, 4)
    assert [["token", "tok"]] == await page.evaluate("log.named")
    assert [0, 1] == await page.evaluate("[log.errors, log.opens]")


async def test_a_reload_shows_all_of_it_again(restate: RestateServer, page: Page, origin: Origin, topic: str) -> None:
    """From the beginning, or the last few; then what comes."""
    await publish(restate, topic, *range(5))
    await show(page, origin, topic)
    assert list(range(5)) == await messages(page, 5)
    await page.reload(wait_until="commit")
    await publish(restate, topic, 5)
    assert list(range(6)) == await messages(page, 6)
    await show(page, origin, topic, "?offset=-2")
    await publish(restate, topic, 6)
    assert [4, 5, 6] == await messages(page, 3)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_restarted_service_costs_no_message(
    restate: RestateServer, service: Service, page: Page, origin: Origin, topic: str, how: str
) -> None:
    """The browser comes back by itself, with the id of the last message it has: none is lost, none comes twice."""
    await show(page, origin, topic)
    for turn in range(2):
        await publish(restate, topic, *range(turn * 10, turn * 10 + 10))
        await messages(page, turn * 10 + 10)
        await (service.kill() if how == "kill" else service.stop())
        await page.wait_for_function(f"log.errors > {turn}")
        await service.start(register=False)
    sent = asyncio.create_task(publish(restate, topic, *range(20, 30)))
    assert list(range(30)) == await messages(page, 30)
    await sent
    assert [] == await page.evaluate("log.named")
    assert {"10", "20"} <= {last for status, last in origin.requests if status == 200 and last}


async def test_messages_written_while_the_browser_was_away(
    restate: RestateServer, page: Page, origin: Origin, topic: str
) -> None:
    """Cut off in the middle of the stream, it finds what it missed."""
    await show(page, origin, topic)
    await publish(restate, topic, 0, 1)
    await messages(page, 2)
    await page.context.set_offline(True)
    await publish(restate, topic, *range(2, 8))
    await page.context.set_offline(False)
    await publish(restate, topic, 8)
    assert list(range(9)) == await messages(page, 9)


async def test_a_restarted_restate_costs_no_message(
    restate: RestateServer, page: Page, origin: Origin, topic: str
) -> None:
    """The stream stays open over kill -9 and a start; the browser does not even notice."""
    await show(page, origin, topic)
    await publish(restate, topic, *range(5))
    await messages(page, 5)
    await restate.kill()
    await asyncio.sleep(0.5)
    await restate.start()
    await publish(restate, topic, *range(5, 10))
    assert list(range(10)) == await messages(page, 10)
    assert [0, 1] == await page.evaluate("[log.errors, log.opens]")
    assert [] == await page.evaluate("log.named")


async def test_a_closed_topic_ends_for_good(restate: RestateServer, page: Page, origin: Origin, topic: str) -> None:
    """`end`, one more request that is answered 204, and silence."""
    await show(page, origin, topic)
    await publish(restate, topic, "last")
    await messages(page, 1)
    await call(restate, topic, "close")
    await page.wait_for_function("source.readyState === EventSource.CLOSED")
    assert [["end", {"nextOffset": 1}]] == await page.evaluate("log.named")
    assert [(200, None), (204, "1")] == origin.requests
    assert ["last"] == await page.evaluate("log.messages")


async def test_a_page_that_comes_late_is_told_of_the_reset(
    restate: RestateServer, page: Page, origin: Origin, topic: str
) -> None:
    """What was truncated is an event of its own, and then come the messages that are left."""
    await publish(restate, topic, *range(6))
    await call(restate, topic, "truncate", 4)
    await show(page, origin, topic)
    assert [4, 5] == await messages(page, 2)
    assert [["reset", {"requested": 0, "head": 4, "tail": 6}]] == await page.evaluate("log.named")


async def test_two_tabs_have_the_same(
    restate: RestateServer, browser: Browser, page: Page, origin: Origin, topic: str
) -> None:
    """Both in order and complete."""
    other = await browser.new_page()
    try:
        await show(page, origin, topic)
        await show(other, origin, topic)
        await publish(restate, topic, *range(30))
        assert list(range(30)) == await messages(page, 30) == await messages(other, 30)
    finally:
        await other.close()
