"""The example chat in a browser: what it shows is right, whatever is reloaded, killed or tried again meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
from base64 import b64encode
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

import model
from support.chat_demo import Demo
from support.chat_page import (
    PATIENCE_MS,
    TRAIN,
    answer_to,
    ask,
    complete,
    enter,
    live,
    plain,
    speaking,
    written,
)
from support.contrast import unreadable
from support.harness import ROOT
from support.waiting import until


async def test_an_answer_comes_word_by_word_after_its_tool_call(page: Page, demo: Demo) -> None:
    """The prompt, the tool with its result, and an answer that grows."""
    await enter(page, demo)
    await ask(page, TRAIN)
    some = await speaking(page)
    assert answer_to(TRAIN) != some
    assert answer_to(TRAIN).startswith(some)
    assert answer_to(TRAIN) == await complete(page)
    await expect(page.locator(".user")).to_have_text(TRAIN)
    await expect(page.locator(".tool .outcome")).to_have_text("53.39")


async def test_a_reload_in_the_middle_goes_on_where_it_was(page: Page, demo: Demo) -> None:
    """What was written before is there at once, and the rest follows."""
    await enter(page, demo)
    await ask(page, TRAIN)
    before = await speaking(page)
    await page.reload()
    after = await speaking(page, len(before.split()))
    assert after.startswith(before)
    assert answer_to(TRAIN) != after, "the answer was over before the reload: this test saw nothing"
    assert answer_to(TRAIN) == await complete(page)


async def test_two_tabs_move_together(page: Page, demo: Demo) -> None:
    """What one tab asks, both show, while it is written."""
    await enter(page, demo)
    other = await page.context.new_page()
    await other.goto(page.url)
    await live(other)
    await ask(other, TRAIN)
    await expect(page.locator(".user")).to_have_text(TRAIN)
    here, there = await speaking(page), await speaking(other)
    assert answer_to(TRAIN).startswith(here)
    assert answer_to(TRAIN).startswith(there)
    assert abs(len(here.split()) - len(there.split())) < 20
    assert answer_to(TRAIN) == await complete(page) == await complete(other)


@pytest.mark.parametrize("part", ["the service", "Restate", "the agent", "the page"])
async def test_an_answer_is_complete_and_right_when_a_part_is_killed(page: Page, demo: Demo, part: str) -> None:
    """Kill -9 while it talks; the part comes back, and so does the answer, each word once."""
    prompt = f"Tell me about durable words, and do not mind that {part} will be killed."
    await enter(page, demo)
    await ask(page, prompt)
    await speaking(page)
    await demo.kill(part)
    assert answer_to(prompt) != await written(page), "the answer was over before the kill: this test saw nothing"
    if part in ("the service", "the page"):
        await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await demo.revived(part)
    assert answer_to(prompt) == await complete(page)
    await live(page)
    await page.reload()
    await live(page)
    assert answer_to(prompt) == await complete(page)


WATCH = """new MutationObserver(() => (window.struckAgain ||= Boolean(document.querySelector("del"))))
  .observe(document, { childList: true, subtree: true })"""


async def test_a_retried_step_visibly_replaces_its_words(page: Page, demo: Demo) -> None:
    """The words of the failed attempt are struck out and give way to the new ones; after a reload they never were."""
    await enter(page, demo)
    await ask(page, "/fail, please")
    assert plain(model.FAIL_FIRST).startswith(await speaking(page))
    struck = page.locator("del.gone")
    await expect(struck).to_be_visible(timeout=PATIENCE_MS)
    assert plain(model.FAIL_FIRST) == " ".join((await struck.inner_text()).split())
    assert "line-through" in await struck.evaluate("(element) => getComputedStyle(element).textDecoration")
    assert plain(model.FAIL_THEN) == await complete(page)
    await expect(struck).to_have_count(0)
    await expect(page.locator(".retried")).to_contain_text("Attempt 2")
    await page.add_init_script(WATCH)
    await page.reload()
    assert plain(model.FAIL_THEN) == await complete(page)
    await expect(page.locator(".retried")).to_have_count(0)
    assert await page.evaluate("window.struckAgain") is False


async def test_an_abandoned_answer_leaves_no_gap(page: Page, demo: Demo) -> None:
    """At every moment of its going it takes no more room than can be seen of it, and then none."""
    await enter(page, demo)
    await ask(page, "/fail Is there a gap?")
    struck = page.locator("del.gone")
    await expect(struck).to_be_visible(timeout=PATIENCE_MS)
    seen: list[list[float]] = await struck.evaluate(
        """(gone) => {
          const [animation] = gone.getAnimations();
          animation.pause();
          const found = [];
          for (let at = 0; at <= 100; at += 5) {
            animation.currentTime = (3200 * at) / 100 - (at === 100 ? 1 : 0);
            const style = getComputedStyle(gone);
            found.push([Number(style.opacity), gone.offsetHeight + parseFloat(style.marginBottom)]);
          }
          animation.play();
          return found;
        }"""
    )
    full = seen[0][1]
    assert full > 20
    assert [(opacity, height) for opacity, height in seen if height > full * opacity / 0.85 + 8] == []
    assert seen[-1][1] < 1
    await expect(struck).to_have_count(0)


async def test_a_prompt_that_was_sent_while_restate_was_down_is_answered_once(page: Page, demo: Demo) -> None:
    """The page keeps trying under the turn's name."""
    await enter(page, demo)
    await demo.kill("Restate")
    await ask(page, "Are you there?")
    await expect(page.locator(".state")).to_have_text("Not sent yet, trying again")
    assert answer_to("Are you there?") == await complete(page)
    await page.reload()
    assert answer_to("Are you there?") == await complete(page)
    await expect(page.locator(".turn")).to_have_count(1)


async def test_the_end_of_the_topic_ends_the_conversation(page: Page, demo: Demo) -> None:
    """Nothing is left waiting or offered that could not be answered, here and after a reload."""
    await enter(page, demo)
    await ask(page, TRAIN)
    await speaking(page)
    await demo.close_topic(f"chat/{page.url.rpartition('/')[2]}")
    for _ in range(2):
        await expect(page.locator("#connection")).to_have_text("Conversation ended")
        await expect(page.locator(".turn")).not_to_have_class(re.compile("busy"))
        await expect(page.get_by_label("Your prompt")).to_be_disabled()
        await page.reload()


async def test_a_refusal_is_final_and_said(page: Page, demo: Demo) -> None:
    """A 401 is not asked again and again, and the page tells the service's own reason."""
    asked: list[str] = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(status=401, json={"detail": "The token ended."})

    await page.route("**/pubsub/**", refuse)
    await page.goto(demo.url)
    await expect(page.locator("#connection")).to_have_text("Refused: The token ended.")
    await expect(page.get_by_role("alert")).to_have_text("This conversation cannot be shown. Refused: The token ended.")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert len(asked) == 1


async def test_a_prompt_that_arrives_twice_is_answered_once(page: Page, demo: Demo) -> None:
    """The turn's name is the idempotency key: the agent runs once, and its stream is never opened again."""
    await enter(page, demo)
    prompt = {"chat": page.url.rpartition("/")[2], "turn": "twice", "prompt": "Do you hear double?"}
    for _ in range(2):
        assert (await page.request.post(f"{demo.url}/prompt", data=prompt)).status == 202
    assert answer_to("Do you hear double?") == await complete(page)
    await page.reload()
    assert answer_to("Do you hear double?") == await complete(page)
    await expect(page.locator(".retried")).to_have_count(0)


async def test_the_keyboard_is_enough(page: Page, demo: Demo) -> None:
    """Tab reaches what can be done, in order, and the focus can be seen; Shift+Enter starts a line."""
    await enter(page, demo)
    await expect(page.locator("#welcome")).to_be_visible()
    await expect(page.get_by_label("Your prompt")).to_be_focused()
    assert await page.evaluate("getComputedStyle(document.querySelector('#composer')).outlineStyle") == "solid"
    reached = []
    for _ in range(7):
        await page.keyboard.press("Shift+Tab")
        reached.append(
            await page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()")
        )
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    ideas = await page.locator(".idea").all_inner_texts()
    assert [*reversed(ideas), "New chat", "Switch between light and dark", "Skip to the prompt"] == reached
    for _ in range(7):
        if await page.evaluate("document.activeElement.textContent") == TRAIN:
            break
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    assert answer_to(TRAIN) == await complete(page)
    await expect(page.get_by_label("Your prompt")).to_be_focused()
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await expect(page.get_by_label("Your prompt")).to_have_value("one\ntwo")


async def test_a_screen_reader_hears_sentences_and_no_history(page: Page, demo: Demo) -> None:
    """A polite live log gets whole sentences as they are done; a reload does not read everything again."""
    await enter(page, demo)
    spoken = page.get_by_role("log")
    await expect(spoken).to_have_attribute("aria-live", "polite")
    await expect(page.locator("#welcome")).to_be_visible()
    await ask(page, TRAIN)
    await complete(page)
    sentences = await spoken.locator("p").all_inner_texts()
    assert f"Prompt: {TRAIN}" == sentences[0]
    await expect(page.get_by_role("heading", name="Answer")).to_have_count(1)
    assert "At a steady 300 km/h, without stops, a train would reach the Moon after 53 days." in map(
        str.strip, sentences
    )
    await page.route("**/prompt", lambda route: route.fulfill(status=400))
    await ask(page, "Refused")
    await expect(spoken.locator("p").last).to_have_text("Not sent")
    await page.reload()
    await complete(page)
    await expect(page.get_by_role("heading", name="Answer")).to_have_count(1)
    assert await spoken.locator("p").count() == 0


async def test_words_that_come_as_one_are_heard_as_sentences(page: Page, demo: Demo) -> None:
    """As a page that is behind gets them: joined, in one message."""
    prompt = {"turn": "a", "role": "user", "content": "?"}
    words = {"turn": "a", "text": "One. Two is **1.5**!\n\n- Three"}
    parts = [
        f"retry: 500\nid: 1\ndata: {json.dumps(prompt)}\n\n",
        f'id: 2\nevent: token\ndata: {json.dumps(words)}\n\nid: 2\nevent: end\ndata: {{"nextOffset": 2}}\n\n',
    ]

    async def say(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=parts.pop(0))

    await page.route("**/pubsub/**", say)
    await page.goto(demo.url)
    await expect(page.locator("#connection")).to_have_text("Conversation ended")
    await expect(page.get_by_role("log").locator("p")).to_have_text(["One.", "Two is 1.5!", "Three"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read(browser: Browser, demo: Demo, scheme: str) -> None:
    """Light and dark follow the system, and each text that is shown can be read in both, whatever state it is in."""
    context = await browser.new_context(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page = await context.new_page()
    await enter(page, demo)
    await expect(page.locator("#welcome")).to_be_visible()
    light = await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 248)"
    assert (scheme == "light") == light
    assert await unreadable(page) == []
    await ask(page, TRAIN)
    await complete(page)
    await page.locator(".tool summary").click()
    await ask(page, "/fail")
    await complete(page)
    await ask(page, "/hurry Mail the crew")
    await expect(page.locator(".question.open")).to_be_visible(timeout=PATIENCE_MS)
    assert await unreadable(page) == []
    await complete(page)
    await ask(page, "/think")
    await page.get_by_role("button", name="Stop the answer").click()
    await expect(page.locator(".stopped")).to_be_visible()
    await ask(page, "Mail the crew")
    await expect(page.locator(".question.open")).to_be_visible(timeout=PATIENCE_MS)
    await page.route("**/prompt", lambda route: route.fulfill(status=503))
    await ask(page, "Not sent")
    await expect(page.locator(".state").last).to_have_text("Not sent yet, trying again")
    assert await unreadable(page) == []
    await page.get_by_role("button", name="Switch between light and dark").click()
    assert await unreadable(page) == []
    await page.reload()
    assert await page.evaluate("document.documentElement.dataset.theme") == ("light" if scheme == "dark" else "dark")
    await context.close()


async def test_it_fits_a_phone(browser: Browser, demo: Demo) -> None:
    """On 320 pixels nothing is cut off or scrolls sideways, and every target is large enough for a finger."""
    context = await browser.new_context(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    await enter(page, demo)
    await ask(page, TRAIN)
    await complete(page)
    await ask(page, "Mail the crew")
    await expect(page.locator(".question.open")).to_be_visible(timeout=PATIENCE_MS)
    await expect(page.get_by_role("button", name="Stop the answer")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    sizes = await page.evaluate(
        "[...document.querySelectorAll('footer .meta span')].map((part) => parseFloat(getComputedStyle(part).fontSize))"
    )
    assert min(sizes) >= 13
    other = await context.new_page()
    await other.route("**/pubsub/**", lambda route: route.abort())
    await other.goto(page.url)
    await expect(other.locator("#connection")).to_have_text("Reconnecting")
    assert await other.evaluate("document.documentElement.scrollWidth") <= 320
    await other.close()
    for target in await page.locator("button:visible, a.quiet:visible, summary:visible").all():
        box = await target.bounding_box()
        assert box is not None
        assert box["height"] >= 36, await target.evaluate("(element) => element.outerHTML")
    await context.close()


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


async def test_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    """After one Ctrl-C no part is left, and the exit is clean."""
    demo = await Demo(tmp_path).start()
    pids = [demo.pid(part) for part in ("the service", "Restate", "the agent")]
    assert await demo.stop() == 0, demo.output
    assert [pid for pid in pids if exists(pid)] == []


async def test_it_starts_in_any_folder_with_the_console_and_leaves_nothing(tmp_path: Path, page: Page) -> None:
    """PUBSUB_CONSOLE=true is handed on, and the page's URL printed; a `kill -9` of the demo ends its parts, too."""
    demo = await Demo(tmp_path, cwd=ROOT / "examples" / "chat" / "page", PUBSUB_CONSOLE="true").start()
    pids = [demo.pid(part) for part in ("the service", "Restate", "the agent", "the page")]
    try:
        (url,) = re.findall(r"The console:  (\S+)", demo.output)
        await page.goto(url)
        await expect(page.locator("#process")).to_have_text("ready")
    finally:
        await demo.stop(signal.SIGKILL)
    await until(lambda: not any(map(exists, pids)), "its parts to end")


async def test_a_picture_of_it(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    """The README's picture: two readers of one chat, a desktop in light and a phone in dark, while it talks."""
    picture = Path(os.environ.get("CHAT_SCREENSHOT") or tmp_path / "chat.png")
    desk = await browser.new_context(viewport={"width": 800, "height": 800}, color_scheme="light")
    phone = await browser.new_context(viewport={"width": 380, "height": 800}, color_scheme="dark")
    wide, narrow = await desk.new_page(), await phone.new_page()
    await enter(wide, demo)
    await narrow.goto(wide.url)
    await live(narrow)
    await ask(wide, TRAIN)
    await complete(wide)
    await ask(wide, "/fail What happens when a step breaks?")
    for page in (wide, narrow):
        await expect(page.locator("del.gone")).to_be_visible(timeout=PATIENCE_MS)
    await speaking(wide, 14)
    await speaking(narrow, 14)
    shots = [await wide.screenshot(), await narrow.screenshot()]
    assert all(shots)
    made = await compose(browser, shots, picture)
    if picture.parent != tmp_path:  # with other fonts than those of `make screenshot` it may be larger
        assert len(made) < 200_000
    await desk.close()
    await phone.close()


COMPOSITION = """<!doctype html><style>
  body {{ margin: 0; height: 880px; background: #dfe9e6; }}
  img {{ position: absolute; top: 40px; display: block; height: 800px; }}
  img:first-child {{ left: 40px; border-radius: 14px; box-shadow: 0 0 0 1px #0000001a, 0 2px 8px #0000001f; }}
  img:last-child {{ right: 47px; border-radius: 34px; box-shadow: 0 0 0 7px #0b0c0e, 0 0 0 8px #3a3d44; }}
</style><img src="{}"><img src="{}">"""


async def compose(browser: Browser, shots: list[bytes], picture: Path) -> bytes:
    """Put the two screenshots into one picture, and return it."""
    context = await browser.new_context(viewport={"width": 1320, "height": 880}, device_scale_factor=1)
    page = await context.new_page()
    sources = [f"data:image/png;base64,{b64encode(shot).decode()}" for shot in shots]
    await page.set_content(COMPOSITION.format(*sources))
    await page.wait_for_function("[...document.images].every((image) => image.complete)")
    made = await page.screenshot(path=picture)
    await context.close()
    return made
