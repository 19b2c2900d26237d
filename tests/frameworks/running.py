"""An agent of a real framework in a process of its own, on an environment of its own, and what a page shows of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from frameworks.versions import FRAMEWORKS, Framework
from restate_pubsub import PubsubClient, Received, create_pubsub_client
from restate_pubsub.commands.child_process import ends_with_us
from support.environments import environment, uv, wheel
from support.harness import ROOT, Service, free_port, topic_name
from support.waiting import until

PROGRAMS = ROOT / "tests" / "frameworks" / "programs"
ALL = os.environ.get("AGENTS") == "all"
START_SECONDS = 90
"""A framework is imported in seconds, but not on a machine that is busy."""
LONG = pytest.mark.skipif(not ALL, reason="`make test-agents` runs it")
CHOSEN = [framework for framework in FRAMEWORKS if ALL or framework.short]


@pytest.fixture(scope="session", params=CHOSEN, ids=lambda framework: framework.name)
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
        self.program = program
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
    await until(lambda: none_left(agent), "no invocation to be left")
    return seen


async def none_left(agent: Agent) -> bool:
    return await agent.invocations() == 0
