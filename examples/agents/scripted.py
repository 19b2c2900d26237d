"""What the fake models say: the words of the example chat's scripted model, which need no key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from model import ScriptedModel  # of examples/chat

MODEL = ScriptedModel()
TOOLS = {
    "calculate": ("travel_days", {"km": 384400, "km_per_hour": 300}),
    "look_at_topic": ("look_at_topic", {}),
}
"""The scripted model's tools, as the agents here have them."""


class Call(NamedTuple):
    """A tool that the model asks for."""

    tool: str
    arguments: dict[str, Any]


async def choose(prompt: str, returned: list[Any]) -> Call | None:
    """Say which tool is needed, unless one has returned already."""
    call = None if returned else await MODEL.choose_tool(prompt)
    return Call(*TOOLS[call.name]) if call and call.name in TOOLS else None


def answer(prompt: str, returned: list[Any]) -> AsyncIterator[str]:
    """Yield the words of the answer; a prompt with `/fail` breaks off the first time it is asked."""
    result = returned[-1] if returned else None
    return MODEL.answer(prompt, prompt, json.loads(result) if isinstance(result, str) else result)
