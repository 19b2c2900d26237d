"""Waiting for what should happen, by asking again; it needs no package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PATIENCE = 30.0
"""Seconds after which something that should have happened has not."""


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Ask again and again until `condition` is true, and return what it returned."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        assert loop.time() < deadline, f"waited {seconds:g} s for {what}"
        await asyncio.sleep(0.02)
