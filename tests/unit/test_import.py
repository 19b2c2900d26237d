"""What `import restate_pubsub` costs whoever has Restate's SDK and aiohttp loaded already."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import restate_pubsub

ROOT = Path(__file__).parents[2]
MOST = 0.2
"""Of the CPU time that `import aiohttp, restate` takes: about twice what it is, and the same on a slow machine."""

MEASURE = """
import json, sys, time
began = time.process_time()
import aiohttp, restate
before, loaded = set(sys.modules), time.process_time()
from restate_pubsub import TokenStream, create_pubsub_client, create_pubsub_publisher
print(json.dumps([(time.process_time() - loaded) / (loaded - began), sorted(set(sys.modules) - before)]))
"""
PACKAGES = {"pyjwt": "jwt"}
"""Where the name of a package is not that of its module."""


def _imported() -> tuple[float, set[str]]:
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True)
    spent, modules = json.loads(done.stdout)
    return spent, {module.partition(".")[0] for module in modules}


def test_it_takes_little_cpu() -> None:
    """Beside `import restate` and `import aiohttp`, in the same process; the least of five, as others run meanwhile."""
    assert min(_imported()[0] for _ in range(5)) < MOST


def test_it_loads_no_package_of_the_server() -> None:
    """Nor does it load the object before somebody asks for it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    of = {
        part: {re.split(r"[^\w-]", line)[0] for line in lines}
        for part, lines in (
            ("library", project["dependencies"]),
            ("server", [line for part in ("server", "otel") for line in project["optional-dependencies"][part]]),
        )
    }
    server = {PACKAGES.get(name, name.replace("-", "_")) for name in of["server"] - of["library"]}
    assert {"hypercorn", "starlette", "jwt"} <= server
    loaded = _imported()[1]
    assert "restate_pubsub" in loaded
    assert set() == server & loaded


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [
        ("create_pubsub_client", "restate_pubsub.topic.virtual_object"),
        ("create_pubsub_publisher", "restate_pubsub.ingress"),
        ("PubsubError", "restate_pubsub.client"),
    ],
)
def test_what_nobody_asked_for_is_not_loaded(name: str, unneeded: str) -> None:
    """So that a client needs no SDK as new as the object's, and what is pure needs neither SDK nor HTTP."""
    code = f"import sys; from restate_pubsub import {name}; print({unneeded!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "False\n" == done.stdout


def test_all_that_is_public_can_be_had() -> None:
    """Whatever `__all__` names, and nothing else."""
    assert [] == [name for name in restate_pubsub.__all__ if getattr(restate_pubsub, name, None) is None]
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from restate_pubsub import nothing  # type: ignore[attr-defined] # noqa: F401, PLC0415
