"""The npm package as it is released, installed beside the packages that pages use, and pages bundled with them."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import release
from restate_pubsub.client.pubsub_client import PubsubClient, create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.chromium import browser, page
from support.harness import Service, topic_name
from support.node import NODE
from support.one_restate import restate

__all__ = ["browser", "page", "restate"]

FOLDER = Path(__file__).parent
INSTALLED = release.ROOT / "clients" / "javascript" / "node_modules"

Bundle = Callable[[str], Path]
"""Bundles a page of `pages/`, and returns a folder with its `page.js`."""


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a `node_modules` with the released package."""
    folder = tmp_path_factory.mktemp("page")
    release.npm_package(folder)
    modules = folder / "node_modules"
    modules.mkdir()
    for package in INSTALLED.iterdir():
        (modules / package.name).symlink_to(package)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (folder / "package").rename(modules / "restate-pubsub")
    return modules


@pytest.fixture(scope="session")
def bundle(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return what bundles a page."""

    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp("bundle")
        subprocess.run([NODE, FOLDER / "bundle.mjs", modules, FOLDER / "pages" / name, folder / "page.js"], check=True)
        return folder

    return made


@pytest.fixture(scope="session")
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service to which readers come back quickly, and which takes what pages send."""
    env = {"PUBSUB_PUBLISH_ENABLED": "true"}
    service = await Service(restate, PUBSUB_HEARTBEAT="500ms", PUBSUB_RETRY="100ms", env=env).start()
    yield service
    await service.stop()


@pytest.fixture
async def client(restate: RestateServer) -> AsyncIterator[PubsubClient]:
    """Return a client that writes token streams."""
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


@pytest.fixture
def topic() -> str:
    """Return a fresh topic."""
    return topic_name("javascript")
