"""Agents of real frameworks, with fake models, killed in the middle of what they do.

After each: one final text, nothing twice, no finished step paid for again, no invocation left.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from clients.view_client import client as page_client
from frameworks.versions import FRAMEWORKS, Framework
from restate_pubsub import PubsubClient, Received, create_pubsub_client
from restate_pubsub.commands.child_process import ends_with_us
from support.environments import environment, uv, wheel
from support.harness import ROOT, Service, free_port, topic_name
from support.waiting import until

PROGRAMS = ROOT / "tests" / "frameworks" / "programs"
ALL = os.environ.get("AGENTS") == "all"
ODD = 'a"b\\c\u2028\u0000\r\n\U0001f642<é>'
ODD_ID = "call " + "x" * 1000
START_SECONDS = 90
"""A framework is imported in seconds, but not on a machine that is busy."""
LONG = pytest.mark.skipif(not ALL, reason="`make test-agents` runs it")
CHOSEN = [framework for framework in FRAMEWORKS if ALL or framework.short]


@pytest.fixture(scope="module", params=CHOSEN, ids=lambda framework: framework.name)
async def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Framework, Path]:
    """Return a framework, and the Python of an environment that has it and the library."""
    framework: Framework = request.param
    folder = tmp_path_factory.mktemp("environment")
    built = wheel(folder / "wheel")
    python = await environment(folder / "venv", ["-r", framework.lock], "--require-hashes")
    await uv("pip", "install", "-q", "--python", python, "--no-deps", built)
    return framework, python


class Agent:
    """A program that serves an agent, on a folder that says what its model does."""

    def __init__(self, python: Path, program: str, folder: Path, service: Service, form: str) -> None:
        self.folder = folder
        self.hides_the_last_refusal = program == "adk_agent.py"
        """ADK makes a `RuntimeError` of it, and there is no step any more that could end the run."""
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._ingress = service.env["RESTATE_INGRESS_URL"]
        self._admin = service.env["RESTATE_ADMIN_URL"]
        self._words = (str(python), str(PROGRAMS / program), str(folder), self._ingress, str(port), form)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What it printed."""
        path = self.folder / "program.log"
        return path.read_text() if path.exists() else ""

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "program.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._words, stdout=log, stderr=log, preexec_fn=ends_with_us()
            )
        await until(self._answers, f"the agent to answer:\n{self.log}", START_SECONDS)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{self.url}/health") as response:
                    return response.status < 500
            except aiohttp.ClientError:
                return False

    async def register(self) -> None:
        """Make it Restate's agent."""
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{self._admin}/deployments", json={"uri": self.url, "force": True}) as response:
                assert response.status < 300, await response.text()

    async def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def run(self, job: dict[str, Any]) -> tuple[int, str]:
        """Call the agent, and return its answer."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(90)) as session:
            async with session.post(f"{self._ingress}/agent/run", json=job) as response:
                return response.status, await response.text()

    async def invocations(self) -> int:
        """Count what Restate has not ended of the agent's."""
        query = {"query": "SELECT id FROM sys_invocation WHERE target_service_name = 'agent' AND status != 'completed'"}
        async with aiohttp.ClientSession() as session:
            async with session.post(
                f"{self._admin}/query", json=query, headers={"Accept": "application/json"}
            ) as found:
                return len((await found.json())["rows"])

    def noted(self, name: str) -> list[str]:
        """Return the lines of a log of its folder."""
        path = self.folder / name
        return path.read_text().split() if path.exists() else []


@pytest.fixture
async def agent(
    request: pytest.FixtureRequest, python: tuple[Framework, Path], service: Service, tmp_path: Path
) -> AsyncIterator[Agent]:
    """Return a running agent; a test may say in which form it writes."""
    framework, interpreter = python
    agent = Agent(interpreter, framework.program, tmp_path, service, getattr(request, "param", "plain"))
    try:
        await agent.start()
        await agent.register()
        yield agent
    finally:
        await agent.kill()


class Seen(NamedTuple):
    """What a page shows at the end of a turn, in order, text in one piece, and how the turn ended."""

    said: list[str]
    end: str
    restarts: int

    @property
    def text(self) -> str:
        """All text."""
        return "".join(piece for piece in self.said if not piece.startswith("#"))


def shown(messages: list[Received]) -> Seen:
    """Read a topic as a page does: drop what a `restart` names, show the rest."""
    kept: list[tuple[int, dict[str, Any], str | None]] = []
    restarts = 0
    for at, data, event in messages:
        if event == "restart":
            restarts += 1
            kept = [one for one in kept if one[0] < data["offset"] or one[1].get("step") != data["id"]]
        else:
            kept.append((at, data, event))
    said: list[str] = []
    for _, data, event in kept:
        if event == "token" and said and not said[-1].startswith("#"):
            said[-1] += data["text"]
        elif event == "token":
            said.append(data["text"])
        elif data.get("role") == "tool":
            said.append(f"#{data['call']} {data['id']}" if "call" in data else f"#{data['id']}: {data.get('result')}")
    return Seen(said, kept[-1][2] or "", restarts)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[PubsubClient]:
    """Return a client."""
    async with create_pubsub_client(service.env["RESTATE_INGRESS_URL"]) as client:
        yield client


async def read(client: PubsubClient, topic: str) -> Seen:
    """Read a topic until its turn is over."""
    messages = []
    async with asyncio.timeout(60):
        async for message in client.pull(topic, 0):
            messages.append(message)
            if message.event in {"done", "failed"}:
                break
    seen = shown(messages)
    assert messages[-1].offset + 1 == (await client.info(topic))["tail"], "nothing follows the end"
    return seen


async def turn(agent: Agent, client: PubsubClient, task: str, killed_at: str | None = None) -> Seen:
    """Run a task; if asked to, kill the agent there and start it again."""
    topic = topic_name("agent")
    if killed_at:
        (agent.folder / "pause").write_text(killed_at)
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": task}))
    if killed_at:
        await until((agent.folder / "reached").exists, f"the agent to come to {killed_at}:\n{agent.log}")
        await agent.kill()
        (agent.folder / "pause").unlink()
        await agent.start()
    seen = await read(client, topic)
    status, text = await answer
    assert (seen.end == "done") == (status == 200), text
    await until(lambda: _none_left(agent), "no invocation to be left")
    return seen


async def _none_left(agent: Agent) -> bool:
    return await agent.invocations() == 0


async def read_by(name: str, agent: Agent, url: str, killed_at: str) -> dict[str, Any]:
    """Let a client read a run that is killed at a place and goes on; return what the client ends with."""
    (agent.folder / "pause").write_text(killed_at)
    topic = url.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "tools"}))
    await until((agent.folder / "reached").exists, f"the agent to come to {killed_at}:\n{agent.log}")
    async with page_client(name, url) as page:
        await until(lambda: page.said, "the client to see something")
        await agent.kill()
        (agent.folder / "pause").unlink()
        await agent.start()
        over = await page.over()
    status, text = await answer
    assert 200 == status, text
    return over


TOOLS = ["I look it up. ", "#look_up slow-1", "#look_up fast-2"]
RESULTS = ["#slow-1: slow is found", "#fast-2: fast is found"]
REST = ["It is done"]


async def test_an_answer_comes_token_by_token(agent: Agent, client: PubsubClient) -> None:
    """And once."""
    assert Seen(["Hello world"], "done", 0) == await turn(agent, client, "talk")
    assert ["talk/1"] == agent.noted("calls.log")


async def test_tools_side_by_side(agent: Agent, client: PubsubClient) -> None:
    """What they return is there once each, in the order in which they end."""
    seen = await turn(agent, client, "tools")
    assert TOOLS == seen.said[:3]
    assert sorted(RESULTS) == sorted(seen.said[3:5])
    assert REST == seen.said[5:]
    assert ["tools/1", "tools/2"] == agent.noted("calls.log")


@pytest.mark.parametrize(
    ("place", "calls", "restarts"),
    [
        pytest.param("tools/1", ["tools/1", "tools/1", "tools/2"], 1, marks=LONG),
        pytest.param("between tools", ["tools/1", "tools/2"], 0, marks=LONG),
        ("tools/2", ["tools/1", "tools/2", "tools/2"], 1),
    ],
)
async def test_killed_in_the_middle(
    place: str, calls: list[str], restarts: int, agent: Agent, client: PubsubClient
) -> None:
    """The step that was cut off runs again and says so; what was finished is not paid for again."""
    seen = await turn(agent, client, "tools", killed_at=place)
    assert "I look it up. It is done" == seen.text
    assert sorted(RESULTS) == sorted(piece for piece in seen.said if ":" in piece)
    assert 2 == sum(piece.startswith("#look_up") for piece in seen.said)
    assert (restarts, "done") == (seen.restarts, seen.end)
    assert calls == agent.noted("calls.log")


@pytest.mark.parametrize("place", [pytest.param("sub/1", marks=LONG), "sub-talk/1", pytest.param("sub/2", marks=LONG)])
async def test_an_agent_that_asks_another(place: str, agent: Agent, client: PubsubClient) -> None:
    """Each has steps of its own: a restart of one takes nothing from the other."""
    seen = await turn(agent, client, "sub", killed_at=place)
    assert "I ask. Sub says yesSo it is" == seen.text
    assert ["#delegate ask-1", "#ask-1: Sub says yes"] == [piece for piece in seen.said if piece.startswith("#")]
    assert 1 == seen.restarts
    assert 4 == len(agent.noted("calls.log")), "three calls, and the one that was cut off"


async def test_a_model_that_fails_for_good(agent: Agent, client: PubsubClient) -> None:
    """The turn ends, and readers are told."""
    seen = await turn(agent, client, "fails")
    assert ("failed", "Half an ans") == (seen.end, seen.text)
    assert ["fails/1"] == agent.noted("calls.log")


async def test_stopped_while_it_speaks(agent: Agent, client: PubsubClient) -> None:
    """What was said stays, the model is not asked again, and the invocation has ended."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "long"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token":
                await client.stop(topic, message.data["step"], reason="enough")
                break
    seen = await read(client, topic)
    status, text = await answer
    assert "failed" == seen.end
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "was stopped" in text
    assert "enough" in text
    assert seen.text.startswith("0 ")
    assert not seen.text.endswith("399 ")
    assert ["long/1"] == agent.noted("calls.log")
    await until(lambda: _none_left(agent), "no invocation to be left")


async def test_stopped_while_it_thinks(agent: Agent, client: PubsubClient) -> None:
    """A model that is silent is given up at once: nobody waits for its next word."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "silent"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token":
                await client.stop(topic, reason="enough")
                break
        status, text = await answer
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "was stopped" in text
    assert ("failed", "Let me") == ((seen := await read(client, topic)).end, seen.text)
    assert ["silent/1"] == agent.noted("calls.log")
    await until(lambda: _none_left(agent), "no invocation to be left")


async def test_a_topic_that_is_closed(agent: Agent, client: PubsubClient) -> None:
    """The invocation ends at once: the same again would be refused again."""
    topic = topic_name("agent")
    await client.publish(topic, "before")
    await client.close(topic)
    status, text = await agent.run({"topic": topic, "turn": "turn-1", "task": "talk"})
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "closed" in text
    assert [] == agent.noted("calls.log")
    await until(lambda: _none_left(agent), "no invocation to be left")


@pytest.mark.parametrize("agent", ["ai_sdk"], indirect=True)
async def test_read_by_use_chat(agent: Agent, service: Service) -> None:
    """A page of the AI SDK shows one answer, whole, also of a step that was done again, and is ready at its end."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ai-sdk"
    over = await read_by("use-chat", agent, url, "tools/1")
    assert ("ready", ["I look it up. It is done"]) == (over["over"], over["texts"])


@LONG
@pytest.mark.parametrize("agent", ["ag_ui"], indirect=True)
async def test_read_by_an_ag_ui_client(agent: Agent, service: Service) -> None:
    """AG-UI's own client takes every event, once, and its run resolves."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ag-ui"
    over = await read_by("ag-ui", agent, url, "between tools")
    assert "resolved" == over["over"]
    assert "RUN_FINISHED" == over["events"][-1]
    assert 2 == over["events"].count("TOOL_CALL_RESULT")
    assert "It is done" in over["texts"]


@LONG
@pytest.mark.parametrize("agent", ["ag_ui"], indirect=True)
async def test_an_ag_ui_client_cannot_take_a_step_again(agent: Agent, service: Service) -> None:
    """AG-UI has no word for what is taken back, so its client ends there; docs/agents.md says so."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ag-ui"
    over = await read_by("ag-ui", agent, url, "tools/1")
    assert "is already in progress" in over["over"]


BROKEN = "broken-at-"


@pytest.mark.parametrize(
    ("agent", "calls"),
    [
        pytest.param(BROKEN + "RunStarted", [], marks=LONG),
        (BROKEN + "TextDelta", ["tools/1"]),
        pytest.param(BROKEN + "ToolReturned", ["tools/1"], marks=LONG),
        pytest.param(BROKEN + "RunFinished", ["tools/1", "tools/2"], marks=LONG),
    ],
    indirect=["agent"],
)
async def test_an_encoder_that_raises(calls: list[str], agent: Agent, client: PubsubClient) -> None:
    """The run ends and says why, and no model is asked again."""
    topic = topic_name("agent")
    status, text = await agent.run({"topic": topic, "turn": "turn-1", "task": "tools"})
    assert "failed" == (await read(client, topic)).end
    assert calls == agent.noted("calls.log")
    if agent.hides_the_last_refusal and calls == ["tools/1", "tools/2"]:
        assert 200 == status
    else:
        assert status >= 400
        assert "no such field" in text
    await until(lambda: _none_left(agent), "no invocation to be left")


@LONG
@pytest.mark.parametrize("agent", [BROKEN + "AgentEvent"], indirect=True)
async def test_an_encoder_that_always_raises(agent: Agent) -> None:
    """The first cause is what the invocation fails with."""
    status, text = await agent.run({"topic": topic_name("agent"), "turn": "turn-1", "task": "tools"})
    assert status >= 400
    assert "The encoder failed at RunStarted: KeyError: 'no such field'" in text
    await until(lambda: _none_left(agent), "no invocation to be left")


@LONG
async def test_a_model_that_does_not_stream(agent: Agent, client: PubsubClient) -> None:
    """What it says is there, in one piece."""
    assert Seen(["All at once"], "done", 0) == await turn(agent, client, "whole")


@LONG
async def test_an_empty_answer(agent: Agent, client: PubsubClient) -> None:
    """The run ends, as the framework has it end."""
    seen = await turn(agent, client, "empty")
    assert "" == seen.text
    assert len(set(agent.noted("calls.log"))) == len(agent.noted("calls.log"))


@LONG
async def test_unusual_characters(agent: Agent, client: PubsubClient) -> None:
    """Texts, arguments and ids of calls may be any text."""
    seen = await turn(agent, client, "odd")
    called = f"#look_up {ODD_ID}"
    assert [f"{ODD}? ", called, f"#{ODD_ID}: {ODD} is found", "It is done"] == seen.said


@LONG
async def test_calls_of_one_id(agent: Agent, client: PubsubClient) -> None:
    """Some providers count calls from 0 in each answer; each has its result."""
    seen = await turn(agent, client, "again")
    assert ["#call-0: one is found", "#call-0: two is found"] == [piece for piece in seen.said if ":" in piece]


@LONG
async def test_a_result_that_is_too_large(agent: Agent, client: PubsubClient) -> None:
    """The topic refuses it, so the run ends and says why."""
    seen = await turn(agent, client, "huge")
    assert ("failed", ["huge/1"]) == (seen.end, agent.noted("calls.log"))


@LONG
async def test_a_tool_that_refuses(agent: Agent, client: PubsubClient) -> None:
    """The run ends and says why."""
    seen = await turn(agent, client, "refused")
    assert ("failed", ["refused/1"]) == (seen.end, agent.noted("calls.log"))


@LONG
async def test_stopped_while_another_agent_speaks(agent: Agent, client: PubsubClient) -> None:
    """What was said stays, no model is asked again, and the invocation has ended."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "sub-long"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token" and "agent" in message.data:
                await client.stop(topic, reason="enough")
                break
    status, text = await answer
    seen = await read(client, topic)
    assert ("failed", ["sub-long/1", "long/1"]) == (seen.end, agent.noted("calls.log"))
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "enough" in text
    await until(lambda: _none_left(agent), "no invocation to be left")
