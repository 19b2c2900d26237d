"""The lines that docs/agents.md tells to copy, as programs: their tokens come to a topic, from a provider here."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from frameworks.provider import ANSWER, provider
from restate_pubsub import create_pubsub_client
from restate_pubsub.commands.child_process import ends_with_us
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, free_port, running_restate
from support.made import made
from support.waiting import until

HEADINGS = {
    "pydantic-ai": "Pydantic AI",
    "openai-agents": "OpenAI Agents",
    "langchain": "LangChain",
    "adk": "Google ADK",
}
CHOSEN = list(HEADINGS) if os.environ.get("AGENTS") == "all" else ["pydantic-ai"]
START_SECONDS = 90
SERVED = """
import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

config = Config()
config.bind = [sys.argv[1]]
asyncio.run(serve(restate.app([globals().get("service") or chat]), config))
"""


@pytest.fixture(scope="module")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate of this file's own: its agents have the names of others."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture(scope="module")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a running, registered service."""
    service = await Service(restate).start()
    yield service
    await service.stop()


def lines(framework: str) -> str:
    """Return the program that the documentation shows for a framework."""
    text = (ROOT / "docs" / "agents.md").read_text()
    found = re.search(rf"^## {HEADINGS[framework]}\n\n```python\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("framework", CHOSEN)
async def test_the_lines_of_the_documentation_bring_tokens(framework: str, service: Service, tmp_path: Path) -> None:
    """As they are written there: only the addresses and the model's key come from here."""
    await made(f".agents/{framework}/.done")
    ingress, admin = service.env["RESTATE_INGRESS_URL"], service.env["RESTATE_ADMIN_URL"]
    program = tmp_path / "program.py"
    program.write_text(lines(framework).replace("http://localhost:8080", ingress) + SERVED)
    address = f"127.0.0.1:{free_port()}"
    async with provider() as url, aiohttp.ClientSession() as session, create_pubsub_client(ingress) as client:
        with (tmp_path / "program.log").open("wb") as log:
            env = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
            env |= {"GOOGLE_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": url, "PATH": os.environ["PATH"]}
            python = ROOT / ".agents" / framework / "bin" / "python"
            process = await asyncio.create_subprocess_exec(
                python, program, address, env=env, stdout=log, stderr=log, preexec_fn=ends_with_us()
            )

        async def answers() -> bool:
            assert process.returncode is None, (tmp_path / "program.log").read_text()
            try:
                async with session.get(f"http://{address}/health") as response:
                    return response.status < 500
            except aiohttp.ClientError:
                return False

        try:
            await until(answers, "the program to answer", START_SECONDS)
            async with session.post(f"{admin}/deployments", json={"uri": f"http://{address}"}) as response:
                assert response.status < 300, await response.text()
            asked: Any
            topic, called = f"topic-of-{framework}", "agent/answer"
            asked = {"prompt": "Say hello", "topic": topic}
            if framework == "adk":
                topic, called, asked = "chat/1", "chat/1/answer", "Say hello"
            async with session.post(f"{ingress}/{called}", json=asked) as response:
                assert response.status < 300, await response.text() + (tmp_path / "program.log").read_text()
            said, last = "", None
            async with asyncio.timeout(30):
                async for last in client.pull(topic, 0):
                    if last.event == "done":
                        break
                    said += last.data["text"] if last.event == "token" else ""
            assert last is not None
            assert (ANSWER, ANSWER) == (said, last.data["output"])
        finally:
            process.kill()
            await process.wait()
