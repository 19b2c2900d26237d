"""The AI SDK's `useChat`, unmodified, in Chromium, on `TopicChatTransport`: turns, cuts, reloads, restarts, stops."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.async_api import Page

from javascript.conftest import Bundle
from restate_pubsub import StreamStopped
from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.node import NODE
from support.origin import Origin
from support.waiting import PATIENCE, until

PAGE = """<!doctype html><title>chat</title><div id="root"></div><script type="module" src="/js/page.js"></script>"""
BEGIN = ({"type": "start"}, {"type": "start-step"}, {"type": "text-start", "id": "t"})
END = ({"type": "text-end", "id": "t"}, {"type": "finish-step"}, {"type": "finish"})


def delta(text: str) -> dict[str, Any]:
    return {"type": "text-delta", "id": "t", "delta": text}


@pytest.fixture(scope="session")
async def origin(service: Service, bundle: Bundle) -> AsyncIterator[Origin]:
    """Return an origin with the page and the streams."""
    async with Origin(PAGE, files={"/js": bundle("chat.jsx")}).serving(service) as origin:
        yield origin


@pytest.fixture
async def prompts(page: Page) -> list[str]:
    """Return the prompts that the page has sent."""
    prompts: list[str] = []
    await page.expose_function("ask", lambda text: prompts.append(text))  # noqa: PLW0108 - it wants a function
    return prompts


async def show(page: Page, origin: Origin, topic: str, **options: str) -> None:
    await page.goto(f"{origin.url}/?{urlencode({'chat': topic} | options)}")
    await page.wait_for_function("() => Boolean(window.send)")


async def shows(page: Page, status: str, *texts: list[str]) -> None:
    """Wait until the chat is in this state, with these texts."""
    wanted = [status, "", json.dumps(texts, separators=(",", ":"), ensure_ascii=False)]
    script = "['status', 'error', 'texts'].map((id) => document.getElementById(id)?.textContent ?? '')"
    try:
        await page.wait_for_function(
            f"(wanted) => JSON.stringify({script}) === wanted",
            arg=json.dumps(wanted, separators=(",", ":"), ensure_ascii=False),
            timeout=PATIENCE * 1000,
        )
    except Exception:
        assert wanted == await page.evaluate(script)
        raise


async def asks(page: Page, prompts: list[str], text: str) -> None:
    """Let the page send a prompt, and wait until it has come."""
    before = len(prompts)
    await page.evaluate("(text) => send(text)", text)
    await until(lambda: len(prompts) > before, "the prompt")


async def test_two_turns(page: Page, origin: Origin, restate: RestateServer, topic: str, prompts: list[str]) -> None:
    """Each answer comes word by word and ends; what else is in the topic is not for the chat."""
    await show(page, origin, topic)
    await asks(page, prompts, "Hi")
    await publish(restate, topic, "no chunk", *BEGIN, delta("Hel"))
    await shows(page, "streaming", ["user", "Hi"], ["assistant", "Hel"])
    await call(restate, topic, "append", {"messages": [{"data": {"type": "x"}, "event": "tool"}]})
    await publish(restate, topic, delta("lo"), *END)
    await shows(page, "ready", ["user", "Hi"], ["assistant", "Hello"])
    await asks(page, prompts, "Again")
    await publish(restate, topic, *BEGIN, delta("Sure"), *END)
    await shows(page, "ready", ["user", "Hi"], ["assistant", "Hello"], ["user", "Again"], ["assistant", "Sure"])


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_a_cut_in_the_middle(
    page: Page, origin: Origin, restate: RestateServer, topic: str, prompts: list[str], *, tidy: bool
) -> None:
    """The chat does not even notice, however the response ends; nothing is missing, nothing twice."""
    origin.tidy = tidy
    await show(page, origin, topic)
    await asks(page, prompts, "Hi")
    await publish(restate, topic, *BEGIN, delta("Hel"))
    await shows(page, "streaming", ["user", "Hi"], ["assistant", "Hel"])
    origin.cut()
    await publish(restate, topic, delta("lo"), *END)
    await shows(page, "ready", ["user", "Hi"], ["assistant", "Hello"])
    assert ["ready", "submitted", "streaming", "ready"] == await page.evaluate("statuses")


@pytest.mark.parametrize("before", [0, 1200], ids=["short", "long"])
async def test_a_reload_in_the_middle(
    page: Page, origin: Origin, restate: RestateServer, topic: str, prompts: list[str], before: int
) -> None:
    """The answer in progress comes from its beginning, and goes on, also if it begins far back."""
    assert [] == prompts
    await publish(restate, topic, *BEGIN, delta("Old"), *END, *BEGIN, *[delta("-")] * before, delta("Hel"))
    await show(page, origin, topic, resume="")
    await shows(page, "streaming", ["assistant", "-" * before + "Hel"])
    await publish(restate, topic, delta("lo"), *END)
    await shows(page, "ready", ["assistant", "-" * before + "Hello"])


async def test_nothing_to_resume(
    page: Page, origin: Origin, restate: RestateServer, topic: str, prompts: list[str]
) -> None:
    """In an empty topic, and after an answer that has ended: the chat is ready, and takes the next prompt."""
    for _ in range(2):
        before = len(origin.requests)
        await show(page, origin, topic, resume="")
        await until(lambda: len(origin.requests) >= before + 2, "both looks")  # noqa: B023 - used at once
        await shows(page, "ready")
        await asks(page, prompts, "Hi")
        await publish(restate, topic, *BEGIN, delta("Hello"), *END)
        await shows(page, "ready", ["user", "Hi"], ["assistant", "Hello"])


@pytest.mark.parametrize("meanwhile", ["live", "reloaded", "cut"])
async def test_a_retried_step(
    page: Page,
    origin: Origin,
    restate: RestateServer,
    client: PubsubClient,
    topic: str,
    prompts: list[str],
    meanwhile: str,
) -> None:
    """What the abandoned attempt wrote is gone; the steps before it stay. A chat that was cut comes back behind it."""
    await show(page, origin, topic)
    await asks(page, prompts, "Hi")
    await publish(restate, topic, *BEGIN[:2])
    user = [] if meanwhile == "reloaded" else [["user", "Hi"]]
    with contextlib.suppress(RuntimeError):
        async with client.stream(topic, id="step") as stream:
            await stream.write(BEGIN[2])
            await stream.write(delta("Hel"))
            await shows(page, "streaming", ["user", "Hi"], ["assistant", "Hel"])
            if meanwhile == "reloaded":
                await show(page, origin, topic, resume="")
                await shows(page, "streaming", ["assistant", "Hel"])
            raise RuntimeError
    if meanwhile == "cut":
        origin.cut()
    async with client.stream(topic, id="step") as stream:
        await stream.write(BEGIN[2])
        await stream.write(delta("Bonjour"))
    await publish(restate, topic, *END)
    await shows(page, "ready", *user, ["assistant", "Bonjour"])


@pytest.mark.parametrize("reload", [False, True], ids=["live", "reloaded"])
async def test_the_reader_stops_the_writer(
    page: Page,
    origin: Origin,
    restate: RestateServer,
    client: PubsubClient,
    topic: str,
    prompts: list[str],
    *,
    reload: bool,
) -> None:
    """If the page wants that: `stop()` tells the writer, and the chat keeps what it said; later it stops nothing."""
    user = [] if reload else [["user", "Hi"]]
    await show(page, origin, topic, stops="answer")
    await asks(page, prompts, "Hi")
    await publish(restate, topic, *BEGIN)

    async def has_stopped() -> bool:
        return bool((await call(restate, topic, "info"))[1]["tail"] == len([*BEGIN, "Hel", "stop"]))

    with pytest.raises(StreamStopped) as stopped:
        async with client.stream(topic, id="answer") as stream:
            await stream.write(delta("Hel"))
            if reload:
                await show(page, origin, topic, stops="answer", resume="")
            await shows(page, "streaming", *user, ["assistant", "Hel"])
            await page.evaluate("stop()")
            await shows(page, "ready", *user, ["assistant", "Hel"])
            await until(has_stopped, "the stop")
            await stream.write(delta("lo"))
    assert "enough" == stopped.value.reason
    tail = (await call(restate, topic, "info"))[1]["tail"]
    await page.evaluate("stop()")
    await asks(page, prompts, "Again")
    await publish(restate, topic, *BEGIN, delta("Sure"), *END)
    await shows(page, "ready", *user, ["assistant", "Hel"], ["user", "Again"], ["assistant", "Sure"])
    assert tail + len([*BEGIN, 1, *END]) == (await call(restate, topic, "info"))[1]["tail"]


async def test_the_reader_stops(
    page: Page, origin: Origin, restate: RestateServer, service: Service, topic: str, prompts: list[str]
) -> None:
    """The chat keeps what it has and is ready; its stream has gone."""
    await show(page, origin, topic)
    await asks(page, prompts, "Hi")
    await publish(restate, topic, *BEGIN, delta("Hel"))
    await shows(page, "streaming", ["user", "Hi"], ["assistant", "Hel"])
    await page.evaluate("stop()")
    await shows(page, "ready", ["user", "Hi"], ["assistant", "Hel"])
    await service.has_streams(0)


async def test_a_topic_that_ends_ends_the_answer(
    page: Page, origin: Origin, restate: RestateServer, topic: str, prompts: list[str]
) -> None:
    """It is aborted, and does not stay in progress for ever."""
    await show(page, origin, topic)
    await asks(page, prompts, "Hi")
    await publish(restate, topic, *BEGIN, delta("Hel"))
    await shows(page, "streaming", ["user", "Hi"], ["assistant", "Hel"])
    await call(restate, topic, "close")
    await shows(page, "ready", ["user", "Hi"], ["assistant", "Hel"])


def test_the_event_stop_ends_the_answer(modules: Path) -> None:
    """Once: a second one, or one before any answer, is nothing to the chat."""
    script = """
      import { Answer } from "file:ANSWER";
      const answer = new Answer();
      const events = [["stop", {}], ["message", { type: "start" }], ["stop", {}], ["stop", {}]];
      console.log(JSON.stringify(events.map(([name, data], at) => answer.take(name, data, at)?.type ?? null)));
    """.replace("ANSWER", str(modules / "restate-pubsub" / "dist" / "ai-sdk" / "answer.js"))
    said = subprocess.run([NODE, "--input-type=module", "-e", script], check=True, capture_output=True, text=True)
    assert [None, "start", "abort", None] == json.loads(said.stdout)


async def test_a_prompt_that_is_refused_is_an_error(page: Page, origin: Origin, service: Service, topic: str) -> None:
    """The chat says what the page's own route said, and leaves the topic."""
    await show(page, origin, topic, refuse="")
    await page.evaluate("send('Hi')")
    await page.wait_for_function("document.getElementById('status').textContent === 'error'", timeout=PATIENCE * 1000)
    assert "soon" in (await page.locator("#error").text_content() or "")
    await service.has_streams(0)
