"""The configurations of docs/proxies.md, as they stand there."""

from __future__ import annotations

import re

from support.harness import ROOT

PAGE = (ROOT / "docs" / "proxies.md").read_text()


def section(heading: str) -> str:
    """Return a section's text, without its heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/proxies.md has no section {heading}"
    return found[1]


def blocks(heading: str, language: str) -> list[str]:
    """Return a section's blocks of code in one language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", section(heading), re.MULTILINE | re.DOTALL)
    assert found, f"the section {heading} of docs/proxies.md has no {language}"
    return found


def put(text: str, *changes: tuple[str, str]) -> str:
    """Return `text` with each first word replaced by the second; every one must be there."""
    for old, new in changes:
        assert old in text, f"{old!r} is not in\n{text}"
        text = text.replace(old, new)
    return text
