"""What `make` makes for people, and what it would start: the examples are tested as they are run."""

from __future__ import annotations

import re
import shlex

import pytest

from support.environments import run

NO_NETWORK = re.compile("error sending request|dns error|Failed to fetch")


async def made(target: str) -> None:
    """Make a target; skip the test where no package index can be reached."""
    ran = await run("make", target)
    if ran.code and NO_NETWORK.search(ran.out):
        pytest.skip(f"no package index can be reached: {ran.out}")
    assert 0 == ran.code, ran.out


async def demo_options(*words: str) -> list[str]:
    """Return the options of `demo.py` with which `make` would start it."""
    asked = await run("make", "-n", *words)
    words_of = shlex.split(next(line for line in asked.out.splitlines() if "demo.py" in line))
    return words_of[words_of.index("examples/chat/demo.py") + 1 :]
