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
        "pydantic-ai 1.98",
        ["pydantic-ai-slim[mcp]==1.98.0", "mcp<2", "restate-sdk[serde]==1.3.0"],
        "pydantic_ai_agent.py",
    ),
    Framework(
        "openai-agents 0.24",
        ["openai-agents==0.24.0", "restate-sdk[serde]==1.3.0"],
        "openai_agents_agent.py",
    ),
    Framework(
        "openai-agents 0.2",
        ["openai-agents==0.2.0", "restate-sdk[serde]==1.3.0"],
        "openai_agents_agent.py",
    ),
    Framework(
        "langchain 1.5",
        ["langchain==1.5.2", "langgraph==1.2.24", "restate-sdk[serde]==1.3.0"],
        "langchain_agent.py",
    ),
    Framework("langchain 1.2", ["langchain==1.2.11", "restate-sdk[serde]==1.3.0"], "langchain_agent.py"),
    Framework("google-adk 2.13", ["google-adk==2.13.0", "restate-sdk[serde]==1.3.0"], "adk_agent.py"),
    Framework("google-adk 1.20", ["google-adk==1.20.0", "restate-sdk[serde]==1.3.0"], "adk_agent.py"),
]
