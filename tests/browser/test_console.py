"""The operators' page in a browser: what a topic says, why something is refused, and this process's figures."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
from playwright.async_api import Browser, Page, Route, expect

from restate_pubsub.commands.local_restate import RestateServer
from support.console_page import follow, rows, sideways, with_console
from support.faults import Proxy
from support.harness import ROOT, Service, call, get, publish, topic_name
from support.waiting import until

PATHS = ("/console", "/console/", "/console/console.js", "/console/talk.js", "/console/figures")


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with the console and the door."""
    service = with_console(restate, PUBSUB_PUBLISH_ENABLED="true")
    yield await service.start()
    await service.stop()


@pytest.fixture
def topic() -> str:
    """Return a fresh topic, with a slash and a space."""
    return f"{topic_name('console')}/a b"


async def streams(service: Service, topic: str) -> int:
    """Return how many streams the page's figures count for a topic."""
    figures = (await get(f"{service.url}/console/figures"))[1]
    return sum(shown["streams"] for shown in figures["topics"] if shown["topic"] == topic)


async def test_without_the_setting_there_is_no_console(restate: RestateServer) -> None:
    """Off by default: every path is a 404."""
    service = await Service(restate).start(register=False)
    assert [404] * len(PATHS) == [(await get(service.url + path))[0] for path in PATHS]
    await service.stop()


async def test_a_topic_is_followed_from_any_offset(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """Ids, names and data as they are in the stream; what is published later follows."""
    await publish(restate, topic, 1, {"two": 2})
    await call(restate, topic, "append", {"messages": [{"data": "3", "event": "token"}]})
    await follow(page, service.url, topic, "1")
    assert await rows(page, 2) == [["2", "", '{"two":2}'], ["3", "token", '"3"']]
    await publish(restate, topic, "live")
    assert (await rows(page, 3))[-1] == ["4", "", '"live"']
    await expect(page.locator("#stream")).to_contain_text("Live")
    await expect(page.locator("#count")).to_have_text("3 events")
    await follow(page, service.url, topic, "-1")
    assert await rows(page, 1) == [["4", "", '"live"']]
    await follow(page, service.url, topic, "latest")
    await expect(page.locator("#stream")).to_contain_text("Live")
    await publish(restate, topic, "newest")
    assert await rows(page, 1) == [["5", "", '"newest"']]


async def test_a_link_names_the_topic(page: Page, restate: RestateServer, service: Service, topic: str) -> None:
    """The address of a followed topic can be given to a colleague."""
    await publish(restate, topic, "here")
    await page.goto(f"{service.url}/console/#{urlencode({'topic': topic, 'offset': '0'})}")
    assert await rows(page, 1) == [["1", "", '"here"']]
    await page.reload()
    assert await rows(page, 1) == [["1", "", '"here"']]


async def test_resets_and_the_end_are_shown(page: Page, restate: RestateServer, service: Service, topic: str) -> None:
    """Both stand out, and at the end of a closed topic the page stops by itself."""
    await publish(restate, topic, 1, 2, 3)
    await call(restate, topic, "truncate", 2)
    await call(restate, topic, "close")
    await follow(page, service.url, topic)
    assert await rows(page, 3) == [
        ["2", "reset", '{"requested":0,"head":2,"tail":3}'],
        ["3", "", "3"],
        ["3", "end", '{"nextOffset":3}'],
    ]
    await expect(page.locator("#stream")).to_contain_text("The topic is closed, and everything was read")
    await expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    assert await page.locator("tr.reset").count() == await page.locator("tr.end").count() == 1


async def test_a_refusal_is_shown_with_its_reason(page: Page, service: Service, topic: str) -> None:
    """The problem document's own words."""
    await follow(page, service.url, topic, "yesterday")
    await expect(page.locator("#stream")).to_contain_text("Refused (400): offset 'yesterday' is not an offset")


async def test_a_restart_of_the_service_loses_and_repeats_nothing(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """It goes on at the last id, and says meanwhile that it reconnects."""
    await publish(restate, topic, 1)
    await follow(page, service.url, topic)
    await rows(page, 1)
    await service.kill()
    await expect(page.locator("#stream")).to_contain_text("Reconnecting")
    await expect(page.locator("#process")).to_contain_text("does not answer")
    await service.start(register=False)
    await publish(restate, topic, 2)
    assert await rows(page, 2) == [["1", "", "1"], ["2", "", "2"]]
    await expect(page.locator("#process")).to_have_attribute("data-state", "good")


async def test_stop_stops(page: Page, restate: RestateServer, service: Service, topic: str) -> None:
    """The stream is closed, here and in the service."""
    await publish(restate, topic, 1)
    await follow(page, service.url, topic)
    await rows(page, 1)
    assert await streams(service, topic) == 1
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#stream")).to_contain_text("Stopped")

    async def none() -> bool:
        return await streams(service, topic) == 0

    await until(none, "the stream to end")


async def test_latest_loses_nothing_to_a_restart_before_the_first_message(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """The stream says where it begins, and the page goes on there."""
    await publish(restate, topic, "before")
    async with Proxy(service.port) as proxy:
        await follow(page, proxy.url, topic, "latest")
        await expect(page.locator("#stream")).to_contain_text("Live")
        proxy.cut()
        await publish(restate, topic, "meanwhile")
        assert await rows(page, 1) == [["2", "", '"meanwhile"']]


@pytest.mark.usefixtures("service")  # it runs the object
async def test_latest_is_live_once_it_is_known_where_that_is(page: Page, restate: RestateServer, topic: str) -> None:
    """Restate is slow to say. What is published after "Live" is not lost, wherever the connection breaks."""
    await publish(restate, topic, "before")
    async with contextlib.AsyncExitStack() as stack:
        ingress = await stack.enter_async_context(Proxy(int(restate.ingress_url.rpartition(":")[2])))
        settings = {"PUBSUB_CONSOLE": "true", "PUBSUB_RETRY": "300ms", "RESTATE_INGRESS_URL": ingress.url}
        other = await Service(restate, env=settings).start(register=False)
        stack.push_async_callback(other.stop)
        front = await stack.enter_async_context(Proxy(other.port))
        ingress.stall()
        await follow(page, front.url, topic, "latest")
        await expect(page.locator("#stream")).to_contain_text("Waiting to hear where latest is")
        ingress.flow()
        await expect(page.locator("#stream")).to_contain_text("Live")
        front.cut()
        await publish(restate, topic, "meanwhile")
        assert await rows(page, 1) == [["2", "", '"meanwhile"']]


async def test_a_tidy_end_of_the_response_is_a_cut(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """Proxies make a whole response of a broken one: only `end` ends a topic."""
    await publish(restate, topic, 1, 2)

    async def ends(route: Route) -> None:
        await route.fulfill(content_type="text/event-stream", body=": open\nretry: 100\nid: 1\ndata: 1\n\n")

    await page.route("**/pubsub/**", ends, times=1)
    await follow(page, service.url, topic)
    assert await rows(page, 2) == [["1", "", "1"], ["2", "", "2"]]
    await expect(page.locator("#stream")).to_contain_text("Live")


async def test_a_connection_that_fell_silent_is_left(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """No heartbeat for too long: the page says so, and reads on over another connection."""
    await publish(restate, topic, 1)
    async with Proxy(service.port) as proxy:
        await follow(page, proxy.url, topic)
        await rows(page, 1)
        proxy.stall()
        await publish(restate, topic, 2)
        await expect(page.locator("#stream")).to_contain_text("Reconnecting: it fell silent", timeout=15_000)
        proxy.flow()
        assert await rows(page, 2) == [["1", "", "1"], ["2", "", "2"]]


async def test_a_topic_with_dots_for_a_name_is_followed(page: Page, restate: RestateServer, service: Service) -> None:
    """A browser would take `a/../b` for `b`."""
    topic = f"{topic_name('console')}/../b"
    await publish(restate, topic, "here")
    await follow(page, service.url, topic)
    assert await rows(page, 1) == [["1", "", '"here"']]


async def test_of_a_long_message_the_beginning_is_shown(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """With its true size."""
    await publish(restate, topic, "x" * 10_000)
    await follow(page, service.url, topic)
    assert await rows(page, 1) == [["1", "", f'"{"x" * 4095}…']]
    await expect(page.locator("#rows td").nth(3)).to_have_text("10,002")


async def test_a_message_is_published(page: Page, service: Service, topic: str) -> None:
    """What is typed arrives on the stream; what the door refuses is told."""
    await follow(page, service.url, topic)
    await page.get_by_label("Message, as JSON").fill('{"from": "console"}')
    await page.get_by_role("button", name="Publish").click()
    assert await rows(page, 1) == [["1", "", '{"from":"console"}']]
    await expect(page.locator("#published")).to_have_text(f"Published to {topic} at offset 0")
    await page.get_by_label("Message, as JSON").fill("{nonsense")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.locator("#published")).to_contain_text("Refused (400)")


async def test_publishing_is_offered_only_where_it_is_possible(page: Page, restate: RestateServer) -> None:
    """Without the door there is no form."""
    service = await Service(restate, PUBSUB_CONSOLE="true").start(register=False)
    await page.goto(f"{service.url}/console")
    await expect(page.locator("#replica")).not_to_be_empty()
    await expect(page.get_by_role("button", name="Publish")).to_be_hidden()
    await service.stop()


async def test_the_figures_are_this_process_s(page: Page, restate: RestateServer, service: Service, topic: str) -> None:
    """Streams, topics and lag; each topic with its readers, bounds and slowest reader."""
    await follow(page, service.url, topic)
    await publish(restate, topic, 1, 2)
    await rows(page, 2)
    await page.get_by_text("Topics that are read here").click()
    row = page.locator("#topics tbody tr", has_text=topic)
    await expect(row.locator("td").nth(3)).to_have_text("2")
    assert [topic, "1", "0", "2", "0"] == (await row.locator("td").all_inner_texts())[:5]
    assert int(await page.locator("#streams").inner_text()) >= 1
    await expect(page.locator("#lag-50")).to_contain_text("ms")
    await expect(page.locator("#all tbody")).to_contain_text("pulls_total.timeout")
    await page.get_by_label("Topic", exact=True).fill("")
    await row.get_by_role("button").click()
    await expect(page.get_by_label("Topic", exact=True)).to_have_value(topic)
    await rows(page, 2)


async def test_a_long_topic_is_shown_by_its_end(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """5,000 messages are counted, and the last thousand are there."""
    await call(restate, topic, "append", {"messages": [{"data": at} for at in range(5000)]})
    await follow(page, service.url, topic)
    await expect(page.locator("#count")).to_have_text("5,000 events")
    found = await rows(page, 1000)
    assert [found[0], found[-1]] == [["4001", "", "4000"], ["5000", "", "4999"]]


async def test_the_page_talks_to_nobody_else_and_runs_nothing_that_is_published(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """Markup in a message is text; a strict policy forbids all but the page's own files, and is not violated."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    await publish(restate, topic, "<img src=x onerror=alert(1)><script>alert(2)</script>")
    await follow(page, service.url, topic)
    assert await rows(page, 1) == [["1", "", '"<img src=x onerror=alert(1)><script>alert(2)</script>"']]
    assert await page.locator("#rows :is(img, script)").count() == 0
    assert [
        url for url in asked if not url.startswith((f"{service.url}/console", f"{service.url}/pubsub/", "data:"))
    ] == []
    assert said == []
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/console/") as response:
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


async def test_a_stream_over_which_nothing_can_come_is_not_called_live(
    page: Page, restate: RestateServer, service: Service, topic: str
) -> None:
    """While Restate is away: no green word below a red one, and the reason is there in full, on a phone, too."""
    await page.set_viewport_size({"width": 360, "height": 740})
    await follow(page, service.url, topic)
    await expect(page.locator("#stream")).to_have_attribute("data-state", "good")
    await restate.kill()
    try:
        await expect(page.locator("#process")).to_have_text("not ready: restate-unreachable", timeout=30_000)
        await expect(page.locator("#stream")).to_have_attribute("data-state", "waiting")
        await expect(page.locator("#stream")).to_contain_text("nothing new can come")
        await expect(page.get_by_role("alert")).to_contain_text("cannot be reached: nothing listens there")
        assert await sideways(page) <= 0
        box = await page.get_by_role("alert").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360
    finally:
        await restate.start()
    await expect(page.locator("#stream")).to_have_text("Live", timeout=30_000)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_empty_tables_say_what_to_do(page: Page, restate: RestateServer, topic: str) -> None:
    """Before a topic is followed, while nothing is in it, and where nobody reads one."""
    service = await Service(restate, PUBSUB_CONSOLE="true").start(register=False)
    try:
        await page.goto(f"{service.url}/console/")
        await expect(page.locator("#empty")).to_contain_text("Name a topic and press Follow")
        await page.get_by_text("Topics that are read here").click()
        await expect(page.locator("#no-topics")).to_contain_text("Nobody reads a topic here")
        await follow(page, service.url, topic)
        await expect(page.locator("#empty")).to_contain_text(f"restate-pubsub publish {topic}")
        await publish(restate, topic, 1)
        await rows(page, 1)
        await expect(page.locator("#empty")).to_be_hidden()
        await page.get_by_text("Topics that are read here").click()
        await expect(page.locator("#topics tbody")).to_contain_text(topic)
        await expect(page.locator("#no-topics")).to_be_hidden()
    finally:
        await service.stop()


async def test_what_goes_wrong_is_counted(page: Page, service: Service) -> None:
    """Refusals are; a figure whose name explains nothing has a sentence below it."""
    await page.goto(f"{service.url}/console/")
    await expect(page.locator("#refused")).to_have_text(re.compile(r"^\d+$"))
    before = int(await page.locator("#refused").inner_text())
    assert (await get(f"{service.url}/pubsub/x?offset=yesterday"))[0] == 400
    await expect(page.locator("#refused")).to_have_text(str(before + 1))
    for figure in ("failing", "slow", "blocked-count"):
        await expect(page.locator(f"#{figure}")).to_have_text(re.compile(r"^\d+$"))
    figures = page.locator("#figures div")
    await expect(figures.filter(has_text="Resets")).to_contain_text("readers told that their place is gone")
    await expect(figures.filter(has_text="Lag p50")).to_contain_text("to the end of its write to a reader")


async def test_a_blocked_topic_is_shown_with_its_invocation(page: Page, restate: RestateServer) -> None:
    """Its name, and what holds it."""
    program = (str(ROOT / "tests" / "integration" / "stuck_write.py"),)
    service = await Service(restate, program=program, PUBSUB_CONSOLE="true", PUBSUB_OBJECT_NAME="stuck").start()
    topic = topic_name("fails")
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{restate.ingress_url}/stuck/{topic}/publish/send", json=1) as response:
                invocation = (await response.json())["invocationId"]
            await page.goto(f"{service.url}/console/")
            await expect(page.locator("#blocked-count")).to_have_text("1", timeout=30_000)
            row = page.locator("#blocked tbody tr")
            assert [topic, invocation, "publish"] == (await row.locator("td").all_inner_texts())[:3]
            async with session.patch(f"{restate.admin_url}/invocations/{invocation}/kill") as response:
                assert response.status == 200
        await expect(page.locator("#blocked")).to_be_hidden(timeout=30_000)
    finally:
        await service.stop()


async def test_a_picture_of_it(browser: Browser, restate: RestateServer, service: Service, tmp_path: Path) -> None:
    """The picture in docs/http.md: a topic with traffic."""
    picture = Path(os.environ.get("CONSOLE_SCREENSHOT") or tmp_path / "console.png")
    context = await browser.new_context(viewport={"width": 1180, "height": 900}, color_scheme="light")
    page = await context.new_page()
    topic = "chat/42" if "CONSOLE_SCREENSHOT" in os.environ else topic_name("picture")
    await follow(page, service.url, topic)
    words = ["Seven", "bridges", "cross", "the", "river", "here", "and", "not", "one", "of", "them", "is", "straight."]
    await publish(restate, topic, {"role": "user", "content": "How many bridges are there?"})
    for at in range(0, len(words), 2):
        entries = [{"data": {"delta": f"{word} "}, "event": "token"} for word in words[at : at + 2]]
        await call(restate, topic, "append", {"messages": entries})
    await call(restate, topic, "append", {"messages": [{"data": {"turn": 1}, "event": "done"}]})
    await rows(page, len(words) + 2)
    await expect(page.locator("#lag-50")).to_contain_text("ms")
    await expect(page.locator("#streams")).to_have_text("1")
    assert await page.screenshot(path=picture)
    await context.close()
