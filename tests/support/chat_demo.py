"""The example chat as a process: started as `make demo` starts it, its parts killed, ended with Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Self

import aiohttp

from restate_pubsub import Received, create_pubsub_client
from restate_pubsub.commands.child_process import ends_with_us
from support.harness import ROOT, free_port
from support.waiting import PATIENCE, until


class Demo:
    """`examples/chat/demo.py` as a process."""

    def __init__(self, folder: Path, *options: str | Path, cwd: Path = ROOT, **env: str) -> None:
        """Choose free ports; `options` are the demo's own, `cwd` is where it starts, `env` what it gets besides."""
        self.folder = folder
        self._options = options
        self.cwd = cwd
        self.env = os.environ | env
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._ingress = self._admin = ""
        self._log = folder / "demo.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def output(self) -> str:
        """What it printed."""
        return self._log.read_text()

    async def start(self) -> Self:
        """Start it, and wait for its URL."""
        options = ("ingress-port", "admin-port", "node-port", "service-port", "agent-port")
        ports = [word for option in options for word in (f"--{option}", str(free_port()))]
        self._ingress, self._admin = f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[3]}"
        command = [sys.executable, str(ROOT / "examples" / "chat" / "demo.py"), "--port", str(self.port), *ports]
        command += map(str, self._options)
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                "--folder",
                str(self.folder),
                cwd=self.cwd,
                env=self.env,
                stdout=log,
                stderr=log,
                preexec_fn=ends_with_us(),
            )
        await until(lambda: "Ctrl-C ends all of it" in self.output, f"the demo to start, in {self._log}", 60)
        return self

    def pid(self, part: str) -> int:
        """Return the process of a part, as the demo printed it."""
        found = re.findall(rf"kill -9 (\d+) +{part}|{part} runs again as process (\d+)", self.output)
        return int("".join(found[-1]))

    async def kill(self, part: str) -> None:
        """Kill a part, and return when it is gone."""
        os.kill(self.pid(part), signal.SIGKILL)
        before = self.output.count(f"{part} ended")
        await until(lambda: self.output.count(f"{part} ended") > before, f"{part} to end")

    async def close_topic(self, topic: str) -> None:
        """End a topic."""
        async with create_pubsub_client(self._ingress) as client:
            await client.close(topic)

    async def stop_all(self, topic: str) -> None:
        """Stop what is unfinished in a topic, as `restate-pubsub stop` does."""
        async with create_pubsub_client(self._ingress) as client:
            await client.stop(topic)

    async def messages(self, topic: str) -> list[Received]:
        """Return what is in a topic now."""
        async with create_pubsub_client(self._ingress) as client:
            tail = (await client.bounds(topic)).tail
            found: list[Received] = []
            if tail == 0:
                return found
            async for message in client.pull(topic, 0):
                found.append(message)
                if message.next_offset >= tail:
                    break
            return found

    async def runs(self, step: str) -> bool:
        """Whether an invocation that is not over has come to this step."""
        sql = f"""select 1 from sys_journal step join sys_invocation whose on step.id = whose.id
            where step.name = '{step}' and whose.status != 'completed'"""  # noqa: S608
        async with (
            aiohttp.ClientSession(headers={"accept": "application/json"}) as session,
            session.post(f"{self._admin}/query", json={"query": sql}) as response,
        ):
            return bool((await response.json())["rows"])

    async def revived(self, part: str) -> None:
        """Wait until a part that was killed runs again."""
        await until(lambda: self.output.count(f"{part} runs again") == self.output.count(f"{part} ended"), part)

    async def stop(self, signum: signal.Signals = signal.SIGINT) -> int:
        """Press Ctrl-C or send another signal, and return the exit code."""
        process, self._process = self._process, None
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
        return await asyncio.wait_for(process.wait(), PATIENCE)
