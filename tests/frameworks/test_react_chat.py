"""The page of examples/react-chat, as `make demo-react` runs it: `useChat` in Chromium on an agent of a framework."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

import model
from support.chat_demo import Demo
from support.chat_page import PATIENCE_MS, TRAIN, answer_to, plain
from support.chromium import browser, page
from support.made import demo_options, made
from support.waiting import until

__all__ = ["browser", "page"]

PICTURE = os.environ.get("REACT_CHAT_SCREENSHOT")
LONG = pytest.mark.skipif(os.environ.get("AGENTS") != "all", reason="`make test-agents` runs it")


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """Return the running demo."""
    await made(".agents/pydantic-ai/.done")
    await made("examples/react-chat/dist/index.html")
    options = await demo_options("demo-react")
    demo = Demo(tmp_path_factory.mktemp("demo"), *options, OPENAI_API_KEY="")
    try:
        await demo.start()
        yield demo
    finally:
        await demo.stop()


async def enter(page: Page, demo: Demo) -> None:
    """Open a chat of its own."""
    await page.goto(demo.url)
    await expect(page.get_by_text("then try to break it")).to_be_visible(timeout=PATIENCE_MS)


async def ask(page: Page, prompt: str) -> None:
    """Send a prompt, as a person would."""
    await page.get_by_label("Your prompt").fill(prompt)
    await page.keyboard.press("Enter")


async def written(page: Page, answer: int = 0) -> str:
    """Return the words of an answer."""
    found: str = await page.evaluate(
        """(at) => [...[...document.querySelectorAll(".assistant")].at(at)?.querySelectorAll(".text") ?? []]
            .map((block) => block.textContent).join("\\n")""",
        answer,
    )
    return plain(found)


async def speaking(page: Page, answer: int = 0, words: int = 8) -> str:
    """Wait until an answer has some words, and return them."""

    async def some() -> str | None:
        text = await written(page, answer)
        return text if len(text.split()) >= words else None

    return str(await until(some, "the answer to begin"))


async def ready(page: Page) -> None:
    """Wait until no answer is in progress."""
    await expect(page.locator("#status")).to_have_attribute("data-status", "ready", timeout=PATIENCE_MS)


async def test_tokens_come_after_a_tool(page: Page, demo: Demo) -> None:
    """The prompt, the tool with its result, and an answer that grows."""
    await enter(page, demo)
    await ask(page, TRAIN)
    some = await speaking(page)
    assert answer_to(TRAIN) != some
    assert answer_to(TRAIN).startswith(some)
    await ready(page)
    assert answer_to(TRAIN) == await written(page)
    await expect(page.locator(".user")).to_have_text(TRAIN)
    await expect(page.locator(".tool b")).to_have_text("travel days")
    await expect(page.locator(".tool output")).to_have_text("53.39")


async def test_a_reload_in_the_middle(page: Page, demo: Demo) -> None:
    """The prompt and what was said are there again, once, and the answer goes on."""
    await enter(page, demo)
    await ask(page, TRAIN)
    before = await speaking(page)
    await page.reload()
    after = await speaking(page, words=len(before.split()))
    assert answer_to(TRAIN) != after, "the answer was over before the reload: this test saw nothing"
    assert after.startswith(before)
    await ready(page)
    assert answer_to(TRAIN) == await written(page)
    await expect(page.locator("article")).to_have_count(2)


async def test_an_answer_that_ends_while_the_page_comes_back(page: Page, demo: Demo) -> None:
    """The page has read that it runs, and there is nothing to resume any more: it is shown, whole."""
    looks = 0
    let_go = asyncio.Event()

    async def second_waits(route: Route) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await let_go.wait()
        await route.continue_()

    await enter(page, demo)
    topic = f"chat/{page.url.rpartition('/')[2]}"
    await ask(page, "Will you wait for me?")
    await speaking(page)
    await page.route(re.compile("offset=latest"), second_waits)
    await page.reload()
    await until(lambda: looks == 2, "the page to look for an answer to resume")

    async def over() -> bool:
        return {"type": "finish"} in [message.data for message in await demo.messages(topic)]

    await until(over, "the end of the answer")
    assert "" == await written(page)
    let_go.set()
    await speaking(page)
    await ready(page)
    assert answer_to("Will you wait for me?") == await written(page)
    await expect(page.locator("article")).to_have_count(2)


async def test_a_second_turn(page: Page, demo: Demo) -> None:
    """Each answer belongs to its prompt, live and after a reload at the end."""
    prompts = ["Who are you?", "And who am I?"]
    await enter(page, demo)
    for at, prompt in enumerate(prompts):
        await ask(page, prompt)
        await speaking(page, at)
        await ready(page)
    for _ in range(2):
        await expect(page.locator("article")).to_have_count(4)
        assert [answer_to(prompt) for prompt in prompts] == [await written(page, at) for at in range(2)]
        assert prompts == await page.locator(".user").all_inner_texts()
        await page.reload()
        await ready(page)


async def test_stop(page: Page, demo: Demo) -> None:
    """The agent is stopped, for every reader; what it said stays, and the next prompt is answered."""
    await enter(page, demo)
    await ask(page, "Tell me about stops.")
    await speaking(page)
    await page.get_by_role("button", name="Stop").click()
    await ready(page)
    said = await written(page)
    assert answer_to("Tell me about stops.") != said
    assert answer_to("Tell me about stops.").startswith(said)
    topic = f"chat/{page.url.rpartition('/')[2]}"
    assert "stop" in [message.event for message in await demo.messages(topic)]
    await ask(page, "Go on.")
    await speaking(page, 1)
    await ready(page)
    assert [said, answer_to("Go on.")] == [await written(page), await written(page, 1)]
    await page.reload()
    await ready(page)
    assert [said, answer_to("Go on.")] == [await written(page), await written(page, 1)]


async def test_stop_while_the_model_is_silent(page: Page, demo: Demo) -> None:
    """The next prompt may be sent at once: how the agent ends the turn that was stopped is no end of the next one."""
    await enter(page, demo)
    await ask(page, "/think about stops")
    topic = f"chat/{page.url.rpartition('/')[2]}"

    async def thinks() -> bool:
        return {"type": "start-step"} in [message.data for message in await demo.messages(topic)]

    await until(thinks, "the model to be asked")
    await page.get_by_role("button", name="Stop").click()
    await ready(page)
    await ask(page, "Go on.")
    await speaking(page, -1)
    await ready(page)
    assert answer_to("Go on.") == await written(page, -1)


@LONG
async def test_stop_while_a_tool_runs(page: Page, demo: Demo) -> None:
    """Nothing can be stopped yet: the model is when it speaks, and nothing of it comes into the next answer."""
    await enter(page, demo)
    await ask(page, TRAIN)
    await expect(page.locator(".tool")).to_be_visible(timeout=PATIENCE_MS)
    await page.get_by_role("button", name="Stop").click()
    await ready(page)
    said = await written(page)
    assert answer_to(TRAIN).startswith(said)
    assert answer_to(TRAIN) != said
    await ask(page, "Go on.")
    await speaking(page, 1)
    await ready(page)
    assert answer_to("Go on.") == await written(page, 1)


@pytest.mark.parametrize(
    "part", ["the page", pytest.param("the service", marks=LONG), pytest.param("the agent", marks=LONG)]
)
async def test_cut_in_the_middle(page: Page, demo: Demo, part: str) -> None:
    """Kill -9 of what the stream comes from or goes through: the answer goes on, each word once."""
    prompt = f"Tell me about cuts, and do not mind that {part} is killed."
    await enter(page, demo)
    await ask(page, prompt)
    before = await speaking(page)
    await demo.kill(part)
    assert answer_to(prompt) != before, "the answer was over before the cut: this test saw nothing"
    await demo.revived(part)
    await ready(page)
    assert answer_to(prompt) == await written(page)
    await expect(page.get_by_role("alert")).to_have_count(0)


@LONG
async def test_a_step_that_fails_is_replaced(page: Page, demo: Demo) -> None:
    """Its words give way to those of the next attempt; after a reload they never were."""
    await enter(page, demo)
    await ask(page, "/fail, please")
    assert plain(model.FAIL_FIRST).startswith(await speaking(page))
    await ready(page)
    assert plain(model.FAIL_THEN) == await written(page)
    await page.reload()
    await ready(page)
    assert plain(model.FAIL_THEN) == await written(page)


@LONG
async def test_a_prompt_that_is_not_accepted(page: Page, demo: Demo) -> None:
    """The page says so; sent again, it is one turn."""
    await enter(page, demo)
    await page.route("**/prompt", lambda route: route.fulfill(status=503, json={"error": "Restate cannot be reached"}))
    await ask(page, "Are you there?")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.unroute("**/prompt")
    await page.get_by_role("button", name="Try again").click()
    await speaking(page)
    await ready(page)
    await page.reload()
    await ready(page)
    assert ["Are you there?"] == await page.locator(".user").all_inner_texts()
    assert answer_to("Are you there?") == await written(page)


@pytest.mark.skipif(not PICTURE, reason="`make screenshot` makes it")
async def test_a_picture_of_it(page: Page, demo: Demo) -> None:
    """The README's: a whole answer after a tool, and one in progress."""
    picture = Path(PICTURE or "")
    await page.set_viewport_size({"width": 820, "height": 900})
    await enter(page, demo)
    await ask(page, TRAIN)
    await speaking(page)
    await ready(page)
    await ask(page, "What happens if I reload now?")
    await speaking(page, 1, 24)
    assert len(await page.screenshot(path=picture)) > 10_000
    await expect(page.locator("#status")).to_have_text(re.compile("streaming"))
