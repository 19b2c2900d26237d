"""The example chat is stopped and answers questions: from any tab, whatever is killed, late or reloaded meanwhile."""

from __future__ import annotations

import asyncio
import json
import re

from playwright.async_api import Locator, Page, Route, expect

import model
from restate_pubsub import Received
from support.chat_demo import Demo
from support.chat_page import PATIENCE_MS, answer_to, ask, complete, enter, live, plain, speaking, written
from support.waiting import until

LONG = "Tell me a long story, please."
MAIL = "Mail the crew, but ask me first"


def topic(page: Page) -> str:
    """Return the topic of the chat that a page shows."""
    return f"chat/{page.url.rpartition('/')[2]}"


async def second_tab(page: Page) -> Page:
    """Open the same chat once more."""
    other = await page.context.new_page()
    await other.goto(page.url)
    await live(other)
    return other


async def over(page: Page, demo: Demo, turns: int = 1) -> list[Received]:
    """Wait until the agent has ended as many turns, and return what is in the topic."""

    async def ended() -> list[Received] | None:
        messages = await demo.messages(topic(page))
        return messages if sum(message.event in ("done", "failed") for message in messages) == turns else None

    return await until(ended, "the agent to end its turn")  # type: ignore[no-any-return]


def events(messages: list[Received], name: str) -> list[Received]:
    """Return the messages with this event."""
    return [message for message in messages if message.event == name]


def stop_button(page: Page) -> Locator:
    """Return the button that is there while something is said."""
    return page.get_by_role("button", name="Stop the answer")


async def question(page: Page) -> Locator:
    """Wait for a question that can be answered, and return it."""
    found = page.get_by_role("region", name="May I send this mail?")
    await expect(found.get_by_role("button", name="Yes, send it")).to_be_visible(timeout=PATIENCE_MS)
    return found


async def verdict(page: Page, words: str) -> None:
    """Wait until the question is shown as ended like this, with nothing left to press."""
    await expect(page.locator(".verdict")).to_have_text(words, timeout=PATIENCE_MS)
    await expect(page.locator(".question button")).to_have_count(0)


async def test_an_answer_is_stopped_from_another_tab(page: Page, demo: Demo) -> None:
    """Both tabs show it, what was said stays, a reload says that it was stopped, and the next prompt is answered."""
    await enter(page, demo)
    other = await second_tab(page)
    await expect(stop_button(page)).to_be_hidden()
    await ask(page, LONG)
    await speaking(page)
    await speaking(other)
    await stop_button(other).click()
    for tab in (page, other):
        await expect(tab.locator(".stopped")).to_have_text("Stopped")
        await expect(tab.locator(".turn")).not_to_have_class(re.compile("busy"))
        await expect(stop_button(tab)).to_be_hidden()
    await expect(other.get_by_label("Your prompt")).to_be_focused()
    await expect(page.get_by_role("log")).to_contain_text("The answer was stopped.")

    messages = await over(page, demo)
    (stop,) = events(messages, "stop")
    assert [said.offset for said in events(messages, "token") if said.offset > stop.offset] == []
    assert events(messages, "failed") == []
    said = plain("".join(token.data["text"] for token in events(messages, "token")))
    assert said != answer_to(LONG), "the answer was over before the stop: this test saw nothing"
    assert answer_to(LONG).startswith(said)
    assert said == await written(page) == await written(other)

    await page.reload()
    await expect(page.locator(".stopped")).to_have_text("Stopped")
    assert said == await complete(page)
    await expect(stop_button(page)).to_be_hidden()
    await ask(page, "And now?")
    assert answer_to("And now?") == await complete(page)
    await expect(page.locator(".stopped")).to_have_count(1)


async def test_a_stop_while_the_model_thinks_ends_the_turn(page: Page, demo: Demo) -> None:
    """Escape is enough; the agent does not wait for a model that is silent for a minute."""
    await enter(page, demo)
    await ask(page, "/think about it")
    await until(lambda: demo.runs("answer"), "the model to think")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await page.keyboard.press("Escape")
    await expect(page.locator(".stopped")).to_have_text("Stopped")
    messages = await over(page, demo)
    assert loop.time() - began < model.ScriptedModel.THINKS / 3
    assert events(messages, "token") == []
    assert 1 == len(events(messages, "stop"))


async def test_a_stopped_turn_is_not_begun_again_by_its_retry(page: Page, demo: Demo) -> None:
    """Stopped while the agent is dead: its successor runs the step again, and is told at once."""
    await enter(page, demo)
    await ask(page, LONG)
    await speaking(page)
    await demo.kill("the agent")
    await stop_button(page).click()
    await expect(page.locator(".stopped")).to_have_text("Stopped")
    said = await written(page)
    await demo.revived("the agent")
    messages = await over(page, demo)
    (stop,) = events(messages, "stop")
    assert [name for name in ("restart", "failed") if events(messages, name)] == []
    assert [token.offset for token in events(messages, "token") if token.offset > stop.offset] == []
    assert said == await written(page)
    assert said != answer_to(LONG), "the answer was over before the stop: this test saw nothing"


async def test_a_tool_acts_once_though_the_agent_died_between_question_and_answer(page: Page, demo: Demo) -> None:
    """The question is there after a reload, an answer counts while nobody waits, and it is asked and done once."""
    await enter(page, demo)
    await ask(page, MAIL)
    asked = await question(page)
    await expect(asked).to_contain_text("crew@moon.example")
    await expect(page.get_by_role("log")).to_contain_text("A question: May I send this mail?")
    assert events(await demo.messages(topic(page)), "mail") == []
    await demo.kill("the agent")
    await page.reload()
    await (await question(page)).get_by_role("button", name="Yes, send it").press("Enter")
    await verdict(page, "Answered: yes")
    await expect(page.get_by_label("Your prompt")).to_be_focused()
    await demo.revived("the agent")
    await expect(page.locator(".tool .outcome")).to_have_text("sent", timeout=PATIENCE_MS)
    assert plain(model.SENT) == await complete(page)
    messages = await over(page, demo)
    assert [1, 1, 1] == [len(events(messages, name)) for name in ("question", "answer", "mail")]
    await page.reload()
    await verdict(page, "Answered: yes")
    assert plain(model.SENT) == await complete(page)


async def test_of_two_answers_the_first_one_counts(page: Page, demo: Demo) -> None:
    """Two tabs answer at once: both show what counts, and the one that was late says so."""
    await enter(page, demo)
    other = await second_tab(page)
    await ask(page, MAIL)
    first, second = await question(page), await question(other)
    held: asyncio.Queue[Route] = asyncio.Queue()
    await other.route(re.compile("do=answer"), held.put)
    await second.get_by_role("button", name="Yes, send it").click()
    route = await held.get()
    await first.get_by_role("button", name="No").click()
    await verdict(page, "Answered: no")
    await expect(second.get_by_role("button")).to_have_count(0)
    await route.continue_()
    await verdict(other, "Your answer came too late. Answered: no")
    why = plain(model.NOT_SENT.format(why="you said no"))
    assert why == await complete(page) == await complete(other)
    messages = await over(page, demo)
    assert [1, 0] == [len(events(messages, name)) for name in ("answer", "mail")]


async def test_a_question_that_nobody_answers_is_withdrawn(page: Page, demo: Demo) -> None:
    """The page says so and offers nothing more, to whoever comes later as well."""
    await enter(page, demo)
    await ask(page, f"/hurry {MAIL}")
    await question(page)
    await verdict(page, "Nobody answered in time. The question is withdrawn.")
    await expect(page.get_by_role("log")).to_contain_text("The question is withdrawn.")
    await expect(page.locator(".tool .outcome")).to_have_text("not sent")
    why = plain(model.NOT_SENT.format(why="nobody answered in time"))
    assert why == await complete(page)
    late = await second_tab(page)
    await verdict(late, "Nobody answered in time. The question is withdrawn.")
    assert why == await complete(late)
    assert events(await over(page, demo), "mail") == []


async def test_a_turn_that_is_stopped_asks_no_longer(page: Page, demo: Demo) -> None:
    """Its question is answered with no, by the tab that stops, and the tool does not act."""
    await enter(page, demo)
    other = await second_tab(page)
    await ask(page, MAIL)
    await question(page)
    await question(other)
    await stop_button(other).click()
    for tab in (page, other):
        await expect(tab.locator(".stopped")).to_have_text("Stopped")
        await verdict(tab, "Answered: no")
    messages = await over(page, demo)
    assert [1, 1, 0, 0] == [len(events(messages, name)) for name in ("stop", "answer", "mail", "token")]


async def test_a_stop_of_all_that_speaks_is_not_for_who_waits_for_a_person(page: Page, demo: Demo) -> None:
    """It names no turn: the one that speaks is shown as stopped, and the one that asks can still be answered."""
    await enter(page, demo)
    await ask(page, MAIL)
    asked = await question(page)
    await expect(page.locator(".tool .outcome")).to_have_text("asks first")
    await ask(page, LONG)
    await speaking(page)
    await demo.stop_all(topic(page))
    await expect(page.locator(".turn").last.locator(".stopped")).to_have_text("Stopped")
    await expect(page.locator(".stopped")).to_have_count(1)
    await expect(stop_button(page)).to_be_visible()
    await asked.get_by_role("button", name="Yes, send it").click()
    messages = await over(page, demo, turns=2)
    assert [1, 1, 1] == [len(events(messages, name)) for name in ("stop", "answer", "mail")]
    await page.reload()
    await expect(page.locator(".tool .outcome")).to_have_text("sent")
    await expect(page.locator(".stopped")).to_have_count(1)
    await expect(stop_button(page)).to_be_hidden()


async def test_a_yes_after_the_stop_lets_nothing_act(page: Page, demo: Demo) -> None:
    """Whoever stopped died before it said no: the question is still open, and the stop guards the tool."""
    await enter(page, demo)
    await ask(page, MAIL)
    await question(page)
    (turn,) = {asked.data["question"]["turn"] for asked in events(await demo.messages(topic(page)), "question")}
    url = f"{demo.url}/pubsub/{topic(page)}"
    stopped = await page.request.post(f"{url}?do=stop", data={"id": turn})
    assert [turn] == (await stopped.json())["stopped"]
    await expect(page.locator(".stopped")).to_have_text("Stopped")
    await page.reload()
    await (await question(page)).get_by_role("button", name="Yes, send it").click()
    await verdict(page, "Answered: yes")
    messages = await over(page, demo)
    assert [0, 0] == [len(events(messages, name)) for name in ("mail", "token")]


async def test_the_page_s_server_passes_on_nothing_but_stops_and_answers(page: Page, demo: Demo) -> None:
    """Who reaches the page cannot speak in the agent's name, and a form of another site can send nothing."""
    await enter(page, demo)
    url = f"{demo.url}/pubsub/{topic(page)}"
    for query in ("", "?do=publish", "?do=stop&do=publish"):
        assert 400 == (await page.request.post(f"{url}{query}", data={"turn": "x"})).status
    form = await page.request.post(
        f"{url}?do=stop", data=json.dumps({"id": "x"}), headers={"content-type": "text/plain"}
    )
    assert 415 == form.status
    assert await demo.messages(topic(page)) == []
