"""The library alone, in environments of its own: with the lowest versions that it allows, and with the newest."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

from support.environments import Ran, environment, run, uv, wheel
from support.harness import ROOT, Service, free_port

DEPENDENCIES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
TOOLS = ("hypercorn", "pytest", "pytest-asyncio", "pytest-timeout", "hypothesis")
LOWEST = ("--resolution", "lowest-direct")
PURE_TESTS = ("protocol", "client", "test_errors.py")


class Library(NamedTuple):
    """An environment with the library: its name, its Python, and the versions in it."""

    name: str
    python: Path
    versions: dict[str, str]

    @property
    def has_object(self) -> bool:
        """Whether its SDK is new enough for the object."""
        return self.name != "lowest"


@pytest.fixture(
    scope="module",
    params=[
        "lowest",
        "lowest for the object",
        pytest.param(
            "newest",
            # What is newest changes from day to day: a new release must not break whatever is being tested that day.
            marks=pytest.mark.skipif(os.environ.get("BOUNDS") != "all", reason="`make test-bounds` runs it"),
        ),
    ],
)
async def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return an environment with the library."""
    folder = tmp_path_factory.mktemp("library")
    built = wheel(folder / "wheel")
    tools = [f"{name}=={version(name)}" for name in TOOLS]
    # What uv is asked for directly is resolved to the lowest, not what a wheel asks for.
    asked = [*DEPENDENCIES, "restate-sdk>=1.3"] if request.param == "lowest for the object" else DEPENDENCIES
    python = await environment(folder / "venv", [*asked, *tools, built], *(() if request.param == "newest" else LOWEST))
    frozen = await uv("pip", "freeze", "--python", python)
    return Library(request.param, python, dict(re.findall(r"^(\S+)==(\S+)$", frozen, re.MULTILINE)))


async def _in(library: Library, *words: str | Path, **env: str) -> Ran:
    return await run(library.python, *words, PATH=os.environ["PATH"], HOME=os.environ.get("HOME", "/"), **env)


def test_the_lowest_versions_are_those_of_the_bounds(library: Library) -> None:
    """Otherwise the other tests here would prove nothing."""
    if library.name == "lowest":
        for dependency in DEPENDENCIES:
            name, lowest = re.findall(r"^([\w-]+)>=([\d.]+)", dependency)[0]
            assert re.fullmatch(rf"{re.escape(lowest)}(\.0)*", library.versions[name]), dependency
    assert set() == {"starlette", "pydantic", "click", "structlog"} & set(library.versions)


async def test_it_publishes_streams_and_reads(library: Library, service: Service) -> None:
    """From outside and from a handler, against a real Restate, and where the SDK allows with an object of its own."""
    ran = await _in(
        library,
        ROOT / "tests" / "integration" / "library_at_work.py",
        service.env["RESTATE_INGRESS_URL"],
        service.env["RESTATE_ADMIN_URL"],
        str(free_port()),
        *(["object"] if library.has_object else []),
    )
    assert "works" == ran.out.splitlines()[-1], ran.out


async def test_its_unit_tests_pass(library: Library) -> None:
    """Those of what the library is made of."""
    tests = [ROOT / "tests" / "unit" / name for name in PURE_TESTS]
    ran = await _in(library, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, PYTHONPATH=str(ROOT / "tests"))
    assert 0 == ran.code, ran.out


async def test_an_sdk_too_old_for_the_object_is_a_sentence(library: Library) -> None:
    """It names both versions and what to install; the rest of the library is there."""
    ran = await _in(library, "-c", "from restate_pubsub import create_pubsub_object")
    if library.has_object:
        assert Ran(0, "") == ran
        return
    said = ran.out.splitlines()[-1]
    assert f"needs restate-sdk 1.3 or newer, and {library.versions['restate-sdk']} is installed" in said
    assert "pip install 'restate-sdk>=1.3'" in said


@pytest.mark.parametrize("words", [("serve",), ("--help",), ("tail", "t")])
async def test_without_the_service_the_command_says_what_installs_it(library: Library, words: tuple[str, ...]) -> None:
    """In one line, with exit code 1."""
    ran = await run(library.python.parent / "restate-pubsub", *words)
    assert 1 == ran.code
    assert 1 == len(ran.out.splitlines()), ran.out
    assert "pip install 'restate-pubsub[server]'" in ran.out
    assert "starlette" in ran.out
