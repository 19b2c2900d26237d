"""A page of another origin in Chromium: what it may send, and how it renews its token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from playwright.async_api import Page

from restate_pubsub.access.mint import mint_token
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, free_port, get, publish
from support.tokens import SECRET
from support.waiting import PATIENCE

(RENEWAL,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "access.md").read_text(), re.DOTALL)
PAGE = f"""<!doctype html>
<title>Elsewhere</title>
<script>
  window.messages = [];
  const show = (message) => messages.push(message);
  {RENEWAL}
</script>
"""
LASTS = 2.0
TOPIC = "renewed"


@pytest.fixture(scope="module")
async def elsewhere() -> AsyncIterator[str]:
    """Return the origin of the page, whose server gives its visitor a short token."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def renew(_request: web.Request) -> web.Response:
        answer = web.Response()
        answer.set_cookie("pubsub_token", mint_token(SECRET, subscribe=[TOPIC], lasts=LASTS), httponly=True)
        return answer

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_post("/session/pubsub-token", renew)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture(scope="module")
async def locked(restate: RestateServer, elsewhere: str) -> AsyncIterator[Service]:
    """Return a service that takes that origin's pages."""
    service = Service(
        restate, PUBSUB_JWT_KEY=SECRET, PUBSUB_CORS_ORIGINS=elsewhere, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_RETRY="10s"
    )
    await service.start()
    yield service
    await service.stop()


async def test_headers_of_tracing_and_error_reporting_pass(page: Page, elsewhere: str, locked: Service) -> None:
    """They are added to whatever a page sends, and a preflight that does not allow them is `Failed to fetch`."""
    await page.goto(elsewhere)
    made = mint_token(SECRET, publish=["traced"])
    status = await page.evaluate(
        """async ([url, token]) => (await fetch(url, {
            method: "POST",
            body: "1",
            headers: {
              authorization: `Bearer ${token}`, "content-type": "application/json", "x-requested-with": "page",
              traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "a=b",
              baggage: "a=b", "sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            },
        })).status""",
        [locked.topic_url("traced"), made],
    )
    assert status == 200


async def test_a_page_renews_its_token_without_a_gap(
    page: Page, elsewhere: str, locked: Service, restate: RestateServer
) -> None:
    """With the lines of docs/access.md: every message once, in order, over several tokens, and no request refused."""
    await page.goto(elsewhere)
    url = locked.topic_url(TOPIC)
    await page.evaluate(f"renew('{url}'); window.renewing = setInterval(() => renew('{url}'), {LASTS * 400})")
    for number in range(60):
        await publish(restate, TOPIC, number)
        await asyncio.sleep(0.1)  # so that it goes on for longer than three tokens
    await page.wait_for_function("messages.length >= 60", timeout=PATIENCE * 1000)
    assert await page.evaluate("messages") == list(range(60))
    assert await locked.metric("restate_pubsub_streams_opened_total") >= 4
    _, metrics, _ = await get(f"{locked.url}/metrics")
    assert 'code="unauthorized"' not in str(metrics)
