"""Whether every text that a page shows can be read: its contrast, as a browser draws it."""

from __future__ import annotations

from playwright.async_api import Page

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
