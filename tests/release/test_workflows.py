"""What runs where the project is hosted: it is checked here, and does what the Makefile does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import release

FOLDER = release.ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_nothing_in_them_is_unsafe() -> None:
    """By zizmor, at its strictest: pinned actions, least rights, no text of strangers in a command."""
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--quiet", "--pedantic", FOLDER], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("go") is None, reason="actionlint is built by Go, which is not here")
def test_actionlint_has_no_objection() -> None:
    """Syntax, expressions, names of runners and the shell in `run`."""
    done = subprocess.run(
        ["go", "run", ACTIONLINT, *map(str, WORKFLOWS)],
        cwd=release.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_they_run_the_targets_that_everybody_runs(workflow: Path) -> None:
    """Each `make` in them is a target, and each script is there."""
    targets = set(re.findall(r"^([a-z-]+):", (release.ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = "\n".join(step.get("run", "") for step in steps(workflow))
    used = set(re.findall(r"\bmake ([a-z-]+)", commands))
    assert used <= targets
    scripts = re.findall(r"^(\.[\w/]+)", commands, re.MULTILINE)
    assert used or scripts
    assert [] == [script for script in scripts if not (release.ROOT / script).exists()]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_each_job_ends_by_itself(workflow: Path) -> None:
    """It has a limit of time, and rights of its own: the workflow gives none."""
    found = yaml.safe_load(workflow.read_text())
    assert {} == found["permissions"]
    for job in found["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert job["permissions"]
