"""Views of a topic, read by the real clients: a page shows the answer, whole, once, and knows when it has ended."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clients.view_client import client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, call, publish
from support.origin import Origin
from support.waiting import until

START, STEP, TEXT = {"type": "start"}, {"type": "start-step"}, {"type": "text-start", "id": "0"}
END = [{"type": "text-end", "id": "0"}, {"type": "finish-step"}, {"type": "finish"}]
RUN = {"threadId": "t", "runId": "r"}
STARTED, FINISHED = {"type": "RUN_STARTED", **RUN}, {"type": "RUN_FINISHED", **RUN}


def delta(text: str) -> dict[str, str]:
    return {"type": "text-delta", "id": "0", "delta": text}


def said_in_run(text: str, message: str = "m") -> list[dict[str, str]]:
    """Return a message of an AG-UI run."""
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": text},
        {"type": "TEXT_MESSAGE_END", "messageId": message},
    ]


async def attempt(restate: RestateServer, topic: str, name: str, *messages: Any) -> None:
    """Write as one attempt of a step does; a later one replaces it."""
    ref = {"id": "step", "attempt": name}
    for body in (
        {"messages": [], "stream": {**ref, "first": True}},
        {"messages": [{"data": one} for one in messages], "stream": ref},
    ):
        status, answer = await call(restate, topic, "append", body)
        assert status == 200, answer


def ai(service: Service, topic: str, query: str = "") -> str:
    return f"{service.url}/pubsub/{topic}?view=ai-sdk{query}"


def ag(service: Service, topic: str, query: str = "") -> str:
    return f"{service.url}/pubsub/{topic}?view=ag-ui{query}"


async def test_a_reload_in_the_middle_and_the_end(restate: RestateServer, service: Service, topic: str) -> None:
    """The page shows the half that is there, then the rest, and is ready when the answer has ended."""
    await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
    async with client("use-chat", ai(service, topic)) as page:
        await page.shows(["Hel"])
        await call(restate, topic, "append", {"messages": [{"data": {"at": 1}, "event": "page"}]})
        await publish(restate, topic, delta("lo"), *END)
        assert {"over": "ready", "texts": ["Hello"]} == await page.over()


async def test_of_two_turns_the_last(restate: RestateServer, service: Service, topic: str) -> None:
    """A page that opens in the second turn gets that one alone, and waits for its end."""
    await publish(restate, topic, START, STEP, TEXT, delta("first"), *END, START, STEP, TEXT, delta("sec"))
    async with client("use-chat", ai(service, topic)) as page:
        await page.shows(["sec"])
        await publish(restate, topic, delta("ond"), *END)
        assert {"over": "ready", "texts": ["second"]} == await page.over()


async def test_a_retried_step(restate: RestateServer, service: Service, topic: str) -> None:
    """What the abandoned attempt wrote goes, and the whole text of the next one is shown."""
    await publish(restate, topic, START, STEP)
    await attempt(restate, topic, "a", TEXT, delta("Hel"))
    async with client("use-chat", ai(service, topic)) as page:
        await page.shows(["Hel"])
        await attempt(restate, topic, "b", TEXT, delta("Bonjour"))
        await publish(restate, topic, *END)
        assert {"over": "ready", "texts": ["Bonjour"]} == await page.over()


async def test_an_answer_that_ended_while_the_page_was_away(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """204: the page keeps what it has. `done=replay` gives it the whole answer."""
    await publish(restate, topic, START, STEP, TEXT, delta("Hello"), *END)
    async with client("use-chat", ai(service, topic)) as page:
        assert {"over": "ready", "texts": []} == await page.over()
    async with client("use-chat", ai(service, topic, "&done=replay")) as page:
        assert {"over": "ready", "texts": ["Hello"]} == await page.over()


async def test_a_closed_topic_ends_the_answer(restate: RestateServer, service: Service, topic: str) -> None:
    """Nothing can follow."""
    await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
    async with client("use-chat", ai(service, topic)) as page:
        await page.shows(["Hel"])
        await call(restate, topic, "close")
        assert {"over": "ready", "texts": ["Hel"]} == await page.over()


async def test_what_an_agent_says_after_its_stop(restate: RestateServer, service: Service, topic: str) -> None:
    """The run has ended once: what comes between two runs would be an error to the client."""
    await publish(restate, topic, STARTED)
    await attempt(restate, topic, "a", *said_in_run("one"))
    async with client("ag-ui", ag(service, topic)) as page:
        await page.got("TEXT_MESSAGE_END")
        await call(restate, topic, "stop", {"id": "step"})
        await publish(restate, topic, {"type": "RUN_ERROR", "message": "it was stopped", "code": "stopped"})
        over = await page.over()
        assert ("resolved", 1) == (over["over"], over["events"].count("RUN_ERROR"))


@pytest.mark.parametrize("name", ["ag-ui", "tanstack-chat"])
async def test_a_run_in_a_topic_that_was_closed(
    restate: RestateServer, service: Service, topic: str, name: str
) -> None:
    """It has failed, and half of it is not taken for all. Without a run that is alive there is no error."""
    await publish(restate, topic, STARTED, *said_in_run("one")[:2])
    async with client(name, ag(service, topic)) as page:
        await until(lambda: len(page.said) > 2, "the half")
        await call(restate, topic, "close")
        over = await page.over()
        assert "RUN_ERROR" == over["events"][-1] if name == "ag-ui" else "ended before" in over["over"]
    async with aiohttp.ClientSession() as session, session.get(ag(service, topic, "&offset=3")) as answer:
        assert [b'data: {"type":"RUN_ERROR","message":"The topic ended before its run did","code":"ended"}'] == [
            line for line in (await answer.read()).splitlines() if line.startswith(b"data")
        ]
    for at, (after, messages) in enumerate((("", []), ("&offset=0", []), ("", [STARTED, FINISHED]))):
        closed = f"{topic}/{at}"
        await publish(restate, closed, *messages, {"page": 1})
        await call(restate, closed, "close")
        async with aiohttp.ClientSession() as session, session.get(ag(service, closed, after)) as answer:
            assert (200, len(messages)) == (answer.status, (await answer.read()).count(b"data:"))


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("name", "view"), [("use-chat", "ai-sdk"), ("ag-ui", "ag-ui")])
async def test_a_stream_that_is_too_old_is_no_end(restate: RestateServer, topic: str, name: str, view: str) -> None:
    """The client sees a broken connection; TanStack's comes back."""
    replica = await Service(restate, PUBSUB_STREAM_MAX_AGE="2s").start(register=False)
    try:
        if view == "ai-sdk":
            await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
        else:
            await publish(restate, topic, STARTED, *said_in_run("one"))
        async with client(name, f"{replica.url}/pubsub/{topic}?view={view}") as page:
            await until(lambda: page.said, "the half")
            assert (await page.over())["over"] not in ("ready", "resolved")
    finally:
        await replica.stop()


async def test_an_answer_whose_beginning_is_gone(restate: RestateServer, service: Service, topic: str) -> None:
    """Its open part is left out, as the client would fail; the next one is shown."""
    await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
    await call(restate, topic, "truncate", 3)
    more = [{"type": "text-start", "id": "1"}, {"type": "text-delta", "id": "1", "delta": "more"}]
    await publish(restate, topic, delta("lo"), {"type": "text-end", "id": "0"}, *more)
    await publish(restate, topic, {"type": "text-end", "id": "1"}, {"type": "finish"})
    async with client("use-chat", ai(service, topic, "&done=replay")) as page:
        assert {"over": "ready", "texts": ["more"]} == await page.over()


@pytest.mark.usefixtures("service")
async def test_a_replica_that_stops_is_no_end(restate: RestateServer, topic: str) -> None:
    """The client sees a broken connection, and not half an answer that looks whole."""
    replica = await Service(restate, PUBSUB_DRAIN_TIMEOUT="1s").start(register=False)
    await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
    async with client("use-chat", ai(replica, topic)) as page:
        await page.shows(["Hel"])
        await replica.stop()
        assert "error" == (await page.over())["over"]


def printed(folder: Path, heading: str, *names: str) -> str:
    """Return a module with what docs/views.md prints first under a heading."""
    section = (ROOT / "docs" / "views.md").read_text().partition(f"## {heading}\n")[2]
    module = folder / "printed.mjs"
    module.write_text(section.split("```")[1].removeprefix("javascript") + f"\nexport {{ {', '.join(names)} }};\n")
    return str(module)


def route(folder: Path, url: str, view: str) -> str:
    """Return a module with the route that is printed, for this service and view."""
    module = Path(printed(folder, "The route that starts the agent", "POST"))
    module.write_text(module.read_text().replace("http://localhost:9080", url).replace("view=ai-sdk", f"view={view}"))
    return str(module)


@pytest.fixture
def fetch(tmp_path: Path) -> str:
    """Return what is printed for proxies that tidy."""
    return printed(tmp_path, "Behind a proxy that tidies", "chatFetch", "agentFetch")


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_half_an_answer_behind_a_proxy_is_an_error(
    restate: RestateServer, service: Service, topic: str, fetch: str, *, tidy: bool
) -> None:
    """Also where the proxy makes a whole response of it; the client alone would take it for the answer then."""
    await publish(restate, topic, START, STEP, TEXT, delta("Hel"))
    async with Origin("", tidy=tidy).serving(service) as origin:
        url = f"{origin.url}/pubsub/{topic}?view=ai-sdk"
        for alone in (True, False):
            async with client("use-chat", url, "[]", *([] if alone else [fetch])) as page:
                await page.shows(["Hel"])
                origin.cut()
                assert ("ready" if tidy and alone else "error") == (await page.over())["over"]
        async with client("use-chat", url, "[]", fetch) as page:
            await page.shows(["Hel"])
            await publish(restate, topic, delta("lo"), *END)
            assert {"over": "ready", "texts": ["Hello"]} == await page.over()


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_half_a_run_behind_a_proxy_is_an_error(
    restate: RestateServer, service: Service, topic: str, fetch: str, *, tidy: bool
) -> None:
    """The same for AG-UI."""
    await publish(restate, topic, STARTED, *said_in_run("one"))
    async with Origin("", tidy=tidy).serving(service) as origin:
        url = f"{origin.url}/pubsub/{topic}?view=ag-ui"
        for alone in (True, False):
            async with client("ag-ui", url, *([] if alone else [fetch])) as page:
                await page.got("TEXT_MESSAGE_END")
                origin.cut()
                assert (tidy and alone) == ((await page.over())["over"] == "resolved")
        async with client("ag-ui", url, fetch) as page:
            await page.got("TEXT_MESSAGE_END")
            await publish(restate, topic, FINISHED)
            assert "resolved" == (await page.over())["over"]


async def test_chunks_are_counted(restate: RestateServer, service: Service, topic: str) -> None:
    """`startIndex` counts the view's chunks, from the beginning or the end; what is left out is not counted."""
    await publish(restate, topic, "before", START, STEP)
    await call(restate, topic, "append", {"messages": [{"data": 1, "event": "page"}, {"data": TEXT}]})
    await publish(restate, topic, delta("Hello"), *END)
    kinds = ["start", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"]
    for index, rest in (("0", kinds), ("3", kinds[3:]), ("-2", kinds[-2:]), ("-99", kinds)):
        async with client("workflow", ai(service, topic), index) as page:
            assert {"over": 200, "chunks": rest, "tail": "6"} == await page.over()
    async with client("workflow", ai(service, topic), "7") as page:
        assert 204 == (await page.over())["over"]


@pytest.mark.parametrize("index", ["0", "2", "-2"])
async def test_a_chat_that_counts_is_cut(restate: RestateServer, service: Service, topic: str, index: str) -> None:
    """`WorkflowChatTransport` comes back by what it has counted, also over a step that was done again."""
    await publish(restate, topic, "before", START, STEP)
    await attempt(restate, topic, "a", TEXT, delta("Hel"))
    await attempt(restate, topic, "b", TEXT, delta("Bon"))
    async with Origin("").serving(service) as origin:
        async with client("workflow-chat", f"{origin.url}/pubsub/{topic}?view=ai-sdk", index) as page:
            await page.shows(["Bon"])
            origin.cut()
            await publish(restate, topic, delta("jour"), *END)
            assert {"over": "ready", "texts": ["Bonjour"]} == await page.over()
        assert [(200, None), (200, None)] == origin.requests


async def test_two_turns_of_use_chat(restate: RestateServer, service: Service, topic: str, tmp_path: Path) -> None:
    """Its route opens the view before the answer has begun; each answer comes as it is written, and once."""
    module, chat = route(tmp_path, service.url, "ai-sdk"), f"chat/{topic}"
    async with client("use-chat-turns", module, topic, "Hi", "Again") as page:
        await page.got("asked")
        await publish(restate, chat, START, STEP, TEXT, delta("Hel"))
        await page.shows(["Hi", "Hel"])
        await publish(restate, chat, delta("lo"), *END)
        await page.got("asked", 2)
        await publish(restate, chat, {"type": "abort"}, START, STEP, TEXT, delta("Sure"), *END)
        assert {"over": "ready", "texts": ["Hi", "Hello", "Again", "Sure"]} == await page.over()


async def test_two_turns_of_tanstack(restate: RestateServer, service: Service, topic: str, tmp_path: Path) -> None:
    """The same; it is cut in the second one, and asks its route for the rest."""
    async with Origin("").serving(service) as origin:
        module, chat = route(tmp_path, origin.url, "ag-ui"), f"chat/{topic}"
        async with client("tanstack-turns", module, topic, "Hi", "Again") as page:
            await page.got("asked")
            await publish(restate, chat, STARTED, *said_in_run("Hello"), FINISHED)
            await page.got("asked", 2)
            await publish(restate, chat, STARTED, *said_in_run("Su", "n")[:2])
            await page.shows(["Hi", "Hello", "Again", "Su"])
            origin.cut()
            await publish(restate, chat, {"type": "TEXT_MESSAGE_CONTENT", "messageId": "n", "delta": "re"})
            await publish(restate, chat, said_in_run("", "n")[2], FINISHED)
            assert {"over": "ready", "texts": ["Hi", "Hello", "Again", "Sure"]} == await page.over()
            assert 2 == sum(one.get("event") == "asked" for one in page.said)
        assert [None, None, "8"] == [last for _, last in origin.requests]


async def test_the_runs_of_a_topic(restate: RestateServer, service: Service, topic: str) -> None:
    """An AG-UI agent gets all of them from the first on, live, and ends a while after the last."""
    await publish(restate, topic, STARTED, *said_in_run("one"), FINISHED)
    async with client("ag-ui", ag(service, topic)) as page:
        await page.got("RUN_FINISHED")
        await publish(restate, topic, STARTED, *said_in_run("two", "n"))
        await call(restate, topic, "append", {"messages": [{"data": 1, "event": "page"}]})
        await publish(restate, topic, FINISHED)
        over = await page.over()
        assert ("resolved", ["one", "two"]) == (over["over"], over["texts"])


async def test_an_ag_ui_client_cannot_take_a_step_again(restate: RestateServer, service: Service, topic: str) -> None:
    """Its run ends with an error where a message that is open begins again. Opened again, it shows the right text."""
    await publish(restate, topic, STARTED)
    await attempt(restate, topic, "a", *said_in_run("Hel")[:2])
    async with client("ag-ui", ag(service, topic)) as page:
        await page.got("TEXT_MESSAGE_CONTENT")
        await attempt(restate, topic, "b", *said_in_run("Bonjour"))
        assert "is already in progress" in (await page.over())["over"]
    await publish(restate, topic, FINISHED)
    async with client("ag-ui", ag(service, topic)) as page:
        over = await page.over()
        assert ("resolved", ["Bonjour"]) == (over["over"], over["texts"])


async def test_a_snapshot_takes_everything_else_too(restate: RestateServer, service: Service, topic: str) -> None:
    """AG-UI's only event that takes text back needs the whole thread, which a view of a topic does not know."""
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": []}
    again = [*said_in_run("Hel"), snapshot, *said_in_run("Bonjour")]
    await publish(restate, topic, STARTED, *said_in_run("earlier", "e"), FINISHED, STARTED, *again, FINISHED)
    async with client("ag-ui", ag(service, topic)) as page:
        over = await page.over()
        assert ("resolved", ["Bonjour"]) == (over["over"], over["texts"]), "what the snapshot does not name is gone"


async def test_joining_a_run(restate: RestateServer, service: Service, topic: str) -> None:
    """TanStack AI asks from -1: here that is the beginning."""
    await publish(restate, topic, STARTED, *said_in_run("one"))
    async with client("tanstack", ag(service, topic)) as page:
        await page.got("TEXT_MESSAGE_END")
        await publish(restate, topic, FINISHED)
        over = await page.over()
        assert ["RUN_STARTED", "RUN_FINISHED"] == [over["events"][0], over["events"][-1]]
        assert 5 == len(over["events"])


async def test_a_chat_of_tanstack_is_loaded_in_the_middle(restate: RestateServer, service: Service, topic: str) -> None:
    """It shows the half that is there, then the rest, and is ready at the end."""
    await publish(restate, topic, STARTED, *said_in_run("one")[:2])
    async with client("tanstack-chat", ag(service, topic)) as page:
        await page.shows(["one"])
        await publish(restate, topic, {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": " two"})
        await page.shows(["one two"])
        await publish(restate, topic, said_in_run("")[2], FINISHED)
        assert {"over": "ready", "texts": ["one two"]} == await page.over()


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_a_chat_of_tanstack_that_is_cut(
    restate: RestateServer, service: Service, topic: str, *, tidy: bool
) -> None:
    """It comes back by itself where it was, however the response ends: nothing is missing, nothing twice."""
    await publish(restate, topic, STARTED, *said_in_run("one")[:2])
    async with Origin("", tidy=tidy).serving(service) as origin:
        async with client("tanstack-chat", f"{origin.url}/pubsub/{topic}?view=ag-ui") as page:
            await page.shows(["one"])
            origin.cut()
            await publish(restate, topic, {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": " two"})
            await page.shows(["one two"])
            await publish(restate, topic, said_in_run("")[2], FINISHED)
            assert {"over": "ready", "texts": ["one two"]} == await page.over()
        assert [(200, None), (200, "3")] == origin.requests


async def test_a_chat_of_tanstack_whose_run_ended_while_it_was_loaded(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """It shows all runs of the thread, each message once, and is ready: two turns, and one with several runs."""
    await publish(restate, topic, STARTED, *said_in_run("one"), FINISHED, STARTED, *said_in_run("two", "n"), FINISHED)
    async with client("tanstack-chat", ag(service, topic)) as page:
        assert {"over": "ready", "texts": ["one", "two"]} == await page.over()


async def test_a_chat_of_tanstack_is_told_of_a_stop(restate: RestateServer, service: Service, topic: str) -> None:
    """What was said stays, and the run has ended with an error that says so."""
    await publish(restate, topic, STARTED)
    await attempt(restate, topic, "a", *said_in_run("one")[:2])
    async with client("tanstack-chat", ag(service, topic)) as page:
        await page.shows(["one"])
        await call(restate, topic, "stop", {"id": "step"})
        assert {"over": "The run was stopped", "texts": ["one"]} == await page.over()


@pytest.mark.parametrize("mended", [False, True], ids=["as it is", "with what is printed"])
async def test_a_chat_of_tanstack_over_a_retried_step(
    restate: RestateServer, service: Service, topic: str, tmp_path: Path, *, mended: bool
) -> None:
    """AG-UI cannot take text back, so the page does it, with a few lines of docs/views.md."""
    module = [printed(tmp_path, "A step that is done again", "takeBack")] if mended else []
    await publish(restate, topic, STARTED)
    await attempt(restate, topic, "a", *said_in_run("Hel", "step/1")[:2])
    async with client("tanstack-chat", ag(service, topic), *module) as page:
        await page.shows(["Hel"])
        await attempt(restate, topic, "b", *said_in_run("Bonjour", "step/1"))
        await publish(restate, topic, FINISHED)
        assert {"over": "ready", "texts": ["Bonjour" if mended else "HelBonjour"]} == await page.over()


async def test_a_run_that_had_finished(service: Service, restate: RestateServer, topic: str) -> None:
    """A reader at its end gets an empty 200, never a 204."""
    await publish(restate, topic, STARTED, FINISHED)
    async with aiohttp.ClientSession() as session, session.get(ag(service, topic, "&offset=2")) as answer:
        assert (200, False) == (answer.status, b"data" in await answer.read())


async def test_the_bytes_of_a_view(service: Service, restate: RestateServer, topic: str) -> None:
    """Headers, ids and `[DONE]`, as the clients want them."""
    await publish(restate, topic, START, {"type": "finish"})
    async with aiohttp.ClientSession() as session, session.get(ai(service, topic, "&done=replay")) as answer:
        assert {
            "content-type": "text/event-stream; charset=utf-8",
            "x-vercel-ai-ui-message-stream": "v1",
            "cache-control": "no-cache, no-transform",
            "x-accel-buffering": "no",
        }.items() <= {name.lower(): value for name, value in answer.headers.items()}.items()
        body = (await answer.read()).partition(b"id:")
        assert b'id: 1\ndata: {"type":"start"}\n\nid: 2\ndata: {"type":"finish"}\n\ndata: [DONE]\n\n' == b"".join(
            body[1:]
        )


async def test_the_bytes_of_runs(service: Service, restate: RestateServer, topic: str) -> None:
    """Each id is directly followed by one line of data, and a block ends in two line feeds; comments between them."""
    await publish(restate, topic, STARTED)
    await call(restate, topic, "append", {"messages": [{"data": 1, "event": "page"}]})
    await publish(restate, topic, FINISHED)
    async with aiohttp.ClientSession() as session, session.get(ag(service, topic)) as answer:
        body = await answer.read()
        assert [(b"1", STARTED), (b"3", FINISHED)] == [
            (place, json.loads(data)) for place, data in re.findall(rb"^id: (\d+)\ndata: (.*)\n\n", body, re.MULTILINE)
        ]
        assert (2, 0) == (body.count(b"data"), body.count(b"event"))


async def test_nothing_is_in_progress(service: Service, restate: RestateServer, topic: str) -> None:
    """204 for an empty topic, one without an answer, and at the end of each kind."""
    async with aiohttp.ClientSession() as session:
        for last in (None, "no chunk", {"type": "finish"}, {"type": "abort"}, {"type": "error", "errorText": "x"}):
            if last is not None:
                await publish(restate, topic, *([START] if isinstance(last, dict) else []), last)
            async with session.get(ai(service, topic)) as answer:
                assert 204 == answer.status, last


async def test_a_chat_s_messages_are_not_for_the_topic(restate: RestateServer, topic: str) -> None:
    """A client that posts its whole history here is told that its own route is missing, and nothing is stored."""
    replica = await Service(restate, PUBSUB_PUBLISH_ENABLED="true").start(register=False)
    try:
        for view in ("ai-sdk", "ag-ui"):
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{replica.url}/pubsub/{topic}?view={view}", json={"messages": []}) as answer:
                    said = await answer.json()
                    assert (400, "invalid-request") == (answer.status, said["code"])
                    assert "a route of your own" in said["detail"]
        assert 0 == (await call(restate, topic, "info"))[1]["tail"]
    finally:
        await replica.stop()


@pytest.mark.parametrize("query", ["view=none", "view=ai-sdk&heartbeat=event", "view=ai-sdk&offset=latest"])
async def test_what_no_view_takes(service: Service, topic: str, query: str) -> None:
    """It is refused, with the value and the way out."""
    async with aiohttp.ClientSession() as session, session.get(f"{service.url}/pubsub/{topic}?{query}") as answer:
        assert (400, "invalid-request") == (answer.status, (await answer.json())["code"])
