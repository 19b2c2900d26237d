"""The agents of `examples/agents`, each in the example chat's page, as `make demo FRAMEWORK=…` runs it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

import model
from support.chat_demo import Demo
from support.chat_page import PATIENCE_MS, TRAIN, answer_to, ask, complete, enter, live, plain, speaking
from support.chromium import browser, page
from support.harness import ROOT
from support.made import demo_options, made

__all__ = ["browser", "page"]

AGENTS = ROOT / "examples" / "agents"
SHORT = "pydantic-ai"
FRAMEWORKS = sorted(path.stem for path in AGENTS.glob("*.txt"))
ALL = os.environ.get("AGENTS") == "all"
CHOSEN = FRAMEWORKS if ALL else [SHORT]


def test_there_is_an_agent_of_each_framework() -> None:
    """And nothing else."""
    assert ["adk", "langchain", "openai-agents", "pydantic-ai"] == FRAMEWORKS


@pytest.fixture(scope="module", params=CHOSEN)
async def framework(request: pytest.FixtureRequest) -> str:
    """Return the name of a framework whose environment is there."""
    framework: str = request.param
    await made(f".agents/{framework}/.done")
    return framework


@pytest.fixture(scope="module")
async def demo(framework: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """Return the running demo of a framework, started with what `make` would start it with."""
    options = await demo_options("demo", f"FRAMEWORK={framework}")
    demo = Demo(tmp_path_factory.mktemp("demo"), *options, OPENAI_API_KEY="", GOOGLE_API_KEY="")
    try:
        await demo.start()
        yield demo
    finally:
        await demo.stop()


async def test_tokens_come_after_a_tool(page: Page, demo: Demo) -> None:
    """The prompt, the tool with its result, and an answer that grows."""
    await enter(page, demo)
    await ask(page, TRAIN)
    some = await speaking(page)
    assert answer_to(TRAIN) != some
    assert answer_to(TRAIN).startswith(some)
    assert answer_to(TRAIN) == await complete(page)
    await expect(page.locator(".user")).to_have_text(TRAIN)
    await expect(page.locator(".tool .name")).to_have_text("travel days")
    await expect(page.locator(".tool .outcome")).to_have_text("53.39")


async def test_a_tool_of_the_conversation(page: Page, demo: Demo) -> None:
    """It knows the topic that the run writes to."""
    await enter(page, demo)
    await ask(page, "What keeps this answer safe?")
    assert "the log went from 0 to" in await complete(page)


async def test_a_step_that_fails_is_replaced(page: Page, demo: Demo) -> None:
    """Its words are struck out, in the turn that they belong to; after a reload they never were."""
    await enter(page, demo)
    await ask(page, "/fail, please")
    struck = page.locator("del.gone")
    await expect(struck).to_be_visible(timeout=PATIENCE_MS)
    assert plain(model.FAIL_FIRST) == " ".join((await struck.inner_text()).split())
    assert plain(model.FAIL_THEN) == await complete(page)
    await expect(page.locator(".turn")).to_have_count(1)
    await page.reload()
    await live(page)
    assert plain(model.FAIL_THEN) == await complete(page)


@pytest.mark.skipif(not ALL, reason="`make test-agents` runs it")
async def test_the_agent_is_killed_while_it_speaks(page: Page, demo: Demo) -> None:
    """The answer is complete, each word once, and the tool is there once."""
    prompt = "Would a train to the Moon mind if its agent is killed?"
    await enter(page, demo)
    await ask(page, prompt)
    some = await speaking(page)
    await demo.kill("the agent")
    assert answer_to(prompt) != some, "the answer was over before the kill"
    await demo.revived("the agent")  # Restate's next try may come some time later: the waits between them grow
    await expect(page.locator(".turn")).not_to_have_class(re.compile("busy"), timeout=2 * PATIENCE_MS)
    assert answer_to(prompt) == await complete(page)
    await expect(page.locator(".tool")).to_have_count(1)
    await expect(page.locator(".turn")).to_have_count(1)


async def test_stopped_while_it_speaks(page: Page, demo: Demo) -> None:
    """What was said stays, and the turn is over."""
    await enter(page, demo)
    await ask(page, "Tell me about stops.")
    await speaking(page)
    await page.keyboard.press("Escape")
    await expect(page.locator(".stopped")).to_be_visible(timeout=PATIENCE_MS)
    said = await complete(page)
    assert answer_to("Tell me about stops.") != said
    assert answer_to("Tell me about stops.").startswith(said)
