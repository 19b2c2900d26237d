"""The frameworks that `restate_pubsub.ext` is for: the oldest and the newest versions that work."""

from __future__ import annotations

from typing import NamedTuple


class Framework(NamedTuple):
    """A version of a framework: what installs it, the program that uses it, and whether `make test` runs it."""

    name: str
    requirements: list[str]
    program: str
    short: bool = False


FRAMEWORKS = [
    Framework(
        "pydantic-ai 2.68",
        ["pydantic-ai-slim[mcp]==2.68.0", "restate-sdk[serde]==1.3.0"],
        "pydantic_ai_agent.py",
        short=True,
    ),
    Framework(
        "openai-agents 0.24",
        ["openai-agents==0.24.0", "restate-sdk[serde]==1.3.0"],
        "openai_agents_agent.py",
    ),
    Framework(
        "langchain 1.5",
        ["langchain==1.5.2", "langgraph==1.2.24", "restate-sdk[serde]==1.3.0"],
        "langchain_agent.py",
    ),
    Framework("google-adk 2.13", ["google-adk==2.13.0", "restate-sdk[serde]==1.3.0"], "adk_agent.py"),
]
