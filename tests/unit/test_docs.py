"""What is written is what is so."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from restate_pubsub.telemetry.metrics import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FOLDERS = ("config/*.md", "helm/*/*.md", "examples/*/*.md", "clients/*/*.md")
ALL_PAGES = sorted([*PAGES, *(page for folder in FOLDERS for page in ROOT.glob(folder))])


def test_every_metric_is_documented() -> None:
    """`docs/metrics.md` holds what `restate-pubsub metrics` prints."""
    assert reference() in (ROOT / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_documentation_parses(page: Path) -> None:
    """So that it can be pasted."""
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        compile(code, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Files of this repository that a page names are there."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_to_one(page: Path) -> None:
    """An anchor is the heading's words, as the forges write it."""
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text()):
        target = page.parent / link if link else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{link}#{anchor}"


def test_the_readme_s_figures_are_those_of_the_last_full_run() -> None:
    """As `make bench` wrote them."""
    found = json.loads((ROOT / "docs" / "benchmarks" / "results.json").read_text())["results"]
    median = {(row["measure"], row["contender"], row["at"], row["metric"]): row["median"] for row in found}

    def shown(measure: str, contender: str, at: int, metric: str = "p50") -> str:
        value = median[measure, contender, str(at), metric]
        return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"

    text = (ROOT / "README.md").read_text()
    for name, measure, at in (
        ("20 messages/s, 1 reader", "latency-readers", 1),
        ("20 messages/s, 300 readers", "latency-readers", 300),
        ("20 answers at once, 50 tokens/s each", "tokens", 20),
    ):
        ours, theirs = shown(measure, "restate-pubsub", at), shown(measure, "reference, pullInterval 0", at)
        assert f"{name} | {ours} | {theirs} |" in text
    assert f"40 such answers at once keep a p95 of {shown('tokens', 'restate-pubsub', 40, 'p95')}." in text


def test_every_folder_is_in_the_architecture() -> None:
    """The table of folders is complete, and names none that is not there."""
    package = ROOT / "service" / "restate_pubsub"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = "".join(re.findall(r"^\|.*$", text[: text.index("## Words")], re.MULTILINE))
    named = set(re.findall(r"`([\w./]+)`", table))
    assert set() == (folders | modules) - named
    assert [] == [name for name in named if name.endswith(("/", ".py")) and not list(package.rglob(name.rstrip("/")))]


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_markdown_is_wrapped(page: Path) -> None:
    """Prose has at most 120 characters a line; tables, code and addresses are as long as they must be."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL).splitlines()
    assert [line for line in prose if len(line) > 120 and not line.startswith(("|", "!["))] == []


def test_the_parts_of_make_test_are_all_tests() -> None:
    """A folder that no part names would not run, and one that two name runs twice."""
    makefile = (ROOT / "Makefile").read_text()
    parts = re.findall(r"^(?:FIRST|SECOND|THIRD)_PART := \$\(addprefix tests/,([\w ]+)\)", makefile, re.MULTILINE)
    folders = [f"tests/{name}" for part in parts for name in part.split()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert sorted(folders) == sorted(project["tool"]["pytest"]["ini_options"]["testpaths"])
