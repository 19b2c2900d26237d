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


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const luminance = (layers) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of layers) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    const part = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const says = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!says || element.closest(":disabled, .unseen, [aria-hidden], script, noscript")) continue;
    if (!element.checkVisibility()) continue;
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
    const [light, dark] = [luminance([...layers, style.color]), luminance(layers)].sort((a, b) => b - a);
    let seen = 1;
    for (let at = element; at; at = at.parentElement) seen *= getComputedStyle(at).opacity;
    const contrast = seen === 1 ? (light + 0.05) / (dark + 0.05) : 0;
    found.push([element.textContent.trim().slice(0, 40), element.className, contrast]);
  }
  return found;
}"""


async def unreadable(page: Page) -> list[list[object]]:
    """Return the texts with less contrast than 4.5 to 1 (WCAG 2.2, AA), or half transparent; fail if there are none."""
    found = await page.evaluate(CONTRAST)
    assert len(found) > 8
    return [text for text in found if text[2] < 4.5]
