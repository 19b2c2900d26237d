"""The page on durable steps: each of its handlers runs here as it is printed, and is killed where it hurts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Event, Service, free_port, listens, query, restate_server, stream, topic_name
from support.waiting import until

PAGE = (ROOT / "docs" / "durable-steps.md").read_text()

PRELUDE = """
import asyncio, sys
PORT, WORD, COUNT, PACE, HOLD = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]

async def my_model(prompt):
    for at in range(COUNT):
        yield f"{prompt}-{WORD}{at} "
        await asyncio.sleep(PACE)

async def search(query):
    await asyncio.sleep(0.5 if query == "slow" else 0)
    return f"{query}: {WORD}"

async def summarise(results):
    print("all tools have ended", flush=True)
    if HOLD == "hold":
        await asyncio.Event().wait()
    return ", ".join(results)
"""

EPILOGUE = """
from hypercorn.asyncio import serve
from hypercorn.config import Config
config = Config()
config.bind = [f"127.0.0.1:{PORT}"]
asyncio.run(serve(restate.app([agent]), config))
"""

IN_THE_JOURNAL = """
import restate
from restate_pubsub import create_pubsub_publisher
agent = restate.Service("agent")
publish = create_pubsub_publisher("pubsub")

@agent.handler()
async def research(ctx: restate.Context, job: dict) -> str:
    async def tool(call):
        found = await ctx.run_typed(f"look up {call['id']}", search, query=call["query"])
        publish(ctx, job["topic"], {"tool": call["id"]}, event="tool")
        return found
    results = await asyncio.gather(*(tool(call) for call in job["calls"]))
    return await ctx.run_typed("summary", summarise, results=list(results))
"""
"""What the page warns of."""

LONG = 150
"""Tokens of a step that is longer than the two timeouts and the five seconds that Restate then waits for the rest."""

CALLS = [{"id": "a", "query": "slow"}, {"id": "b", "query": "fast"}]


def snippet(heading: str) -> str:
    """Return the Python under a heading of the page."""
    section = PAGE[PAGE.index(f"\n## {heading}\n") :]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


class Agent:
    """A process that serves a snippet, with a model and tools of the test's own; it can be killed and started again."""

    def __init__(self, restate: RestateServer, code: str) -> None:
        self.restate = restate
        self.port = free_port()
        self._file = restate.base_dir / f"agent-{self.port}.py"
        self._file.write_text(PRELUDE + code.replace("http://localhost:8080", restate.ingress_url) + EPILOGUE)
        self._log = self._file.with_suffix(".log")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def start(self, word: str, *, count: int = 5, pace: float = 0.01, hold: bool = False) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(self._file),
                *(str(self.port), word, str(count), str(pace), "hold" if hold else "go"),
                stdout=log,
                stderr=log,
            )
        await until(lambda: listens(self.port), f"the agent to listen:\n{self.log}")

    async def register(self) -> None:
        deployment = {"uri": f"http://127.0.0.1:{self.port}", "force": True}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.restate.admin_url}/deployments", json=deployment) as response,
        ):
            assert response.status in (200, 201), await response.text()

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def call(self, handler: str, job: dict[str, Any]) -> Any:
        url = f"{self.restate.ingress_url}/agent/{handler}"
        async with aiohttp.ClientSession() as session, session.post(url, json=job) as response:
            assert response.status == 200, await response.text()
            return await response.json()


@contextlib.asynccontextmanager
async def agent(restate: RestateServer, code: str) -> AsyncIterator[Agent]:
    """Give an agent that is not started; it ends with the block, and with it its invocations."""
    one = Agent(restate, code)
    try:
        yield one
    finally:
        await one.kill()
        rows = await query(restate, "select id from sys_invocation where target_service_name = 'agent'")
        async with aiohttp.ClientSession() as session:
            for row in rows:
                await session.patch(f"{restate.admin_url}/invocations/{row['id']}/kill")


async def test_parallel_tools_publish_once_each_whatever_is_killed(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """Both tools have ended, in the order in which they do not stand; then the process dies, and comes back."""
    async with agent(restate, snippet("Tools that run in parallel")) as one:
        await one.start("old", hold=True)
        await one.register()
        async with stream(service.topic_url(topic)) as reader:
            calling = asyncio.ensure_future(one.call("research", {"topic": topic, "calls": CALLS}))
            tools = await reader.take(2)
            await until(lambda: "all tools have ended" in one.log, "the tools to be journaled")
            await one.kill()
            await one.start("new")
            assert "slow: old, fast: old" == await asyncio.wait_for(calling, 60)
            assert "done" == (await reader.next()).event
    assert ["b", "a"] == [event.data["tool"] for event in tools]


async def test_a_publish_in_the_journal_of_parallel_tools_blocks_the_handler(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """As the page says: the same crash, and Restate refuses every further attempt (RT0016)."""
    sql = "select last_failure_error_code as code from sys_invocation where target_service_name = 'agent'"
    async with agent(restate, IN_THE_JOURNAL) as one:
        await one.start("old", hold=True)
        await one.register()
        async with stream(service.topic_url(topic)) as reader:
            calling = asyncio.ensure_future(one.call("research", {"topic": topic, "calls": CALLS}))
            await reader.take(2)
            await until(lambda: "all tools have ended" in one.log, "the tools to be journaled")
            await one.kill()
            await one.start("new")

            async def refused() -> bool:
                return "RT0016" in [row.get("code") for row in await query(restate, sql)]

            await until(refused, "the mismatch")
            assert not calling.done()
    await asyncio.gather(calling, return_exceptions=True)


async def test_agents_that_call_agents_do_not_take_over_each_other_s_streams(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """Every answer is whole, and no reader is told to drop one."""
    async with agent(restate, snippet("Agents that call agents")) as one:
        await one.start("word")
        await one.register()
        await asyncio.wait_for(one.call("plan", {"topic": topic, "prompt": "p", "parts": ["x", "y"]}), 60)
        async with stream(service.topic_url(topic)) as reader:
            events = await reader.take(25)
    assert {"message"} == {event.event for event in events}
    names = [event.data["by"].partition("/")[2] for event in events]
    streams = ["outline", "writer-0/outline", "writer-0/text", "writer-1/outline", "writer-1/text"]
    assert [name for name in streams for _ in range(5)] == names


@pytest.fixture(scope="module")
async def impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[RestateServer, Service]]:
    """Return a Restate whose timeouts are a second each, and a service."""
    folder: Path = tmp_path_factory.mktemp("impatient")
    timeouts = {"INACTIVITY_TIMEOUT": "1s", "ABORT_TIMEOUT": "1s"}
    restate = restate_server(folder, **{f"RESTATE_WORKER__INVOKER__{name}": value for name, value in timeouts.items()})
    await restate.start()
    service = Service(restate)
    try:
        await service.start()
        yield restate, service
    finally:
        await service.stop()
        await restate.stop()


async def read_until_restart_or(service: Service, topic: str, count: int) -> list[Event]:
    """Return the events up to the first `restart`, or `count`."""
    events: list[Event] = []
    async with stream(service.topic_url(topic)) as reader:
        while len(events) < count and not (events and events[-1].event == "restart"):
            events.append(await reader.next())
    return events


async def test_a_step_longer_than_the_timeouts_is_begun_again_unless_its_handler_says_so(
    impatient: tuple[RestateServer, Service],
) -> None:
    """The page's handler comes to its end; the same one without its line does not."""
    restate, service = impatient
    code = snippet("Answers that take minutes")
    with_line = "@agent.handler(inactivity_timeout=timedelta(hours=1))"
    assert with_line in code
    for handler, restarted in ((code.replace(with_line, "@agent.handler()"), True), (code, False)):
        topic = topic_name()
        async with agent(restate, handler) as one:
            await one.start("word", count=LONG, pace=0.1)
            await one.register()
            calling = asyncio.ensure_future(one.call("essay", {"topic": topic, "prompt": "p"}))
            events = await read_until_restart_or(service, topic, LONG)
            assert ("restart" in [event.event for event in events]) == restarted
            if not restarted:
                assert f"p-word{LONG - 1} " in await asyncio.wait_for(calling, 30)
        await asyncio.gather(calling, return_exceptions=True)


async def test_the_complete_handler_says_each_word_of_its_last_attempt(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """Killed in the middle of its answer."""
    async with agent(restate, snippet("A complete handler")) as one:
        await one.start("old", count=1000)
        await one.register()
        async with stream(service.topic_url(topic)) as reader:
            calling = asyncio.ensure_future(one.call("answer", {"topic": topic, "prompt": "p"}))
            events = await reader.take(10)
            await one.kill()
            await one.start("new", count=20)
            while events[-1].event != "done":
                events.append(await reader.next())
            text = await asyncio.wait_for(calling, 60)
    restart = next(at for at, event in enumerate(events) if event.event == "restart")
    words = [event.data["delta"] for event in events[restart + 1 : -1]]
    assert text == "".join(words) == "".join(f"p-new{at} " for at in range(20))
    assert events[-1].data == {"role": "assistant", "content": text}
