"""The operators' page as tests use it: follow a topic, and read what it shows."""

from __future__ import annotations

from playwright.async_api import Page, expect

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service


def with_console(restate: RestateServer, **settings: str) -> Service:
    """Return a service with the console, whose streams come back and beat quickly; not started."""
    quick = {"PUBSUB_RETRY": "300ms", "PUBSUB_HEARTBEAT": "1s", "PUBSUB_DRAIN_TIMEOUT": "2s"}
    return Service(restate, env={"PUBSUB_CONSOLE": "true"} | quick | settings)


async def follow(page: Page, url: str, topic: str, offset: str = "0") -> None:
    """Open the page, and follow a topic by its form."""
    await page.goto(f"{url}/console")
    await page.get_by_label("Topic", exact=True).fill(topic)
    await page.get_by_label("From").fill(offset)
    await page.get_by_role("button", name="Follow").click()


async def rows(page: Page, count: int) -> list[list[str]]:
    """Wait for so many rows, and return their ids, events and data."""
    await expect(page.locator("#rows tr")).to_have_count(count)
    found: list[list[str]] = await page.evaluate(
        """() => [...document.querySelectorAll("#rows tr")]
            .map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent))"""
    )
    return found


async def sideways(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))
