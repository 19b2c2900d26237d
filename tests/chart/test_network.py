"""The chart's network policies let in whom they say, at the ports that they say, and nobody else."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from chart.charts import Manifest, deep_merge, pods, render
from chart.network import Pod, allows

RESTATE = Pod("restate", {"app": "restate"}, {"kubernetes.io/metadata.name": "restate"})
GATEWAY = Pod("gateway", {"app": "gateway"}, {"kubernetes.io/metadata.name": "gateway"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"})
STREAMS, INTERNAL, METRICS = 8000, 9080, 9090


def named(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


VALUES = {
    "networkPolicy": {"enabled": True, "from": {"gateway": [named("gateway")], "prometheus": [named("monitoring")]}}
}


@functools.cache
def rendered(kind: str) -> list[Manifest]:
    """Return what the chart makes, with the operator or without."""
    operator = {"restate": {"operator": {"enabled": True, "register": {"cluster": "restate"}}}}
    return render(deep_merge(VALUES, operator if kind == "operator" else {}))


def server(manifests: list[Manifest]) -> Pod:
    """Return a pod that serves."""
    (pod,) = [pod for kind, pod in pods(manifests) if kind in ("Deployment", "RestateDeployment")]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    return Pod(namespace(manifests), pod["metadata"]["labels"], {}, ports)


def namespace(manifests: list[Manifest]) -> str:
    return str(next(each["metadata"]["namespace"] for each in manifests if each["kind"] == "NetworkPolicy"))


def policies(manifests: list[Manifest]) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == "NetworkPolicy"]


def reached(manifests: list[Manifest], caller: Pod) -> set[int]:
    """Return the ports of a pod that serves at which a caller is let in."""
    called = server(manifests)
    return {port for port in (STREAMS, INTERNAL, METRICS, 22) if allows(policies(manifests), caller, called, port)}


@pytest.mark.parametrize("kind", ["deployment", "operator"])
def test_each_reaches_what_it_needs_and_no_more(kind: str) -> None:
    """Restate the object, the gateway the streams, Prometheus the metrics, and pods one another."""
    manifests = rendered(kind)
    here = namespace(manifests)
    tester = next(pod for made, pod in pods(manifests) if made == "Pod")
    assert reached(manifests, RESTATE) == {INTERNAL}
    assert reached(manifests, GATEWAY) == {STREAMS}
    assert reached(manifests, PROMETHEUS) == {METRICS}
    assert reached(manifests, server(manifests)) == {INTERNAL}
    assert reached(manifests, Pod(here, tester["metadata"]["labels"])) == {STREAMS}


@pytest.mark.parametrize("kind", ["deployment", "operator"])
def test_nobody_else_is_let_in(kind: str) -> None:
    """Neighbours in the namespace, other releases, and pods elsewhere that carry our labels."""
    manifests = rendered(kind)
    ours = server(manifests)
    other_release = {**ours.labels, "app.kubernetes.io/instance": "another"}
    for stranger in (
        Pod(ours.namespace, {"app": "neighbour"}),
        Pod(ours.namespace, other_release),
        Pod("elsewhere", ours.labels, {"kubernetes.io/metadata.name": "elsewhere"}),
        Pod("elsewhere", RESTATE.labels, {"kubernetes.io/metadata.name": "elsewhere"}),
    ):
        assert reached(manifests, stranger) == set(), stranger


def test_pods_of_another_release_are_not_shut_in() -> None:
    """The policy selects the pods of its own release alone."""
    manifests = rendered("deployment")
    ours = server(manifests)
    another = Pod(ours.namespace, {**ours.labels, "app.kubernetes.io/instance": "another"}, {}, ours.ports)
    assert allows(policies(manifests), Pod("elsewhere"), another, INTERNAL)


def test_without_peers_pods_do_not_reach_one_another() -> None:
    """Nobody needs it then."""
    manifests = render(deep_merge(VALUES, {"peers": {"enabled": False}}))
    assert reached(manifests, server(manifests)) == set()


BOTH = {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"c": "d"}}}
ONE_OF = {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}
WITHOUT = {"podSelector": {"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}}
BLOCK = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}


@pytest.mark.parametrize(
    ("peer", "caller", "let_in"),
    [
        ({"podSelector": {}}, Pod("here"), True),
        ({"podSelector": {}}, Pod("elsewhere"), False),
        ({"namespaceSelector": {}}, Pod("elsewhere"), True),
        (BOTH, Pod("x", {"c": "d"}, {"a": "b"}), True),
        (BOTH, Pod("x", {}, {"a": "b"}), False),
        (ONE_OF, Pod("here", {"a": "b"}), True),
        (ONE_OF, Pod("here", {"a": "c"}), False),
        (WITHOUT, Pod("here", {"a": "b"}), False),
        (BLOCK, Pod("x", address="10.2.0.1"), True),
        (BLOCK, Pod("x", address="10.1.0.1"), False),
    ],
)
def test_policies_are_read_as_a_cluster_reads_them(peer: dict[str, Any], caller: Pod, *, let_in: bool) -> None:
    """What the answers above rest on."""
    policy = {
        "metadata": {"namespace": "here"},
        "spec": {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{"from": [peer], "ports": [{"port": 1}]}]},
    }
    called = Pod("here", {"app": "x"})
    assert allows([policy], caller, called, 1) == let_in
    assert not allows([policy], caller, called, 2)
    assert allows([policy], caller, Pod("here", {"app": "y"}), 2)
