"""What makes a plain `EventSource` give up or wait, against the package for pages and the reader of docs/browser.md.

The package is tested as the service serves it, the reader as it is printed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy
from support.harness import ROOT, Service, Stream, call, publish, stream, topic_name
from support.origin import Origin
from support.tokens import SECRET, token
from support.waiting import PATIENCE, until

FOLLOW = re.search(r"```js\n(/\*\*.*?)```", (ROOT / "docs" / "browser.md").read_text(), re.DOTALL)
assert FOLLOW
READERS = {
    "package": 'import { follow } from "/client/restate-pubsub.js";\n',
    "printed": FOLLOW[1].replace("export ", ""),
}
FILES = {"/client": ROOT / "service" / "restate_pubsub" / "web" / "page_client"}
HEAD, BODY = (
    """<!doctype html><title>follow</title><script type="module">
  const log = window.log = {messages: [], events: [], refused: [], live: [], errors: []};
  window.again ??= false;
  addEventListener("error", (event) => { log.errors.push(event.message); event.preventDefault(); });
  const asked = new URLSearchParams(location.search);
""",
    """
  const note = (name) => (data, offset) => log.events.push([name, data, offset]);
  window.stop = follow(asked.get("url") ?? `/pubsub${location.pathname}`, {
    message: (data, offset) => {
      log.messages.push([offset, data]);
      if (data === "throw") throw new Error("the page's own");
    },
    end: note("end"), reset: note("reset"), restart: note("restart"), tool: note("tool"),
    connection: (live) => log.live.push(live),
    refused: (problem) => { log.refused.push(problem); return window.again; },
  }, JSON.parse(asked.get("options") ?? "{}"));
</script>""",
)


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    """Return the HTML of a page that follows with one of the two."""
    return HEAD + READERS[request.param] + BODY


@pytest.fixture
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that a test may kill and start."""
    service = await Service(restate, PUBSUB_RETRY="200ms", PUBSUB_HEARTBEAT="500ms", PUBSUB_CORS_ORIGINS="*").start()
    yield service
    await service.stop()


async def show(page: Page, origin: Origin, topic: str, **asked: str) -> None:
    """Open the page; `url` is what it follows instead of the topic at its origin, `options` is JSON."""
    await page.goto(f"{origin.url}/{topic}?{urlencode(asked)}")


async def messages(page: Page, count: int) -> list[Any]:
    """Wait until the page has so many messages; return all it has."""
    await page.wait_for_function(f"window.log?.messages.length >= {count}", timeout=PATIENCE * 1000)
    found: list[Any] = await page.evaluate("log.messages")
    return found


async def test_it_goes_on_after_a_proxy_has_answered_502(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """`EventSource` gives up for good there; nothing is lost or shown twice."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES, gateway=True).serving(service) as origin:
        await publish(restate, topic, 0, 1)
        await show(page, origin, topic)
        await messages(page, 2)
        await service.kill()
        await until(lambda: 502 in [status for status, _ in origin.requests], "the proxy's 502")
        await service.start(register=False)
        await publish(restate, topic, 2, 3)
        assert [[at, at] for at in range(4)] == await messages(page, 4)


async def test_it_does_not_come_back_less_often_after_a_long_time(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """A pause stays below one heartbeat (5 s where they are shorter): so it is back soon after any fault."""
    topic = topic_name("follow")
    await page.clock.install()
    async with Origin(reader, files=FILES, gateway=True).serving(service) as origin:
        await publish(restate, topic, 0)
        await show(page, origin, topic, options='{"silence": 1500}')
        await messages(page, 1)
        await service.kill()
        for _ in range(9):
            tried = len(origin.requests)
            await page.clock.run_for(5000)
            await until(lambda: len(origin.requests) > tried, "the next try", 10)  # noqa: B023
        await service.start(register=False)
        await publish(restate, topic, 1)
        assert [[0, 0], [1, 1]] == await messages(page, 2)


async def test_it_ends_with_the_topic(page: Page, reader: str, restate: RestateServer, service: Service) -> None:
    """`end` is told once, and a page that resumes behind the end stops at the 204."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES).serving(service) as origin:
        await call(restate, topic, "append", {"messages": [{"data": 1}, {"data": 2, "event": "tool"}], "close": True})
        await show(page, origin, topic)
        await page.wait_for_function("window.log?.events.length === 2", timeout=PATIENCE * 1000)
        assert [["tool", 2, 1], ["end", {"nextOffset": 2}, 1]] == await page.evaluate("log.events")
        assert [[0, 1]] == await page.evaluate("log.messages")
        assert [200] == [status for status, _ in origin.requests]


async def test_it_tells_of_a_refusal_and_goes_on_with_a_new_token(
    page: Page, reader: str, restate: RestateServer
) -> None:
    """The problem document's own code; the page decides whether to try again."""
    topic = topic_name("follow")
    service = await Service(restate, PUBSUB_JWT_KEY=SECRET).start()
    try:
        async with Origin(reader, files=FILES).serving(service) as origin:
            await publish(restate, topic, "secret")
            await page.add_init_script("window.again = true")
            await show(page, origin, topic)
            await page.wait_for_function("window.log?.refused.length > 0", timeout=PATIENCE * 1000)
            assert "unauthorized" == (await page.evaluate("log.refused"))[0]["code"]
            assert [] == await page.evaluate("log.messages")
            cookie = {"name": "pubsub_token", "value": token(subscribe=[topic]), "url": origin.url}
            await page.context.add_cookies([cookie])  # type: ignore[list-item]
            assert [[0, "secret"]] == await messages(page, 1)
    finally:
        await service.stop()


async def test_it_leaves_a_connection_that_fell_silent(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """No bytes at all, and nobody says that the other side is gone; heartbeats alone keep a connection."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES).serving(service) as origin, Proxy(service.port) as proxy:
        await publish(restate, topic, 0)
        await show(page, origin, topic, url=f"{proxy.url}/pubsub/{topic}", options='{"silence": 1500}')
        await messages(page, 1)
        async with stream(service.topic_url(topic)) as beside:  # it counts heartbeats: four are over 1.5 s
            await until(lambda: _beats(beside), "heartbeats")
        assert [True] == await page.evaluate("log.live")
        proxy.stall()
        await page.wait_for_function("log.live.length > 1", timeout=PATIENCE * 1000)
        proxy.cut()
        proxy.flow()
        await publish(restate, topic, 1)
        assert [[0, 0], [1, 1]] == await messages(page, 2)


async def _beats(reader: Stream) -> bool:
    with contextlib.suppress(TimeoutError):
        await reader.next(0.2)
    return len(reader.comments) > 4


async def test_a_tidy_end_of_the_response_is_a_cut(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """Proxies make a whole response of a broken one: only `end` ends a topic."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES, tidy=True).serving(service) as origin:
        await publish(restate, topic, 0)
        await show(page, origin, topic)
        await messages(page, 1)
        await service.kill()
        await page.wait_for_function("log.live.length > 1", timeout=PATIENCE * 1000)
        await service.start(register=False)
        await publish(restate, topic, 1)
        assert [[0, 0], [1, 1]] == await messages(page, 2)
        assert [] == await page.evaluate("log.events")


async def test_from_latest_on_nothing_is_lost_to_a_cut(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """Not even before the first message: the page is told of the connection once it could go on there."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES).serving(service) as origin:
        await publish(restate, topic, "before")
        await show(page, origin, topic, url=f"/pubsub/{topic}?offset=latest")
        await page.wait_for_function("log.live.length === 1", timeout=PATIENCE * 1000)
        await service.kill()
        await page.wait_for_function("log.live.length > 1", timeout=PATIENCE * 1000)
        await service.start(register=False)
        await publish(restate, topic, "meanwhile")
        assert [[1, "meanwhile"]] == await messages(page, 1)


@pytest.mark.parametrize("origins", ["*", "http://127.0.0.1:*"])
async def test_any_site_may_read_without_cookies(page: Page, reader: str, restate: RestateServer, origins: str) -> None:
    """`PUBSUB_CORS_ORIGINS=*` and patterns allow no credentials, so none are sent unless the page wants it."""
    topic = topic_name("follow")
    service = await Service(restate, PUBSUB_CORS_ORIGINS=origins).start()
    try:
        async with Origin(reader, files=FILES).serving(service) as origin:
            await publish(restate, topic, "hello")
            await show(page, origin, topic, url=service.topic_url(topic))
            assert [[0, "hello"]] == await messages(page, 1)
            assert [] == origin.requests
    finally:
        await service.stop()


async def test_a_site_that_is_named_may_send_cookies(page: Page, reader: str, restate: RestateServer) -> None:
    """`credentials: "include"` sends them to another origin."""
    topic = topic_name("follow")
    origin = Origin(reader, files=FILES)
    service = await Service(restate, PUBSUB_CORS_ORIGINS=origin.url, PUBSUB_JWT_KEY=SECRET).start()
    try:
        async with origin.serving(service):
            await publish(restate, topic, "secret")
            cookie = {"name": "pubsub_token", "value": token(subscribe=[topic]), "url": service.url}
            await page.context.add_cookies([cookie])  # type: ignore[list-item]
            await show(page, origin, topic, url=service.topic_url(topic), options='{"credentials": "include"}')
            assert [[0, "secret"]] == await messages(page, 1)
    finally:
        await service.stop()


async def test_a_mistake_of_the_page_is_reported_and_costs_nothing(
    page: Page, reader: str, restate: RestateServer, service: Service
) -> None:
    """As with `EventSource`, whose listeners may throw; and events may have the names of the page's own functions."""
    topic = topic_name("follow")
    async with Origin(reader, files=FILES).serving(service) as origin:
        entries = [{"data": "throw"}, {"data": 1, "event": "connection"}, {"data": "next"}]
        await call(restate, topic, "append", {"messages": entries})
        await show(page, origin, topic)
        assert [[0, "throw"], [2, "next"]] == await messages(page, 2)
        assert ["Uncaught Error: the page's own"] == await page.evaluate("log.errors")
        assert [True] == await page.evaluate("log.live")
