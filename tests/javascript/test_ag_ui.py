"""AG-UI's client, unmodified, on `TopicAgent`: turns, cuts, reloads, restarts, stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restate_pubsub import StreamStopped
from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.node import NODE
from support.origin import Origin
from support.waiting import PATIENCE, until

SCRIPT = Path(__file__).parent / "pages" / "agent.mjs"
RUN = {"threadId": "thread", "runId": "r"}
STARTED, FINISHED = {"type": "RUN_STARTED", **RUN}, {"type": "RUN_FINISHED", **RUN}
STEP, STEPPED = {"type": "STEP_STARTED", "stepName": "s"}, {"type": "STEP_FINISHED", "stepName": "s"}


def begins(message: str) -> dict[str, str]:
    return {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}


def says(message: str, text: str) -> dict[str, str]:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": text}


def ends(message: str) -> dict[str, str]:
    return {"type": "TEXT_MESSAGE_END", "messageId": message}


class Agent:
    """A client of AG-UI at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = process

    async def does(self, what: str, argument: str | None = None) -> None:
        """Let it do something."""
        self.said.clear()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, argument]).encode() + b"\n")
        await self._process.stdin.drain()

    async def asks(self, text: str) -> None:
        """Let it run, and wait until the prompt has come."""
        await self.does("run", text)
        await until(lambda: any(text == one.get("sent") for one in self.said), f"the prompt: {self.said}", PATIENCE)

    async def shows(self, *messages: list[str]) -> None:
        """Wait until it shows these messages: role, text, and the arguments of tool calls."""
        await until(lambda: self.shown == [*messages], f"{messages}: {self.said}", PATIENCE)

    @property
    def shown(self) -> list[list[str]] | None:
        """What it shows."""
        found: list[list[list[str]]] = [one["shows"] for one in self.said if "shows" in one]
        return found[-1] if found else None

    async def over(self, what: str) -> dict[str, Any]:
        """Wait until it has done something, and return how that ended."""
        await until(lambda: any(what == one.get("over") for one in self.said), f"the end: {self.said}", PATIENCE)
        return next(one for one in self.said if what == one.get("over"))

    async def listen(self) -> None:
        """Read what it says."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(json.loads(line))


@pytest.fixture(scope="session")
def script(modules: Path) -> Path:
    """Return the client's program, beside the packages that it imports."""
    return Path(shutil.copy(SCRIPT, modules.parent))


@pytest.fixture
async def origin(service: Service) -> AsyncIterator[Origin]:
    """Return an origin that can cut what passes."""
    async with Origin("").serving(service) as origin:
        yield origin


@contextlib.asynccontextmanager
async def working(script: Path, *args: str) -> AsyncIterator[Agent]:
    """Run a client."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(NODE, script, *args, stdin=pipe, stdout=pipe)
    agent = Agent(process)
    listening = asyncio.create_task(agent.listen())
    try:
        yield agent
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


@pytest.fixture
async def agent(script: Path, origin: Origin, topic: str) -> AsyncIterator[Agent]:
    """Return a client of the topic."""
    async with working(script, f"{origin.url}/pubsub/{topic}") as agent:
        yield agent


async def test_two_turns(agent: Agent, restate: RestateServer, topic: str) -> None:
    """Each answer comes word by word and ends; what else is in the topic is not for the agent."""
    await agent.asks("Hi")
    await publish(restate, topic, "nothing", STARTED, begins("1"), says("1", "Hel"))
    await agent.shows(["user", "Hi"], ["assistant", "Hel"])
    await call(restate, topic, "append", {"messages": [{"data": {"type": "x"}, "event": "tool"}]})
    await publish(restate, topic, says("1", "lo"), ends("1"), FINISHED)
    events = (await agent.over("run"))["events"]
    assert ["RUN_STARTED", "TEXT_MESSAGE_START"] == events[:2]
    assert ["TEXT_MESSAGE_END", "RUN_FINISHED"] == events[-2:]
    await agent.asks("Again")
    await publish(restate, topic, STARTED, begins("2"), says("2", "Sure"), ends("2"), FINISHED)
    await agent.over("run")
    assert [["user", "Hi"], ["assistant", "Hello"], ["user", "Again"], ["assistant", "Sure"]] == agent.shown


@pytest.mark.parametrize("tidy", [False, True], ids=["broken", "tidy"])
async def test_a_cut_in_the_middle(
    agent: Agent, origin: Origin, restate: RestateServer, topic: str, *, tidy: bool
) -> None:
    """The agent does not even notice, however the response ends; nothing is missing, nothing twice."""
    origin.tidy = tidy
    await agent.asks("Hi")
    await publish(restate, topic, STARTED, begins("1"), says("1", "Hel"))
    await agent.shows(["user", "Hi"], ["assistant", "Hel"])
    origin.cut()
    await publish(restate, topic, says("1", "lo"), ends("1"), FINISHED)
    assert "failed" not in await agent.over("run")
    assert [["user", "Hi"], ["assistant", "Hello"]] == agent.shown


async def test_a_reload_in_the_middle(agent: Agent, restate: RestateServer, topic: str) -> None:
    """All runs of the thread are shown, also after one that failed; the one that is alive goes on."""
    await publish(restate, topic, STARTED, begins("1"), says("1", "one"), ends("1"), FINISHED)
    await publish(restate, topic, STARTED, begins("2"), says("2", "tw"), {"type": "RUN_ERROR", "message": "no"})
    await publish(restate, topic, STARTED, begins("3"), says("3", "lost"))
    await publish(restate, topic, STARTED, begins("4"), says("4", "Hel"))
    await agent.does("connect")
    before = [["assistant", "one"], ["assistant", "tw"], ["assistant", "lost"]]
    await agent.shows(*before, ["assistant", "Hel"])
    await publish(restate, topic, says("4", "lo"), ends("4"), FINISHED)
    assert "failed" not in await agent.over("connect")
    assert [*before, ["assistant", "Hello"]] == agent.shown


async def test_a_thread_whose_runs_have_ended(agent: Agent, restate: RestateServer, topic: str) -> None:
    """It is shown, and nothing is waited for; an empty one is nothing."""
    await agent.does("connect")
    assert "failed" not in await agent.over("connect")
    await publish(restate, topic, STARTED, begins("1"), says("1", "Hello"), ends("1"), FINISHED, "and more")
    await agent.does("connect")
    assert "failed" not in await agent.over("connect")
    assert [["assistant", "Hello"]] == agent.shown
    await call(restate, topic, "truncate", 3)
    await agent.does("connect")
    assert "failed" not in await agent.over("connect")
    assert agent.shown is None


@pytest.mark.parametrize("away", [False, True], ids=["live", "reloaded"])
async def test_a_retried_step(
    agent: Agent, restate: RestateServer, client: PubsubClient, topic: str, *, away: bool
) -> None:
    """What the abandoned attempt wrote is taken back, whole or half; what was said before it stays."""
    called = {"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "look", "delta": "{"}
    thinks = {"messageId": "t", "role": "reasoning"}
    if not away:
        await agent.asks("Hi")
    await publish(restate, topic, STARTED, begins("0"), says("0", "Well. "), ends("0"), STEP, begins("open"))
    await publish(restate, topic, says("open", "So: "))
    with contextlib.suppress(RuntimeError):
        async with client.stream(topic, id="step") as stream:
            for one in (
                {"type": "REASONING_MESSAGE_START", **thinks},
                {"type": "REASONING_MESSAGE_CONTENT", "delta": "hm", **thinks},
            ):
                await stream.write(one)
            for one in (says("open", "no"), ends("open"), begins("1"), says("1", "Hel"), ends("1"), called, STEPPED):
                await stream.write(one)
            if not away:
                await until(lambda: "{" in str(agent.shown), "the attempt", PATIENCE)
            raise RuntimeError
    async with client.stream(topic, id="step") as stream:
        await stream.write({"type": "REASONING_MESSAGE_START", **thinks})
        await stream.write({"type": "REASONING_MESSAGE_END", "messageId": "t"})
        for one in (says("open", "yes"), ends("open"), begins("1"), says("1", "Bonjour"), ends("1"), STEPPED):
            await stream.write(one)
    if away:
        await agent.does("connect")
    await publish(restate, topic, FINISHED)
    said = await agent.over("connect" if away else "run")
    assert "failed" not in said
    shown = [one for one in agent.shown or [] if one[0] != "reasoning" or one[1]]
    user = [] if away else [["user", "Hi"]]
    assert [*user, ["assistant", "Well. "], ["assistant", "So: yes"], ["assistant", "Bonjour"]] == shown


async def test_a_step_that_is_tried_again_while_the_connection_is_cut(
    agent: Agent, origin: Origin, restate: RestateServer, client: PubsubClient, topic: str
) -> None:
    """It comes back behind the restart, and takes back what it has shown before."""
    await agent.asks("Hi")
    await publish(restate, topic, STARTED)
    with contextlib.suppress(RuntimeError):
        async with client.stream(topic, id="step") as stream:
            await stream.write(begins("1"))
            await stream.write(says("1", "Hel"))
            await agent.shows(["user", "Hi"], ["assistant", "Hel"])
            raise RuntimeError
    origin.cut()
    async with client.stream(topic, id="step") as stream:
        for one in (begins("1"), says("1", "Bonjour"), ends("1")):
            await stream.write(one)
    await publish(restate, topic, FINISHED)
    assert "failed" not in await agent.over("run")
    assert [["user", "Hi"], ["assistant", "Bonjour"]] == agent.shown


async def test_an_attempt_that_had_ended_the_run(agent: Agent, client: PubsubClient, topic: str) -> None:
    """A reload shows the attempt that counts, once."""
    for text, fails in (("Hel", True), ("Bonjour", False)):
        with contextlib.suppress(RuntimeError):
            async with client.stream(topic, id="run") as stream:
                for one in (STARTED, begins("1"), says("1", text), ends("1"), FINISHED):
                    await stream.write(one)
                if fails:
                    raise RuntimeError
    await agent.does("connect")
    assert "failed" not in await agent.over("connect")
    assert [["assistant", "Bonjour"]] == agent.shown


async def test_an_abort_stops_the_writer(
    script: Path, service: Service, restate: RestateServer, client: PubsubClient, topic: str
) -> None:
    """If the page wants that: the writer is told, what it said stays, and another page sees the run end."""
    url = service.topic_url(topic)
    async with working(script, url, "answer") as agent, working(script, url) as other:
        await agent.asks("Hi")
        await publish(restate, topic, STARTED)
        with pytest.raises(StreamStopped) as stopped:
            async with client.stream(topic, id="answer") as stream:
                await stream.write(begins("1"))
                await stream.write(says("1", "Hel"))
                await agent.shows(["user", "Hi"], ["assistant", "Hel"])
                await other.does("connect")
                await other.shows(["assistant", "Hel"])
                await agent.does("abort")
                assert "failed" not in await agent.over("run")
                await other.over("connect")
                await stream.write(says("1", "lo"))
        assert "enough" == stopped.value.reason
        assert [["assistant", "Hel"]] == other.shown
    await service.has_streams(0)


async def test_a_topic_that_ends_ends_the_run(agent: Agent, restate: RestateServer, topic: str) -> None:
    """It has failed, and is not alive for ever."""
    await agent.asks("Hi")
    await publish(restate, topic, STARTED, begins("1"), says("1", "Hel"))
    await call(restate, topic, "close")
    await agent.over("run")
    assert [["user", "Hi"], ["assistant", "Hel"]] == agent.shown


async def test_a_prompt_that_is_refused_is_an_error(agent: Agent, service: Service) -> None:
    """The run says what the page's own route said, and leaves the topic."""
    await agent.asks("refuse")
    assert "soon" == (await agent.over("run"))["failed"]
    await service.has_streams(0)
