"""`useTopic` in a real React page, in Chromium: history, tokens, restarts, cuts, another topic, and the end."""

from __future__ import annotations

import contextlib
import json
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
from support.asking import Asking
from support.harness import Service, call, publish, topic_name
from support.origin import Origin
from support.waiting import PATIENCE

PAGE = """<!doctype html><title>topic</title><div id="root"></div><script type="module" src="/js/page.js"></script>"""


@pytest.fixture(scope="session")
async def origin(service: Service, bundle: Bundle) -> AsyncIterator[Origin]:
    """Return an origin with the page and the streams."""
    async with Origin(PAGE, files={"/js": bundle("topic.jsx")}).serving(service) as origin:
        yield origin


@pytest.fixture
async def asking(restate: RestateServer, tmp_path: Path) -> AsyncIterator[Asking]:
    """Return a program that asks."""
    async with Asking(restate, tmp_path) as program:
        yield program


async def shows(page: Page, *messages: Any) -> None:
    """Wait until the page shows these messages, as (first offset, last offset, event, data)."""
    wanted = [json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in messages]
    script = "wanted => JSON.stringify([...document.querySelectorAll('li')].map((li) => li.textContent)) === wanted"
    said = json.dumps(wanted, separators=(",", ":"), ensure_ascii=False)
    try:
        await page.wait_for_function(script, arg=said, timeout=PATIENCE * 1000)
    except Exception:
        shown = await page.locator("li").all_text_contents()
        assert wanted == shown
        raise


async def says(page: Page, name: str, text: str) -> None:
    """Wait until the page says so."""
    script = "([id, text]) => document.getElementById(id)?.textContent === text"
    await page.wait_for_function(script, arg=[name, text], timeout=PATIENCE * 1000)


async def show(page: Page, origin: Origin, topic: str | None, **options: str) -> None:
    url = {} if topic is None else {"url": f"/pubsub/{topic}"}
    await page.goto(f"{origin.url}/?{urlencode(url | options)}")


async def test_history_and_live_messages_as_one_list(
    page: Page, origin: Origin, restate: RestateServer, topic: str
) -> None:
    """In development React mounts each component twice: nothing is shown twice, and a history is a few renders."""
    await publish(restate, topic, *range(300))
    await show(page, origin, topic)
    history = [[at, at, "message", at] for at in range(300)]
    await shows(page, *history)
    assert 30 > await page.evaluate("renders")
    await says(page, "connection", "live")
    await call(restate, topic, "append", {"messages": [{"data": {"é": None}, "event": "tool"}]})
    await shows(page, *history, [300, 300, "tool", {"é": None}])


async def test_pieces_of_a_text_are_one_message(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """Only where one goes on where the other ended: same event, next offset, all else equal."""
    await publish(restate, topic, {"n": 1, "text": "Hel"}, {"text": "lo", "n": 1}, {"n": 2, "text": "x"}, "text", {})
    await publish(restate, topic, {"n": 2, "text": "y"})
    await call(restate, topic, "append", {"messages": [{"data": {"n": 2, "text": "z"}, "event": "other"}]})
    await show(page, origin, topic, join="text")
    await shows(
        page,
        [0, 1, "message", {"n": 1, "text": "Hello"}],
        [2, 2, "message", {"n": 2, "text": "x"}],
        [3, 3, "message", "text"],
        [4, 4, "message", {}],
        [5, 5, "message", {"n": 2, "text": "y"}],
        [6, 6, "other", {"n": 2, "text": "z"}],
    )


async def test_a_restart_drops_what_the_step_wrote(
    page: Page, origin: Origin, restate: RestateServer, client: PubsubClient, topic: str
) -> None:
    """Also in the middle of a text that was joined with what came before it; other messages stay."""
    await publish(restate, topic, {"text": "Before. "})
    with contextlib.suppress(RuntimeError):
        async with client.stream(topic, id="step") as stream:
            await stream.write({"text": "Hel"})
            await stream.write({"text": "lo"})
            await show(page, origin, topic, join="text")
            await shows(page, [0, 2, "message", {"text": "Before. Hello"}])
            await publish(restate, topic, "tool")
            await shows(page, [0, 2, "message", {"text": "Before. Hello"}], [3, 3, "message", "tool"])
            raise RuntimeError
    async with client.stream(topic, id="step") as stream:
        await stream.write({"text": "Bonjour"})
    offset = (await call(restate, topic, "info"))[1]["tail"] - 1
    await shows(
        page,
        [0, 0, "message", {"text": "Before. "}],
        [3, 3, "message", "tool"],
        [offset, offset, "message", {"text": "Bonjour"}],
    )


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_a_cut_is_shown_and_loses_nothing(
    page: Page, origin: Origin, restate: RestateServer, topic: str, *, tidy: bool
) -> None:
    """It says so while it is away, and goes on in the middle of a text."""
    origin.tidy = tidy
    await publish(restate, topic, {"text": "one, "})
    await show(page, origin, topic, join="text")
    await says(page, "connection", "live")
    origin.cut()
    await publish(restate, topic, {"text": "two"})
    await shows(page, [0, 1, "message", {"text": "one, two"}])
    await says(page, "connection", "live")


async def test_the_end_and_what_was_dropped(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """A closed topic is read to its end; a truncated one is said to have lost its beginning."""
    await publish(restate, topic, *range(5))
    await call(restate, topic, "truncate", 3)
    await call(restate, topic, "close")
    await show(page, origin, topic)
    await shows(page, [3, 3, "message", 3], [4, 4, "message", 4])
    await says(page, "connection", "ended")
    await says(page, "incomplete", "true")


async def test_another_topic_and_none(page: Page, origin: Origin, restate: RestateServer, topic: str) -> None:
    """A component that is given another URL shows nothing of the one before, and leaves its stream."""
    other = topic_name("javascript")
    await publish(restate, topic, "first")
    await publish(restate, other, "second")
    await show(page, origin, None)
    await says(page, "connection", "connecting")
    for name, text in ((topic, "first"), (other, "second")):
        await page.evaluate("(url) => show(url)", f"/pubsub/{name}")
        await shows(page, [0, 0, "message", text])
    await page.evaluate("show(null)")
    await shows(page)


async def test_a_question_and_its_answer(page: Page, origin: Origin, topic: str, asking: Asking) -> None:
    """It is open until the first answer, also for a page that was away; whoever comes later is told."""
    first = await asking.ask(topic, "may I?")
    await show(page, origin, topic)
    await says(page, "questions", '["may I?"]')
    second = await asking.ask(topic, "and this?")
    await says(page, "questions", '["may I?","and this?"]')
    offset = await page.evaluate("topic.answer(topic.questions[0].id, { yes: true })")
    assert {"offset": 2} == offset
    assert {"yes": True} == await first
    await says(page, "questions", '["and this?"]')
    origin.cut()
    answered = "([id, yes]) => topic.answer(id, { yes }).then(({ offset }) => offset, ({ problem }) => problem.code)"
    asked = await page.evaluate("topic.questions[0].id")
    assert 3 == await page.evaluate(answered, [asked, True])
    assert {"yes": True} == await second
    await says(page, "questions", "[]")
    assert "already-answered" == await page.evaluate(answered, [asked, False])
    assert 3 == await page.evaluate(answered, [asked, True])


async def test_nobody_waits_for_an_answer_any_more(page: Page, origin: Origin, topic: str, asking: Asking) -> None:
    """The question goes by itself."""
    await show(page, origin, topic)
    answer = await asking.ask(topic, "quick?", timeout=1)
    await says(page, "questions", '["quick?"]')
    await says(page, "questions", "[]")
    assert "Nobody answered" in str(await answer)


async def test_a_page_stops_a_stream(page: Page, origin: Origin, client: PubsubClient, topic: str) -> None:
    """Its writer is told why, every page sees it, and what was said stays."""
    await show(page, origin, topic, join="text")
    with pytest.raises(StreamStopped) as stopped:
        async with client.stream(topic, id="answer") as stream:
            await stream.write({"text": "Hel"})
            await shows(page, [0, 0, "message", {"text": "Hel"}])
            said = await page.evaluate("topic.stop({ id: 'answer', reason: 'enough' })")
            assert {"offset": 1, "stopped": ["answer"]} == said
            await stream.write({"text": "lo"})
    assert "enough" == stopped.value.reason
    await shows(page, [0, 0, "message", {"text": "Hel"}], [1, 1, "stop", {"id": "answer", "reason": "enough"}])


async def test_without_a_topic_nothing_is_sent(page: Page, origin: Origin) -> None:
    """The page is told what is missing."""
    await show(page, origin, None)
    await says(page, "questions", "[]")
    before = len(origin.requests)
    for what in ("topic.answer('x', 1)", "topic.stop({ id: 'x' })"):
        assert "there is no topic" in await page.evaluate(f"{what}.catch((error) => error.message)")
    assert before == len(origin.requests)


async def test_a_refusal_is_said(page: Page, origin: Origin, topic: str) -> None:
    """With the problem's code; nobody asks again."""
    before = len(origin.requests)
    await page.goto(f"{origin.url}/?{urlencode({'url': f'/pubsub/{topic}?offset=soon'})}")
    await says(page, "connection", "refused")
    code = await page.locator("#problem").text_content()
    assert code
    assert {400} == {status for status, _ in origin.requests[before:]}
