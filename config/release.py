"""Make what users install: `make release` writes it into dist/, the same bytes each time from the same commit.

Wheel and sdist of the library (the service is its extra `server`), the npm package for pages, the chart (signed where
CHART_SIGNER names a key of GnuPG), what is in them (CycloneDX), the notes of this version out of CHANGELOG.md, and
SHA256SUMS of all of them. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import helm_python
import yaml

import provenance
import sbom

ROOT = Path(__file__).parent.parent
CHART = ROOT / "helm" / "restate-pubsub"
SUMS = "SHA256SUMS"


def version() -> str:
    """Return this project's version, which pyproject.toml says."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def notes(changelog: str, of: str) -> str:
    """Return what the changelog says of a version, or of what is not released yet.

    Raises:
        ValueError: it says nothing of either.

    """
    sections = dict(re.findall(r"^## \[?(\S+?)\]?(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL))
    for heading in (of, "Unreleased"):
        if heading in sections:
            return str(sections[heading]).strip() + "\n"
    msg = f"CHANGELOG.md has neither '## {of}' nor '## Unreleased': write down what changed"
    raise ValueError(msg)


def changes(said: str) -> list[dict[str, str]]:
    """Return each point of a version's notes as Artifact Hub shows them: its kind, and its text without marks."""
    found = []
    for kind, points in re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", said, re.MULTILINE | re.DOTALL):
        for point in re.split(r"^- ", points, flags=re.MULTILINE)[1:]:
            text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(point.split()))
            found.append({"kind": kind.lower(), "description": re.sub(r"\*\*|`", "", text)})
    return found


def committed() -> int:
    """Return when the last commit was made, in seconds; SOURCE_DATE_EPOCH wins, where there is no repository."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    words = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - our own words


def packages(dist: Path, epoch: int) -> None:
    """Build the sdist, and the wheel."""
    # hatchling writes one time into the archives: this variable's.
    env = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    words = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(dist)]
    subprocess.run(words, check=True, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def chart(dist: Path, epoch: int) -> None:
    """Package the chart. Helm writes the files' own times and modes, so they are made the same."""
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(CHART, Path(folder) / CHART.name)
        described = yaml.safe_load((copy / "Chart.yaml").read_text())
        told = changes(notes((ROOT / "CHANGELOG.md").read_text(), version()))
        described["annotations"]["artifacthub.io/changes"] = yaml.safe_dump(told, sort_keys=False)
        (copy / "Chart.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        for path in copy.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (epoch, epoch))
        provenance.sign(Path(helm_python.package(copy, destination=dist)), epoch)


def npm_package(dist: Path) -> None:
    """Build and pack `clients/javascript`; npm writes one time and one mode into the archive."""
    source = ROOT / "clients" / "javascript"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        build = ["node", str(source / "build.mjs"), str(package / "dist"), str(package / "served.js")]
        subprocess.run(build, check=True)  # noqa: S603 - our own words
        for name in ("package.json", "README.md"):
            shutil.copyfile(source / name, package / name)
        shutil.copyfile(ROOT / "LICENSE", package / "LICENSE")
        pack = ["npm", "pack", "--silent", "--ignore-scripts", "--offline", "--pack-destination", str(dist)]
        subprocess.run(pack, check=True, cwd=package, stdout=subprocess.DEVNULL)  # noqa: S603
    # The chart has this name already.
    (dist / f"restate-pubsub-{version()}.tgz").rename(dist / f"restate-pubsub-npm-{version()}.tgz")


def contents(dist: Path, epoch: int) -> None:
    """Write down what the service and the npm package bring along."""
    of, client = version(), ROOT / "clients" / "javascript"
    (dist / f"restate-pubsub-{of}.cdx.json").write_text(sbom.service(ROOT / "requirements.lock", of, epoch))
    (dist / f"restate-pubsub-npm-{of}.cdx.json").write_text(sbom.npm_package(client, of, epoch))


def sums(dist: Path) -> str:
    """Return the line that `sha256sum --check` reads for each file."""
    files = sorted(path for path in dist.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def release(dist: Path) -> None:
    """Write all of it into an empty folder."""
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    epoch = committed()
    packages(dist, epoch)
    npm_package(dist)
    chart(dist, epoch)
    contents(dist, epoch)
    (dist / "NOTES.md").write_text(notes((ROOT / "CHANGELOG.md").read_text(), version()))
    (dist / SUMS).write_text(sums(dist))


if __name__ == "__main__":
    target = ROOT / "dist"
    release(target)
    sys.stdout.write((target / SUMS).read_text())
