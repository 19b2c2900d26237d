"""The chart's life on a real control plane, with both versions of Helm: every object is admitted, and none is left."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from chart.charts import CI, ci_values
from chart.custom_resources import SCHEMAS
from kubernetes import programs
from kubernetes.control_plane import ControlPlane, Object, wait
from kubernetes.node import Node

KINDS = (
    "/api/v1/namespaces/{}/services",
    "/api/v1/namespaces/{}/configmaps",
    "/api/v1/namespaces/{}/secrets",
    "/api/v1/namespaces/{}/pods",
    "/api/v1/namespaces/{}/serviceaccounts",
    "/apis/apps/v1/namespaces/{}/deployments",
    "/apis/batch/v1/namespaces/{}/jobs",
    "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
)
NAME = "live-restate-pubsub"


def there(cluster: ControlPlane, namespace: str) -> set[str]:
    """Return what there is in a namespace, but for what Kubernetes itself puts there."""
    found = set()
    for kind in KINDS:
        for one in cluster.items(kind.format(namespace)):
            name = one["metadata"]["name"]
            if name not in ("default", "kube-root-ca.crt") and "deletionTimestamp" not in one["metadata"]:
                found.add(f"{kind.rpartition('/')[2]}/{name}")
    return found


def deployment(cluster: ControlPlane, namespace: str, name: str = NAME) -> Object:
    """Return the release's Deployment."""
    found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    assert found is not None
    return found


@pytest.fixture
def install(cluster: ControlPlane, node: Node, helm: str, namespace: str, chart: str) -> Any:
    """Return what installs, upgrades and so on in the test's namespace."""
    assert node is not None

    def command(*words: str, values: Object | None = None, release: str = "live", succeeds: bool = True) -> str:
        verb, *options = words
        named = [release] if verb in ("uninstall", "rollback", "test") else [release, chart]
        if verb == "rollback":
            named.append(options.pop(0))
        given = [] if values is None else ["--values", "-"]
        waits = ["--timeout", "60s"] + (["--wait"] if verb in ("install", "upgrade", "rollback") else [])
        ran = cluster.run(
            helm, verb, *named, "--namespace", namespace, *waits, *options, *given, given=json.dumps(values or {})
        )
        assert (ran.returncode == 0) is succeeds, ran.stdout + ran.stderr
        assert "Warning" not in ran.stderr, ran.stderr
        assert "would violate PodSecurity" not in ran.stderr
        return ran.stdout + ran.stderr

    return command


def test_install_upgrade_rollback_test_uninstall(cluster: ControlPlane, namespace: str, install: Any) -> None:
    """In a namespace that enforces `restricted`; what is left at the end is the registration's log."""
    said = install("install")
    assert "restate-pubsub doctor" in said
    assert deployment(cluster, namespace)["status"]["readyReplicas"] == 2
    install("upgrade", "--set", "replicaCount=3", "--set", "settings.PUBSUB_LOG_LEVEL=debug")
    assert deployment(cluster, namespace)["status"]["readyReplicas"] == 3
    settings = f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"
    assert (cluster.get(settings) or {})["data"]["PUBSUB_LOG_LEVEL"] == "debug"
    install("rollback", "1")
    wait(lambda: deployment(cluster, namespace)["status"].get("readyReplicas") == 2, "two replicas")
    assert "PUBSUB_LOG_LEVEL" not in (cluster.get(settings) or {})["data"]
    install("test")
    install("uninstall")
    job = f"jobs/{NAME}-register"
    wait(lambda: {each for each in there(cluster, namespace) if not each.startswith("pods/")} <= {job}, "nothing left")
    install("install")


def test_a_secret_that_is_taken_out_of_the_values_leaves_the_cluster(
    cluster: ControlPlane, namespace: str, install: Any
) -> None:
    """And one that is changed is changed."""
    install("install", values={"secrets": {"RESTATE_AUTH_TOKEN": "one", "PUBSUB_JWT_KEY": "k" * 32}})
    install("upgrade", values={"secrets": {"RESTATE_AUTH_TOKEN": "two"}})
    secret = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{NAME}")
    assert secret is not None
    assert secret["data"] == {"RESTATE_AUTH_TOKEN": base64.b64encode(b"two").decode()}


def test_a_registration_that_failed_is_run_anew_by_the_next_upgrade(
    cluster: ControlPlane, namespace: str, node: Node, install: Any
) -> None:
    """Restate was away at the first install."""
    node.failing.add("registration")
    said = install("install", succeeds=False)
    assert "register" in said
    node.failing.clear()
    install("upgrade")
    job = cluster.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{NAME}-register")
    assert job is not None
    assert job["status"]["succeeded"] == 1


def test_an_install_that_fails_as_a_whole_leaves_nothing(
    cluster: ControlPlane, namespace: str, node: Node, helm: str, install: Any
) -> None:
    """Its pods never get ready."""
    node.failing.add("server")
    install("install", "--atomic" if helm == "helm3" else "--rollback-on-failure", "--timeout=5s", succeeds=False)
    wait(lambda: not there(cluster, namespace), "nothing left")


def test_an_upgrade_that_cannot_work_is_taken_back(
    cluster: ControlPlane, namespace: str, node: Node, helm: str, install: Any
) -> None:
    """The pods of before serve all the time."""
    install("install")
    before = deployment(cluster, namespace)["spec"]["template"]
    node.failing.add("server")  # of the new pods: those that are ready stay
    options = ["--atomic" if helm == "helm3" else "--rollback-on-failure", "--timeout=5s"]
    install("upgrade", *options, "--set", "podLabels.version=two", succeeds=False)
    wait(lambda: deployment(cluster, namespace)["spec"]["template"] == before, "the version before")


def test_two_releases_live_in_one_namespace_and_long_names_fit(
    cluster: ControlPlane, namespace: str, install: Any
) -> None:
    """53 characters are the most that Helm takes."""
    install("install")
    long = "a" * 53
    install("install", "--set", "settings.PUBSUB_OBJECT_NAME=other", release=long)
    install("uninstall", release=long)
    assert deployment(cluster, namespace)["status"]["readyReplicas"] == 2


def test_values_of_before_are_kept_by_an_upgrade_that_reuses_them(
    cluster: ControlPlane, namespace: str, install: Any
) -> None:
    """`--reuse-values` with one more."""
    install("install", "--set", "replicaCount=1")
    install("upgrade", "--reuse-values", "--set", "settings.PUBSUB_LOG_LEVEL=debug")
    assert deployment(cluster, namespace)["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", CI)
def test_every_set_of_values_is_admitted_and_does_not_drift(
    cluster: ControlPlane, namespace: str, chart: str, name: str
) -> None:
    """Strictly, without a warning; applied once more, nothing changes. A kind that nobody defines here is left out."""
    words = ["template", "live", chart, "--namespace", namespace, "--no-hooks", "--values", str(CI[name])]
    text = cluster.done("helm4", *words)
    unknown = SCHEMAS.keys() - programs.DEFINITIONS.keys()
    kept = "\n---\n".join(
        each for each in text.split("\n---\n") if not any(f"\nkind: {kind}\n" in f"\n{each}\n" for kind in unknown)
    )
    apply = ["apply", "--server-side", "--validate=strict", "--namespace", namespace, "-f", "-"]
    ran = cluster.run("kubectl", *apply, given=kept)
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    # Controllers write the status meanwhile, which a comparison of two moments shows; a drift would stay.
    diff = ["diff", "--server-side", "--namespace", namespace, "-f", "-"]
    wait(lambda: cluster.run("kubectl", *diff, given=kept).returncode == 0, "no difference", 30)


CUSTOM: dict[str, Object] = {
    "HTTPRoute": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]}},
    "PodMonitor": {"podMonitor": {"enabled": True}},
    "PrometheusRule": {"prometheusRule": {"enabled": True}},
    "ScaledObject": ci_values("keda"),
    "ServiceMonitor": {"serviceMonitor": {"enabled": True}},
}


@pytest.mark.parametrize("kind", programs.DEFINITIONS)
def test_a_custom_resource_comes_and_goes_with_the_release(
    cluster: ControlPlane, namespace: str, install: Any, kind: str
) -> None:
    """As its owners define it; the definition refuses a field that it does not have."""
    install("install", values=CUSTOM[kind])
    one = json.loads(cluster.done("kubectl", "get", kind, "--namespace", namespace, "-o", "json"))["items"][0]
    one["spec"]["notAField"] = True
    del one["metadata"]["resourceVersion"]
    words = ["apply", "--server-side", "--validate=strict", "--force-conflicts", "-f", "-"]
    refused = cluster.run("kubectl", *words, given=json.dumps(one))
    assert refused.returncode != 0
    assert "notAField" in refused.stderr
    install("uninstall")
    assert cluster.done("kubectl", "get", kind, "--namespace", namespace, "-o", "name") == ""


@pytest.mark.parametrize("name", [each for each in CI if "operator" not in each and each != "gke"])
def test_every_set_of_values_is_installed(cluster: ControlPlane, namespace: str, install: Any, name: str) -> None:
    """And leaves nothing, but for the registration's log."""
    install("install", values=ci_values(name))
    assert deployment(cluster, namespace)["status"]["readyReplicas"] >= 1
    install("uninstall")
    job = f"jobs/{NAME}-register"
    wait(lambda: {each for each in there(cluster, namespace) if not each.startswith("pods/")} <= {job}, "nothing left")


def test_the_service_account_has_no_rights(cluster: ControlPlane, namespace: str, install: Any) -> None:
    """No more than one that nobody gave any."""
    install("install")

    def rights(name: str) -> set[str]:
        who = f"--as=system:serviceaccount:{namespace}:{name}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        words = ["--namespace", namespace, who, *(f"--as-group={group}" for group in groups)]
        return set(cluster.done("kubectl", "auth", "can-i", "--list", "--no-headers", *words).splitlines())

    (account,) = [
        one["metadata"]["name"]
        for one in cluster.items(f"/api/v1/namespaces/{namespace}/serviceaccounts")
        if one["metadata"]["name"] != "default"
    ]
    assert rights(account) == rights("nobody")


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_node_can_be_drained(cluster: ControlPlane, namespace: str, install: Any, replicas: int) -> None:
    """The budget lets one pod go at a time, and no second one before the first is replaced."""
    install("install", "--set", f"replicaCount={replicas}")
    budget = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{NAME}"
    status = wait(
        lambda: (found := (cluster.get(budget) or {}).get("status", {})).get("currentHealthy") == replicas and found,
        "the budget",
    )
    assert status["disruptionsAllowed"] == 1
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/component%3Dserver")
    name = pods[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
    wait(lambda: deployment(cluster, namespace)["status"].get("readyReplicas") == replicas, "another pod")


def test_the_autoscaler_can_scale_what_it_names(cluster: ControlPlane, namespace: str, install: Any) -> None:
    """Its target has a scale; what it counts is not there, since nothing measures in this cluster."""
    install("install", values=ci_values("httproute") | {"httpRoute": {"enabled": False}})
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{NAME}"

    def conditions() -> dict[str, str]:
        status = (cluster.get(path) or {}).get("status", {})
        return {one["type"]: one["status"] for one in status.get("conditions", [])}

    wait(conditions, "the autoscaler")
    assert conditions()["AbleToScale"] == "True"
