"""A program that asks, run as a process of its own, so that it can be killed while somebody thinks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, free_port, query
from support.waiting import until

OPEN = "select id from sys_invocation where target_service_name = 'asker' and status != 'completed'"


class Asking:
    """The program; `ask` returns what its handler will return, or the text of its error."""

    def __init__(self, restate: RestateServer, folder: Path) -> None:
        self._restate = restate
        self._log = folder / "asking.log"
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._answers: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Start and register it."""
        await self.start()
        async with aiohttp.ClientSession() as session:
            body = {"uri": f"http://127.0.0.1:{self._port}", "force": True}
            async with session.post(f"{self._restate.admin_url}/deployments", json=body) as response:
                assert response.status < 300, await response.text()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        for answer in self._answers:
            answer.cancel()
        await self.kill()

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        program = ROOT / "tests" / "support" / "asking_agent.py"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, str(program), str(self._port), stdout=log, stderr=log
            )

        async def lives() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                return False
            writer.close()
            return True

        await until(lives, "the program that asks")

    async def kill(self) -> None:
        """End it without a word."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def ask(self, topic: str, question: Any, timeout: float | None = None) -> asyncio.Task[Any]:
        """Let its handler ask."""

        async def answer() -> Any:
            url = f"{self._restate.ingress_url}/asker/ask"
            body = {"topic": topic, "question": question, "timeout": timeout}
            async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
                return await response.json()

        task = asyncio.create_task(answer())
        self._answers.add(task)
        return task

    async def think(self, topic: str) -> asyncio.Task[Any]:
        """Let its handler open a token stream in a step, and think."""

        async def outcome() -> Any:
            url = f"{self._restate.ingress_url}/asker/think"
            body = {"topic": topic, "ingress": self._restate.ingress_url}
            async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
                return await response.json()

        task = asyncio.create_task(outcome())
        self._answers.add(task)
        return task

    async def cancel(self) -> None:
        """Cancel what it does, as an operator does."""
        for row in await query(self._restate, OPEN):
            url = f"{self._restate.admin_url}/invocations/{row['id']}/cancel"
            async with aiohttp.ClientSession() as session, session.patch(url) as response:
                assert response.status < 300, await response.text()
