"""What `make release` makes: complete, the same each time, and of one version."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import release

NOW = 1_790_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release."""
    dist = tmp_path_factory.mktemp("release") / "dist"
    release.release(dist)
    return dist


def test_it_has_what_users_install(made: Path) -> None:
    """Each file carries the version, but for what is about all of them."""
    of = release.version()
    assert {path.name for path in made.iterdir()} == {
        f"restate_pubsub-{of}-py3-none-any.whl",
        f"restate_pubsub-{of}.tar.gz",
        f"restate-pubsub-{of}.tgz",
        f"restate-pubsub-npm-{of}.tgz",
        f"restate-pubsub-{of}.cdx.json",
        f"restate-pubsub-npm-{of}.cdx.json",
        "NOTES.md",
        "SHA256SUMS",
    }
    for line in (made / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("page", ["README.md", "helm/restate-pubsub/README.md"])
def test_the_documents_name_this_version(page: str) -> None:
    """The image that they build is the one that the chart installs without being told."""
    named = re.findall(r"/restate-pubsub:(\d[\w.-]*)", (release.ROOT / page).read_text())
    assert {release.version()} == set(named)


def test_the_same_commit_gives_the_same_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another copy of the tree, made at another time with other rights."""
    copy = tmp_path / "copy"
    ignore = shutil.ignore_patterns(".venv", "node_modules", ".git", "dist", ".*_cache", "__pycache__", ".restate")
    shutil.copytree(release.ROOT, copy, ignore=ignore, copy_function=shutil.copyfile)
    installed = "clients/javascript/node_modules"
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (NOW, NOW))
    (copy / installed).symlink_to(release.ROOT / installed)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(release.committed()))
    monkeypatch.setattr(release, "ROOT", copy)
    monkeypatch.setattr(release, "CHART", copy / "helm" / "restate-pubsub")
    release.release(tmp_path / "again")
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (made / "SHA256SUMS").read_text()


def test_the_packages_have_the_library_and_nothing_of_the_tests(made: Path) -> None:
    """The console's page, the module for pages, the mark of types, and the licence are in."""
    (wheel,) = made.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    wanted = {
        "restate_pubsub/py.typed",
        "restate_pubsub/web/console/static/console.html",
        "restate_pubsub/web/page_client/restate-pubsub.js",
    }
    assert wanted <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"restate_pubsub"}
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert top <= {"service", "README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}


@pytest.mark.parametrize(
    ("changelog", "notes"),
    [
        ("# C\n\n## Unreleased\n\nNew.\n\n## 0.1.0\n\nOld.\n", "New.\n"),
        ("# C\n\n## 0.2.0 - 2026-01-01\n\nNew.\n\n## 0.1.0\n\nOld.\n", "New.\n"),
        ("# C\n\n## [0.2.0]\n\nNew.\n", "New.\n"),
    ],
)
def test_the_notes_are_those_of_the_version(changelog: str, notes: str) -> None:
    """Or, before it is named, of what is not released yet."""
    assert notes == release.notes(changelog, "0.2.0")


def test_a_version_without_notes_is_not_released() -> None:
    """The error says what is missing."""
    with pytest.raises(ValueError, match=r"neither '## 0\.2\.0' nor '## Unreleased'"):
        release.notes("# C\n\n## 0.1.0\n\nOld.\n", "0.2.0")


@pytest.mark.parametrize(
    ("part", "brings", "not_brings"), [("", "hypercorn", "pytest"), ("npm-", "eventsource-parser", "esbuild")]
)
def test_what_a_release_brings_along_is_written_down(made: Path, part: str, brings: str, not_brings: str) -> None:
    """By CycloneDX's schema, with a version and a licence of each package; what only builds and tests is not there."""
    text = (made / f"restate-pubsub-{part}{release.version()}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {one["name"]: one for one in json.loads(text)["components"]}
    assert brings in components
    assert not_brings not in components
    assert [] == [name for name, one in components.items() if not (one.get("version") and one.get("licenses"))]


def test_what_the_service_brings_along_is_what_is_locked(made: Path) -> None:
    """The image installs these, and no others."""
    text = (made / f"restate-pubsub-{release.version()}.cdx.json").read_text()
    found = {f"{one['name']}=={one['version']}" for one in json.loads(text)["components"]}
    locked = re.findall(
        r"^([^\s;]+==[^\s;]+)(?: ;.*)? \\$", (release.ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    everywhere = re.findall(r"^([^\s;]+==[^\s;]+) \\$", (release.ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert set(everywhere) <= found <= set(locked)
