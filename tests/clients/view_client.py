"""The clients of `views.mjs` at work: each a process that says what its page would show."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.node import NODE
from support.waiting import PATIENCE, until

SCRIPT = Path(__file__).parent / "views.mjs"


class Client:
    """A client at work: what it has said so far."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    async def shows(self, texts: list[str]) -> None:
        """Wait until the page shows these messages."""
        await until(lambda: any(texts == one.get("texts") for one in self.said), f"{texts}: {self.said}", PATIENCE)

    async def got(self, event: str, count: int = 1) -> None:
        """Wait for an event of its own."""
        await until(lambda: sum(event == one.get("event") for one in self.said) >= count, f"{event}: {self.said}")

    async def over(self) -> dict[str, Any]:
        """Wait until it has ended, and return what it says then."""
        await until(lambda: any("over" in one for one in self.said), f"the end: {self.said}", PATIENCE)
        return self.said[-1]


@contextlib.asynccontextmanager
async def client(name: str, url: str, *args: str) -> AsyncIterator[Client]:
    """Run a client."""
    process = await asyncio.create_subprocess_exec(
        NODE, SCRIPT, name, url, *args, stdout=asyncio.subprocess.PIPE, cwd=SCRIPT.parent
    )
    found = Client()

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            found.said.append(json.loads(line))

    listening = asyncio.create_task(listen())
    try:
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening
