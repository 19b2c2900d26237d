"""The reader of docs/browser.md, as it is printed there, against what makes a plain `EventSource` give up."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, call, publish, topic_name
from support.origin import Origin
from support.tokens import SECRET, token
from support.waiting import PATIENCE, until

FOLLOW = re.search(r"```js\n(/\*\*.*?)```", (ROOT / "docs" / "browser.md").read_text(), re.DOTALL)
assert FOLLOW
PAGE = (
    """<!doctype html><title>follow</title><script type="module">
  const log = window.log = {messages: [], events: [], refused: []};
  window.again ??= false;
"""
    + FOLLOW[1].replace("export ", "")
    + """
  const note = (name) => (data, offset) => log.events.push([name, data, offset]);
  window.stop = follow(`/pubsub${location.pathname}`, {
    message: (data, offset) => log.messages.push([offset, data]),
    end: note("end"), reset: note("reset"), restart: note("restart"), tool: note("tool"),
    refused: (problem) => { log.refused.push(problem); return window.again; },
  });
</script>"""
)


@pytest.fixture
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that a test may kill and start."""
    service = await Service(restate, PUBSUB_RETRY="200ms").start()
    yield service
    await service.stop()


async def messages(page: Page, count: int) -> list[Any]:
    """Wait until the page has so many messages; return all it has."""
    await page.wait_for_function(f"window.log?.messages.length >= {count}", timeout=PATIENCE * 1000)
    found: list[Any] = await page.evaluate("log.messages")
    return found


def test_the_example_chat_follows_with_it() -> None:
    """Word for word: what is copied from the page is what the chat's tests run."""
    assert FOLLOW is not None
    assert (ROOT / "examples" / "chat" / "page" / "follow.js").read_text() == FOLLOW[1]


async def test_it_goes_on_after_a_proxy_has_answered_502(page: Page, restate: RestateServer, service: Service) -> None:
    """`EventSource` gives up for good there; nothing is lost or shown twice."""
    topic = topic_name("follow")
    async with Origin(PAGE, gateway=True).serving(service) as origin:
        await publish(restate, topic, 0, 1)
        await page.goto(f"http://127.0.0.1:{origin.port}/{topic}")
        await messages(page, 2)
        await service.kill()
        await until(lambda: 502 in [status for status, _ in origin.requests], "the proxy's 502")
        await service.start(register=False)
        await publish(restate, topic, 2, 3)
        assert [[at, at] for at in range(4)] == await messages(page, 4)


async def test_it_ends_with_the_topic(page: Page, restate: RestateServer, service: Service) -> None:
    """`end` is told once, and a page that resumes behind the end stops at the 204."""
    topic = topic_name("follow")
    async with Origin(PAGE).serving(service) as origin:
        await call(restate, topic, "append", {"messages": [{"data": 1}, {"data": 2, "event": "tool"}], "close": True})
        await page.goto(f"http://127.0.0.1:{origin.port}/{topic}")
        await page.wait_for_function("window.log?.events.length === 2", timeout=PATIENCE * 1000)
        assert [["tool", 2, 1], ["end", {"nextOffset": 2}, 1]] == await page.evaluate("log.events")
        assert [[0, 1]] == await page.evaluate("log.messages")
        assert [200] == [status for status, _ in origin.requests]


async def test_it_tells_of_a_refusal_and_goes_on_with_a_new_token(page: Page, restate: RestateServer) -> None:
    """The problem document's own code; the page decides whether to try again."""
    topic = topic_name("follow")
    service = await Service(restate, PUBSUB_JWT_KEY=SECRET).start()
    try:
        async with Origin(PAGE).serving(service) as origin:
            await publish(restate, topic, "secret")
            await page.add_init_script("window.again = true")
            address = f"http://127.0.0.1:{origin.port}"
            await page.goto(f"{address}/{topic}")
            await page.wait_for_function("window.log?.refused.length > 0", timeout=PATIENCE * 1000)
            assert "unauthorized" == (await page.evaluate("log.refused"))[0]["code"]
            assert [] == await page.evaluate("log.messages")
            cookie = {"name": "pubsub_token", "value": token(subscribe=[topic]), "url": address}
            await page.context.add_cookies([cookie])  # type: ignore[list-item]
            assert [[0, "secret"]] == await messages(page, 1)
    finally:
        await service.stop()
