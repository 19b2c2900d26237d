"""A page that counts the messages it has, as Restate's own Next.js example does, in Chromium.

It opens an `EventSource` from that count on, and another one when the browser has given up; it looks at no event's id.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.origin import Origin
from support.waiting import PATIENCE, until

PAGE = """<!doctype html>
<title>counting</title>
<script>
  const topic = location.pathname.slice(1);
  window.shown = [];
  window.opens = 0;
  function connect() {
    const source = new EventSource(`/pubsub/${topic}?offset=${shown.length}`);
    source.addEventListener("open", () => opens++);
    source.addEventListener("message", ({ data }) => {
      if (data) shown.push(JSON.parse(data));
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 500);
    });
  }
  connect();
</script>
"""


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service to which browsers come back quickly."""
    service = await Service(restate, PUBSUB_HEARTBEAT="500ms", PUBSUB_RETRY="100ms", PUBSUB_DRAIN_TIMEOUT="1s").start()
    yield service
    await service.stop()


@pytest.fixture
async def origin(service: Service) -> AsyncIterator[Origin]:
    """Return an origin that answers 502 while the service is away."""
    async with Origin(PAGE, gateway=True).serving(service) as origin:
        yield origin


def said(*numbers: int) -> list[dict[str, str]]:
    return [{"role": "user" if number % 2 else "assistant", "content": str(number)} for number in numbers]


async def shows(page: Page, *numbers: int) -> None:
    """Wait until the page shows these messages, and nothing else."""
    await page.wait_for_function(f"shown.length >= {len(numbers)}", timeout=PATIENCE * 1000)
    assert said(*numbers) == await page.evaluate("shown")


async def test_live_and_loaded_again(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """What is there comes at once, the rest as it is published; a reload in the middle shows all of it, once."""
    await publish(restate, topic, *said(0, 1))
    await page.goto(f"{origin.url}/{topic}", wait_until="commit")
    await shows(page, 0, 1)
    await publish(restate, topic, *said(2))
    await shows(page, 0, 1, 2)
    await page.reload(wait_until="commit")
    await publish(restate, topic, *said(3))
    await shows(page, 0, 1, 2, 3)


async def test_cut_in_the_middle(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """The browser asks with the address of the beginning: the id that it has seen counts more."""
    await page.goto(f"{origin.url}/{topic}", wait_until="commit")
    await publish(restate, topic, *said(0, 1))
    await shows(page, 0, 1)
    origin.cut()
    await publish(restate, topic, *said(2, 3))
    await shows(page, 0, 1, 2, 3)
    assert [(200, None), (200, "2")] == origin.requests


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_service_is_away(
    page: Page, origin: Origin, service: Service, restate: RestateServer, topic: str, how: str
) -> None:
    """The gateway's 502 makes the browser give up, and the page go on from its count: nothing is missing or twice."""
    await page.goto(f"{origin.url}/{topic}", wait_until="commit")
    await publish(restate, topic, *said(0, 1, 2))
    await shows(page, 0, 1, 2)
    await (service.kill() if how == "kill" else service.stop())
    await until(lambda: any(status == 502 for status, _ in origin.requests), "a 502")
    await service.start(register=False)
    await publish(restate, topic, *said(3))
    await shows(page, 0, 1, 2, 3)


async def test_the_topic_is_closed(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """The page does not know of an end and keeps asking: each time it is told that there is nothing more."""
    await page.goto(f"{origin.url}/{topic}", wait_until="commit")
    await publish(restate, topic, *said(0, 1))
    await call(restate, topic, "close")
    await until(lambda: len(origin.requests) >= 4, "the page to ask again")
    assert {204} == {status for status, _ in origin.requests[1:]}
    await shows(page, 0, 1)
