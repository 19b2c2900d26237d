"""The library beside what agents are written with: whoever adds it to an environment that works moves nothing of it.

Each environment is one of Restate's templates as its requirements stood, resolved with and without this library. No
package is installed; uv reads what each asks for.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from uv import find_uv_bin

from support.environments import run, uv
from support.harness import ROOT

PYTHON = "3.12"
ENVIRONMENTS = {
    "pydantic-ai 1.68": ["httpx", "hypercorn", "pydantic>=2.11.9", "pydantic-ai==1.68.0", "restate-sdk>=0.16.0"],
    "pydantic-ai 1.68, its oldest SDK": ["hypercorn", "pydantic-ai==1.68.0", "restate-sdk==0.16.0"],
    "openai-agents 0.6": [
        "httpx",
        "hypercorn",
        "pydantic>=2.11.9",
        "openai-agents==0.6.*",
        "restate-sdk[serde]>=0.13.1",
    ],
    "openai-agents 0.6, its oldest SDK": ["hypercorn", "openai-agents==0.6.*", "restate-sdk[serde]==0.13.1"],
    "langchain": ["httpx", "hypercorn", "langchain>=1", "langchain-openai>=0.3", "langgraph>=1", "restate-sdk"],
    "google-adk 1.20": ["hypercorn>=0.17.3", "pydantic>=2.10.6", "google-adk==1.20.*", "restate-sdk[serde]>=0.18.0"],
    "google-adk 1.26": ["hypercorn>=0.17.3", "pydantic>=2.10.6", "google-adk==1.26.*", "restate-sdk[serde]>=0.18.0"],
    "fastapi 0.115": ["fastapi==0.115.*", "uvicorn", "restate-sdk"],
    "fastapi 0.128": ["fastapi==0.128.*", "uvicorn", "restate-sdk"],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIBRARY: list[str] = PROJECT["dependencies"]
SERVICE: list[str] = PROJECT["optional-dependencies"]["server"]
NO_SOLUTION = "No solution found"


def _file(folder: Path, requirements: list[str]) -> Path:
    path = folder / "requirements.in"
    path.write_text("\n".join(requirements))
    return path


def _words(path: Path) -> list[str | Path]:
    return ["pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", PYTHON, path]


async def resolved(folder: Path, requirements: list[str]) -> dict[str, str]:
    """Return the version of each package that these requirements bring."""
    out = await uv(*_words(_file(folder, requirements)))
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==(\S+)", out, re.MULTILINE))


@pytest.mark.parametrize("name", ENVIRONMENTS)
async def test_nothing_moves_because_of_the_library(name: str, tmp_path: Path) -> None:
    """Whatever was there is there in the same version."""
    theirs = await resolved(tmp_path, ENVIRONMENTS[name])
    assert "restate-sdk" in theirs
    both = await resolved(tmp_path, [*ENVIRONMENTS[name], *LIBRARY])
    assert {} == {
        package: f"{version} becomes {both.get(package)}"
        for package, version in theirs.items()
        if both.get(package) != version
    }
    assert {"aiohttp", "msgspec"} <= set(both)


async def test_the_service_would_not_fit_everywhere(tmp_path: Path) -> None:
    """So the tests above can fail: this is why the service is an extra, with an environment of its own."""
    ran = await run(find_uv_bin(), *_words(_file(tmp_path, [*ENVIRONMENTS["fastapi 0.115"], *SERVICE])))
    assert 0 != ran.code
    assert NO_SOLUTION in ran.out
