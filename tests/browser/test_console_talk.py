"""What people say back, on the operators' page: stops, questions, answers; and joined messages as one row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from restate_pubsub import PubsubClient, StreamStopped, create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.asking import Asking
from support.console_page import follow, rows, sideways, with_console
from support.contrast import unreadable
from support.faults import Proxy
from support.harness import Service, call, publish

TO = "\N{EN DASH}"


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with the console."""
    service = with_console(restate)
    yield await service.start()
    await service.stop()


@pytest.fixture
async def asking(restate: RestateServer, service: Service, tmp_path: Path) -> AsyncIterator[Asking]:  # noqa: ARG001
    """Return a program that asks."""
    async with Asking(restate, tmp_path) as program:
        yield program


@pytest.fixture
async def client(restate: RestateServer) -> AsyncIterator[PubsubClient]:
    """Return a client of the object."""
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


async def asked(page: Page) -> str:
    """Return the id of the newest question."""
    found: str = await page.evaluate(
        """() => JSON.parse([...document.querySelectorAll("tr.question")].at(-1).cells[2].textContent).id"""
    )
    return found


async def named(page: Page, count: int) -> list[list[str]]:
    """Wait for so many rows, and return their ids and events, each with its note."""
    return [row[:2] for row in await rows(page, count)]


async def test_a_question_is_open_until_it_is_answered(
    page: Page, service: Service, asking: Asking, client: PubsubClient, topic: str
) -> None:
    """The row says so, and by which event; a count says how many are open. A reload shows the same."""
    await follow(page, service.url, topic)
    first = await asking.ask(topic, {"tool": "send_mail"})
    assert [["1", "question open"]] == await named(page, 1)
    await expect(page.locator("#asked")).to_have_text("1 open question")
    question = await asked(page)
    await asking.ask(topic, "may I?")
    assert [["1", "question open"], ["2", "question open"]] == await named(page, 2)
    await expect(page.locator("#asked")).to_have_text("2 open questions")
    await client.answer(topic, question, {"yes": True})
    assert {"yes": True} == await first
    told = [["1", "question answered by 3"], ["2", "question open"], ["3", "answer to 1"]]
    assert told == await named(page, 3)
    await expect(page.locator("#asked")).to_have_text("1 open question")
    await page.reload()
    assert told == await named(page, 3)
    await expect(page.locator("#asked")).to_have_text("1 open question")
    await follow(page, service.url, topic, "2")
    assert [["3", "answer"]] == await named(page, 1)
    await expect(page.locator("#asked")).to_be_empty()


async def test_a_question_that_nobody_answers_is_withdrawn(
    page: Page, service: Service, asking: Asking, topic: str
) -> None:
    """Its row and the one that withdraws it say so, and it is not open any more."""
    await follow(page, service.url, topic)
    await asking.ask(topic, "may I?", timeout=0.3)
    assert [["1", "question withdrawn"], ["2", "answer withdrawn"]] == await named(page, 2)
    await expect(page.locator("#asked")).to_be_empty()


async def test_a_closed_topic_leaves_no_question_open(
    page: Page, service: Service, asking: Asking, client: PubsubClient, topic: str
) -> None:
    """It takes no answers."""
    await follow(page, service.url, topic)
    await asking.ask(topic, "may I?")
    assert [["1", "question open"]] == await named(page, 1)
    await client.close(topic)
    assert [["1", "question not answered"], ["1", "end"]] == await named(page, 2)
    await expect(page.locator("#asked")).to_be_empty()


async def test_after_a_gap_it_is_not_known_whether_a_question_is_open(
    page: Page, restate: RestateServer, service: Service, asking: Asking, client: PubsubClient, topic: str
) -> None:
    """Its answer may be among what was missed; an answer that comes later is its answer all the same."""
    async with Proxy(service.port) as proxy:
        await follow(page, proxy.url, topic)
        await asking.ask(topic, "may I?")
        assert [["1", "question open"]] == await named(page, 1)
        question = await asked(page)
        proxy.stall()
        await publish(restate, topic, "missed")
        await client.truncate(topic, 2)
        await expect(page.locator("#stream")).to_contain_text("Reconnecting: it fell silent", timeout=15_000)
        proxy.flow()
        assert [["1", "question not known"], ["2", "reset"]] == await named(page, 2)
        await expect(page.locator("#asked")).to_be_empty()
        await client.answer(topic, question, 1)
        assert [["1", "question answered by 3"], ["2", "reset"], ["3", "answer to 1"]] == await named(page, 3)


async def test_a_stop_stands_out(page: Page, service: Service, client: PubsubClient, topic: str) -> None:
    """With the stream that it stops and why, or that it stops every one."""
    await follow(page, service.url, topic)
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="a") as stream:
            await stream.write("said")
            await rows(page, 1)
            await client.stop(topic, "a", reason="enough")
            await stream.stopped
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="b") as stream:
            await client.stop(topic)
            await stream.stopped
    told = [["2", "stop", '{"id":"a","reason":"enough"}'], ["3", "stop every stream", "{}"]]
    assert told == (await rows(page, 3))[1:]
    await expect(page.locator("tr.stop")).to_have_count(2)


async def test_joined_messages_are_one_row_with_all_their_ids(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """Who comes later sees a span, also in the middle of it; what comes then is single again."""
    await publish(restate, topic, "first")
    for at in range(0, 300, 50):
        messages = [{"data": {"text": f"{token} "}, "event": "token"} for token in range(at, at + 50)]
        await call(restate, topic, "append", {"messages": messages, "join": "text"})
    await follow(page, service.url, topic)
    text = "".join(f"{token} " for token in range(300))
    assert [["1", "", '"first"'], [f"2{TO}301", "token", f'{{"text":"{text}"}}']] == await rows(page, 2)
    await publish(restate, topic, "live")
    assert ["302", "", '"live"'] == (await rows(page, 3))[2]
    await follow(page, service.url, topic, "100")
    shown = await rows(page, 2)
    assert [f"101{TO}301", "302"] == [row[0] for row in shown]


async def test_every_note_can_be_read(
    page: Page, service: Service, asking: Asking, client: PubsubClient, restate: RestateServer, topic: str
) -> None:
    """In light and in dark, and on 320 pixels, where nothing makes the page scroll sideways."""
    messages = [{"data": {"text": f"{token} "}} for token in range(100)]
    await call(restate, topic, "append", {"messages": messages, "join": "text"})
    await client.stop(topic, "never-opened", reason="a reason of some length, as people give them")
    await client.stop(topic)
    await follow(page, service.url, topic)
    await rows(page, 2)
    await asking.ask(topic, {"tool": "send_mail"})
    await rows(page, 3)
    await client.answer(topic, await asked(page), {"yes": True})
    await rows(page, 4)
    await asking.ask(topic, {"tool": "send_mail", "to": "somebody@" + "example." * 20})
    await rows(page, 5)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert await unreadable(page) == []
    await page.set_viewport_size({"width": 320, "height": 640})
    assert await sideways(page) <= 0
    assert await unreadable(page) == []


async def test_what_has_only_the_name_of_a_question_is_a_message(page: Page, service: Service, topic: str) -> None:
    """The names were not always reserved: such an event is shown without a note, and reading goes on."""
    said = ("question\ndata: 7", "question\ndata: {nonsense", "answer\ndata: null", 'end\ndata: {"nextOffset":3}')
    body = ": open\nretry: 100\n" + "".join(f"id: {place}\nevent: {event}\n\n" for place, event in enumerate(said, 1))

    async def tells(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=body)

    await page.route("**/pubsub/**", tells)
    await follow(page, service.url, topic)
    assert [["1", "question"], ["2", "question"], ["3", "answer"], ["4", "end"]] == await named(page, 4)
    await expect(page.locator("#asked")).to_be_empty()
