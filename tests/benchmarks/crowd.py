"""The readers of one sample: a few probes that time every message, and a crowd that only reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PROBES = 50
"""The probes are a process of their own, so that the crowd's reading does not delay their clock."""
OPEN_SECONDS = 120.0
LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """What readers found. Times in seconds; `latencies` are microseconds, a list for each probe."""

    ended_at: float
    complete: bool
    lost: int
    size: int
    cpu: float
    latencies: list[list[int]]


class Readers:
    """One reader process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """See `open`."""
        self._process = process
        self._found: asyncio.Task[bytes] | None = None

    @classmethod
    async def open(
        cls,
        port: int,
        paths: Sequence[str],
        *,
        per_path: int = 1,
        probe: bool = False,
        warm: bool = True,
        **further: Any,
    ) -> Self:
        """Start a process that opens `per_path` streams of each path; `further` goes into its specification.

        `warm`: they are ready when they have the first message; otherwise, when they have the response's head.
        """
        spec = further | {
            "host": "127.0.0.1",
            "port": port,
            "paths": list(paths),
            "per_path": per_path,
            "probe": probe,
            "warm": warm,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("readers.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LIMIT,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec).encode() + b"\n")  # a thousand paths are too long for an argument
        return cls(process)

    async def ready(self) -> None:
        """Wait until every stream is ready."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), OPEN_SECONDS)
        assert line == b"ready\n", f"the readers were cut off: {line[:300]!r}"
        self._found = asyncio.create_task(self._process.stdout.readline())

    async def found(self, seconds: float) -> Found:
        """Wait until every stream has ended, `seconds` at most, and return what was found."""
        assert self._found is not None
        await asyncio.wait({self._found}, timeout=seconds)
        self._hang_up()
        line = await asyncio.wait_for(self._found, OPEN_SECONDS)
        raw: dict[str, Any] = json.loads(line)
        await self._process.wait()
        return Found(raw["endedAt"] / 1e9, raw["complete"], raw["lost"], raw["bytes"], raw["cpu"], raw["latencies"])

    def _hang_up(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def close(self) -> None:
        """End the process."""
        self._hang_up()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Crowd:
    """Several reader processes as one."""

    def __init__(self) -> None:
        """See `crowd`."""
        self.parts: list[Readers] = []

    async def ready(self) -> None:
        """Wait until every stream is ready."""
        await asyncio.gather(*(part.ready() for part in self.parts))

    async def found(self, seconds: float) -> list[Found]:
        """Wait until every stream has ended, `seconds` at most, and return what each process found."""
        return await asyncio.gather(*(part.found(seconds) for part in self.parts))


@contextlib.asynccontextmanager
async def crowd(
    ports: Sequence[int], paths: Sequence[str], readers: int, *, probes: int | None = None, **further: Any
) -> AsyncIterator[Crowd]:
    """Open `readers` streams of each path, spread over `ports`; `probes` of them (`PROBES`) time every message.

    The probes come first, or in the middle of the crowd, and are a process of their own. `further` is as for
    `Readers.open`.
    """
    probes = min(readers, PROBES if probes is None else probes)
    before = (readers - probes) // 2
    opened = Crowd()
    try:
        for count, probe in ((before, False), (probes, True), (readers - probes - before, False)):
            for at, port in enumerate(ports):
                # One path: its readers are spread; one reader for each path: the paths are.
                alone = len(paths) == 1
                mine = paths if alone else paths[at :: len(ports)]
                share = (count + len(ports) - 1 - at) // len(ports) if alone else count
                if share and mine:
                    opened.parts.append(await Readers.open(port, mine, per_path=share, probe=probe, **further))
        yield opened
    finally:
        for part in opened.parts:
            await part.close()
