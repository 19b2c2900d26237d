"""The npm package: what is in it, how large its core is, and that the service serves what its source says."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import release
from support.node import NODE

SOURCE = release.ROOT / "clients" / "javascript"
SERVED = release.ROOT / "service" / "restate_pubsub" / "web" / "page_client" / "restate-pubsub.js"
CORE_MAX_BYTES = 6_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the source gives: `dist`, and `served.js`."""
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run([NODE, SOURCE / "build.mjs", folder / "dist", folder / "served.js"], check=True)
    return folder


def test_the_service_serves_what_the_source_says(built: Path) -> None:
    """`make client` was run after the last change."""
    assert SERVED.read_bytes() == (built / "served.js").read_bytes()


def test_the_core_is_small() -> None:
    """With its parser, as pages get it compressed."""
    assert len(gzip.compress(SERVED.read_bytes())) < CORE_MAX_BYTES


def test_what_each_entry_exports_is_in_the_package(tmp_path: Path) -> None:
    """Code and types of each; nothing of sources, tests or other packages; the project's licence."""
    release.npm_package(tmp_path)
    with tarfile.open(tmp_path / f"restate-pubsub-npm-{release.version()}.tgz") as archive:
        names = set(archive.getnames())
        packed = archive.extractfile("package/package.json")
        assert packed is not None
        about: dict[str, Any] = json.load(packed)
    assert ("restate-pubsub", release.version()) == (about["name"], about["version"])
    entries = {"package/" + file.removeprefix("./") for entry in about["exports"].values() for file in entry.values()}
    assert entries <= names
    tops = {name.split("/")[1] for name in names}
    assert {"package.json", "README.md", "LICENSE", "dist"} == tops


def test_the_core_depends_on_a_parser_alone() -> None:
    """Everything else is what a page has already, if it wants it."""
    about = json.loads((SOURCE / "package.json").read_text())
    assert ["eventsource-parser"] == [*about["dependencies"]]
    assert {*about["peerDependencies"]} == {*about["peerDependenciesMeta"]}
