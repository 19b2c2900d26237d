"""The chart of a release: what Artifact Hub reads from it, and the signature that Helm checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import release
from kubernetes import programs

SIGNER = "releases@example.com"
BEFORE_ALL_COMMITS = "20200101T000000"
CATEGORIES = {
    "ai-machine-learning",
    "database",
    "integration-delivery",
    "monitoring-logging",
    "networking",
    "security",
    "skip-prediction",
    "storage",
    "streaming-messaging",
}
KINDS = {"added", "changed", "deprecated", "removed", "fixed", "security"}


@pytest.fixture(scope="module")
def keyring() -> Iterator[dict[str, str]]:
    """Return the environment of one who releases, with a key of GnuPG's in a folder of its own."""
    if shutil.which("gpg") is None:
        pytest.skip("GnuPG, which signs, is not here")
    home = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"restate-pubsub-gpg-{os.getpid()}"  # noqa: S108 - sockets need short paths
    home.mkdir(mode=0o700)
    environ = os.environ | {"GNUPGHOME": str(home), "CHART_SIGNER": SIGNER}

    def gpg(*words: str) -> bytes:
        return subprocess.run(["gpg", "--batch", *words], env=environ, check=True, capture_output=True).stdout

    made = ["--passphrase=", "--quick-generate-key", SIGNER, "rsa3072", "sign", "never"]
    gpg(f"--faked-system-time={BEFORE_ALL_COMMITS}", *made)
    (home / "public.gpg").write_bytes(gpg("--export", SIGNER))
    yield environ
    subprocess.run(["gpgconf", "--kill", "all"], env=environ, check=True)
    shutil.rmtree(home, ignore_errors=True)  # the agent was told to end, and takes its sockets away at the same time


def signed(folder: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a packaged chart with its signature beside it."""
    for name in ("GNUPGHOME", "CHART_SIGNER"):
        monkeypatch.setenv(name, environ[name])
    folder.mkdir()
    release.chart(folder, release.committed())
    return folder / f"restate-pubsub-{release.version()}.tgz"


@pytest.fixture
def packaged(tmp_path: Path) -> dict[str, Any]:
    """Return the Chart.yaml of a release."""
    release.chart(tmp_path, release.committed())
    with tarfile.open(tmp_path / f"restate-pubsub-{release.version()}.tgz") as files:
        described = files.extractfile("restate-pubsub/Chart.yaml")
        assert described is not None
        return dict(yaml.safe_load(described.read()))


def test_artifact_hub_can_read_the_chart(packaged: dict[str, Any]) -> None:
    """Its annotations are texts with the words and the forms that it knows."""
    told = {name.removeprefix("artifacthub.io/"): text for name, text in packaged["annotations"].items()}
    assert set(told) == {"category", "changes", "license", "operator"}
    assert all(isinstance(text, str) for text in told.values())
    assert told["category"] in CATEGORIES
    assert told["license"] == "Apache-2.0"
    assert told["operator"] in ("true", "false")
    changes = yaml.safe_load(told["changes"])
    assert changes
    for change in changes:
        assert set(change) == {"kind", "description"}
        assert change["kind"] in KINDS
        assert change["description"]


def test_a_release_without_a_key_is_not_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is then the chart alone."""
    monkeypatch.delenv("CHART_SIGNER", raising=False)
    release.chart(tmp_path, release.committed())
    assert [path.name for path in tmp_path.iterdir()] == [f"restate-pubsub-{release.version()}.tgz"]


def test_the_same_key_signs_the_same_bytes(
    tmp_path: Path, keyring: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And GnuPG finds that the signature is good."""
    first, second = (Path(f"{signed(tmp_path / name, keyring, monkeypatch)}.prov") for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    subprocess.run(["gpg", "--batch", "--verify", first], env=keyring, check=True, capture_output=True)


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_verifies_the_chart_and_refuses_another(
    tmp_path: Path, keyring: dict[str, str], monkeypatch: pytest.MonkeyPatch, helm: str
) -> None:
    """As `helm install --verify` does."""
    if helm in programs.missing():
        pytest.skip(f"`make test-kubernetes` builds {helm}")
    archive = signed(tmp_path / "dist", keyring, monkeypatch)
    public = f"{keyring['GNUPGHOME']}/public.gpg"
    words = [str(programs.folder() / helm), "verify", "--keyring", public, str(archive)]
    good = subprocess.run(words, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert SIGNER in good.stdout + good.stderr
    with archive.open("ab") as file:
        file.write(b"\0")
    bad = subprocess.run(words, capture_output=True, text=True, check=False)
    assert bad.returncode != 0
    assert "does not match" in bad.stderr
