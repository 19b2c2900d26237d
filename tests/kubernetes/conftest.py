"""One control plane with one node for all tests; a namespace for each."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kubernetes import programs
from kubernetes.control_plane import CHART, ControlPlane
from kubernetes.node import Node


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start a control plane; skip where its programs are not built."""
    if lacking := programs.missing(programs.CONTROL_PLANE) + programs.undefined():
        pytest.skip(f"`make test-kubernetes` builds {', '.join(lacking)}")
    found = ControlPlane(tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
        found.define(programs.definition(kind) for kind in programs.DEFINITIONS)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def running_node(cluster: ControlPlane) -> Iterator[Node]:
    """Let a node join."""
    found = Node(cluster)
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def node(running_node: Node) -> Iterator[Node]:
    """Return the node, on which nothing fails."""
    running_node.failing.clear()
    yield running_node
    running_node.failing.clear()


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> str:
    """Both versions of Helm that are in use."""
    return str(request.param)


@pytest.fixture
def namespace(cluster: ControlPlane, request: pytest.FixtureRequest) -> Iterator[str]:
    """Make a namespace that enforces the `restricted` standard."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-40:].strip("-")
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield name
    cluster.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def chart() -> str:
    """Return the chart's folder, as a word of a command."""
    return str(CHART)
