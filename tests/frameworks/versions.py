"""The frameworks that `restate_pubsub.ext` is for: the oldest and the newest versions that work.

The newest are those of the examples. What each takes along is locked, so that a release of somebody else's changes
nothing here before `make lock`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from support.harness import ROOT

NEWEST = ROOT / "examples" / "agents"
OLDEST = ROOT / "tests" / "frameworks" / "oldest"


class Framework(NamedTuple):
    """A version of a framework: what installs it, the program that uses it, and whether `make test` runs it."""

    name: str
    lock: Path
    program: str
    short: bool = False


FRAMEWORKS = [
    Framework("pydantic-ai 2.68", NEWEST / "pydantic-ai.lock", "pydantic_ai_agent.py", short=True),
    Framework("pydantic-ai 1.98", OLDEST / "pydantic-ai.lock", "pydantic_ai_agent.py"),
    Framework("openai-agents 0.24", NEWEST / "openai-agents.lock", "openai_agents_agent.py"),
    Framework("openai-agents 0.2", OLDEST / "openai-agents.lock", "openai_agents_agent.py"),
    Framework("langchain 1.5", NEWEST / "langchain.lock", "langchain_agent.py"),
    Framework("langchain 1.2", OLDEST / "langchain.lock", "langchain_agent.py"),
    Framework("google-adk 2.13", NEWEST / "adk.lock", "adk_agent.py"),
    Framework("google-adk 1.16", OLDEST / "adk.lock", "adk_agent.py"),
]
