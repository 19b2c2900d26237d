"""Programs that tests drive and that neither Python's nor Node's packages bring."""

from __future__ import annotations

import os
import shutil

import pytest

PATH = os.environ.get("PATH", "") + ":/usr/sbin"
"""Debian's servers are not on everybody's PATH."""


def program(*names: str) -> str:
    """Return the path of the first of these that is there; skip the test where there is none."""
    for name in names:
        if found := shutil.which(name, path=PATH):
            return found
    pytest.skip(f"{names[0]} is missing: `make debian-packages` installs it")
