"""Python environments of their own, made by uv, and packages from wherever uv has them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from uv import find_uv_bin

from support.harness import ROOT

PIP = (sys.executable, "-m", "pip")
QUIET = ("-q", "--disable-pip-version-check")
NO_NETWORK = re.compile(r"Failed to fetch|error sending request|[Cc]onnectivity is disabled|dns error")


class Ran(NamedTuple):
    """How a program ended, and all it printed."""

    code: int
    out: str


async def run(*words: str | Path, **env: str) -> Ran:
    """Run a program to its end, with `env` as its whole environment if any is given."""
    process = await asyncio.create_subprocess_exec(
        *words, env=env or None, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return Ran(process.returncode or 0, out.decode())


async def uv(*words: str | Path) -> str:
    """Run uv, and return what it printed; without a package index, skip the test."""
    ran = await run(find_uv_bin(), *words)
    if ran.code and NO_NETWORK.search(ran.out):
        pytest.skip(f"no package index can be reached: {ran.out.splitlines()[0]}")
    assert ran.code == 0, ran.out
    return ran.out


def wheel(folder: Path) -> Path:
    """Build this project's wheel."""
    subprocess.run([*PIP, "wheel", *QUIET, "--no-deps", "--no-build-isolation", "-w", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


async def environment(folder: Path, requirements: Sequence[str | Path], *options: str) -> Path:
    """Make an environment with these requirements, wheels only, and return its Python."""
    python = folder / "bin" / "python"
    await uv("venv", "-q", "--python", sys.executable, folder)
    await uv("pip", "install", "-q", "--python", python, "--only-binary", ":all:", *options, *requirements)
    return python
