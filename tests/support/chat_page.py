"""The example chat's page as a person uses it: prompts are typed, answers are read."""

from __future__ import annotations

import re

from playwright.async_api import Page, expect

import model
from support.chat_demo import Demo
from support.waiting import until

TRAIN = "How long would a train take to the Moon?"
PATIENCE_MS = 60_000


async def enter(page: Page, demo: Demo) -> None:
    """Open a chat of its own."""
    await page.goto(demo.url)
    await live(page)


async def live(page: Page) -> None:
    """Wait until the page is connected."""
    await expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=PATIENCE_MS)


async def ask(page: Page, prompt: str) -> None:
    """Send a prompt, as a person would."""
    await page.get_by_label("Your prompt").fill(prompt)
    await page.keyboard.press("Enter")


async def written(page: Page) -> str:
    """Return the words of the newest answer."""
    words: str = await page.evaluate(
        """() => [...document.querySelectorAll(".turn:last-of-type .answer :is(p, li)")]
            .map((block) => block.textContent).join(" ")"""
    )
    return words


async def speaking(page: Page, words: int = 8) -> str:
    """Wait until the newest answer has some words, and return them."""

    async def some() -> str | None:
        text = await written(page)
        return text if len(text.split()) >= words else None

    return str(await until(some, "the answer to begin"))


async def complete(page: Page) -> str:
    """Wait for the end of the newest answer, and return it."""
    await expect(page.locator(".turn").last).not_to_have_class(re.compile("busy"), timeout=PATIENCE_MS)
    return await until(lambda: written(page), "the answer to be drawn")  # type: ignore[no-any-return]


def plain(text: str) -> str:
    """Return a scripted answer as a browser shows it."""
    return " ".join(re.sub(r"\*\*|`|^- ", "", text, flags=re.MULTILINE).split())


def answer_to(prompt: str) -> str:
    """Return what the scripted model says."""
    return plain(model.script(prompt, 53.39 if "Moon" in prompt else None))
