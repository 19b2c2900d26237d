"""The chart's pods as containers that run, beside a real Restate: what a reader notices of what happens to them.

Writers and readers run all the time; at the end of each test every reader has every message once, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubernetes import programs
from kubernetes.control_plane import CHART, NODE, ControlPlane, Object, wait
from kubernetes.real_node import RealNode, lacking
from support.harness import topic_name
from support.traffic import UNLIMITED, Writers, agree, reading, report
from support.waiting import until

pytestmark = [
    pytest.mark.skipif("NODE_IMAGES" not in os.environ, reason="a node needs namespaces of its own: on-a-node"),
    pytest.mark.timeout(400),
]
READERS = 30
ROLLING, ALONE, KILLED, UNNOTICED = 8.0, 12.0, 12.0, 4.0
"""For how many seconds a reader may hear nothing: mostly its waits of `retry`, as docs/faults.md has them."""
NAMESPACE = "apps"
NAME = "live-restate-pubsub"
ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""Without any certificate authority, a Restate server does not start."""
SERVERS = "app.kubernetes.io/component=server"
SETTINGS = UNLIMITED | {"PUBSUB_MAX_STREAMS": "1000"}
VALUES: Object = {
    "image": {"repository": "localhost/restate-pubsub", "tag": "test", "pullPolicy": "Never"},
    "resources": {"requests": {"cpu": "100m"}},
    "settings": SETTINGS,
}
RESTATE: list[Object] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restate"}},
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "restate", "namespace": "restate"},
        "spec": {
            "selector": {"app": "restate"},
            "ports": [{"name": "ingress", "port": 8080}, {"name": "admin", "port": 9070}],
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "restate", "namespace": "restate", "labels": {"app": "restate"}},
        "spec": {
            "containers": [
                {
                    "name": "restate",
                    "image": "localhost/restate:test",
                    "imagePullPolicy": "Never",
                    "workingDir": "/data",
                    "env": [
                        {"name": "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE", "value": "256MB"},
                        {"name": "RESTATE_DISABLE_TELEMETRY", "value": "true"},
                    ],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "roots", "mountPath": ROOTS}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 9070}, "periodSeconds": 1},
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "roots", "hostPath": {"path": ROOTS}}],
        },
    },
]


@pytest.fixture(scope="module")
def node(cluster: ControlPlane) -> RealNode:
    """Let a node join, and a Restate server run on it."""
    if parts := lacking():
        pytest.skip(f"a node needs {', '.join(parts)}")
    found = RealNode(cluster, Path(os.environ["NODE_IMAGES"]))
    found.start()
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": RESTATE})
    cluster.done("kubectl", "apply", "-f", "-", given=given)
    cluster.done("kubectl", "-n", "restate", "wait", "--for=condition=Ready", "pod/restate", "--timeout=120s")
    return found


@pytest.fixture(scope="module")
def notes(cluster: ControlPlane, node: RealNode) -> Iterator[str]:
    """Install the chart, and return what it says; at the end it leaves nothing behind."""
    assert node is not None
    cluster.done("kubectl", "create", "namespace", NAMESPACE)
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn", "audit")]
    cluster.done("kubectl", "label", "namespace", NAMESPACE, *labels)
    yield helm(cluster, "install")
    helm(cluster, "uninstall")
    left = ["kubectl", "-n", NAMESPACE, "get", "pods", "-l", SERVERS, "-o", "name"]
    # What controllers do after the API server was away, they begin late.
    wait(lambda: not cluster.done(*left), "no pod", 240)


def helm(cluster: ControlPlane, verb: str, *words: str, values: Object | None = None) -> str:
    """Run Helm on the release, and wait until what it asked for is so."""
    given = [str(CHART), "--values", "-"] if verb in ("install", "upgrade") else []
    patience = ["--timeout", "120s"] + ([] if verb == "test" else ["--wait"])
    text = json.dumps(VALUES | (values or {}))
    return cluster.done("helm4", verb, "live", *words, *given, "--namespace", NAMESPACE, *patience, given=text)


def pods(cluster: ControlPlane) -> list[Object]:
    """Return the pods that serve, or will."""
    return cluster.items(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={SERVERS.replace('=', '%3D')}")


def ready(cluster: ControlPlane) -> int:
    """Return how many pods serve and are to stay."""
    staying = [pod for pod in pods(cluster) if "deletionTimestamp" not in pod["metadata"]]
    conditions = [one for pod in staying for one in pod["status"].get("conditions", [])]
    return sum(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def settled(cluster: ControlPlane, count: int) -> bool:
    """Return whether so many pods serve, and no other is left."""
    return ready(cluster) == count == len(pods(cluster))


def address(cluster: ControlPlane, namespace: str, name: str) -> str:
    """Return the address of a Service inside the cluster."""
    service = cluster.get(f"/api/v1/namespaces/{namespace}/services/{name}")
    assert service is not None
    return str(service["spec"]["clusterIP"])


@contextlib.asynccontextmanager
async def under_load(cluster: ControlPlane, what: str, silence: float) -> AsyncIterator[Writers]:
    """Write and read during the block; nothing is lost, and no reader hears nothing for more than `silence` seconds."""
    topic = topic_name()
    ingress = f"http://{address(cluster, 'restate', 'restate')}:8080"
    url = f"http://{address(cluster, NAMESPACE, NAME)}/pubsub/{topic}"
    async with Writers(ingress, topic) as writers:
        await writers.some()
        async with reading([url] * READERS) as readers:
            await until(lambda: all(reader.messages for reader in readers), "the first message everywhere")
            yield writers
            await writers.some()
            await writers.stop()
            await agree(writers, readers)
            report(what, writers, readers)
            assert max(reader.silence() for reader in readers) <= silence


async def test_an_install_registers_and_its_own_test_passes(cluster: ControlPlane, notes: str) -> None:
    """Both pods are ready, and Restate calls them."""
    assert "helm test" in notes
    assert ready(cluster) == 2
    said = cluster.done("kubectl", "-n", NAMESPACE, "logs", f"job/{NAME}-register")
    assert "pubsub" in said
    assert "Succeeded" in helm(cluster, "test")


def test_the_commands_of_the_notes_show_a_first_message(cluster: ControlPlane, notes: str) -> None:
    """As a user copies them."""
    environ = {
        "PATH": f"{programs.folder()}:/usr/bin:/bin",
        "KUBECONFIG": str(cluster.folder / "admin.kubeconfig"),
        "HOME": str(cluster.folder / "home"),
    }
    commands = re.findall(r"^ +(kubectl .*)$", notes, re.MULTILINE)
    (forward,) = [each for each in commands if "port-forward" in each]
    (first,) = [each for each in commands if " publish " in each]
    (logs,) = [each for each in commands if " logs " in each]

    def run(command: str) -> subprocess.Popen[str]:
        words = ["sh", "-c", f"exec {command}" if command == forward else command]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            words, env=environ, stdout=subprocess.PIPE, stderr=quiet, text=True, start_new_session=True
        )

    with run(forward) as forwarding:
        assert forwarding.stdout is not None
        assert "Forwarding" in forwarding.stdout.readline()
        with run(first) as reading:
            assert reading.stdout is not None
            assert any('"text":"hi"' in line.replace(" ", "") for line in reading.stdout if line.startswith("data:"))
            os.killpg(reading.pid, 15)
        forwarding.terminate()
    assert subprocess.run(["sh", "-c", logs], env=environ, check=True, capture_output=True).stdout


async def test_an_upgrade_and_a_rollback_under_load(cluster: ControlPlane, notes: str) -> None:
    """Each replaces both pods; a stream ends with its pod, and is resumed."""
    assert notes
    changed = {"settings": SETTINGS | {"PUBSUB_LOG_LEVEL": "warning"}}
    async with under_load(cluster, "upgrade of two replicas, and the rollback", ROLLING) as writers:
        before = {pod["metadata"]["name"] for pod in pods(cluster)}
        await asyncio.to_thread(helm, cluster, "upgrade", values=changed)
        await writers.some()
        between = {pod["metadata"]["name"] for pod in pods(cluster)}
        await asyncio.to_thread(helm, cluster, "rollback", "1")
        assert before != between
        assert ready(cluster) == 2


@pytest.mark.parametrize("replicas", [2, 1])
async def test_a_drain_under_load(cluster: ControlPlane, notes: str, replicas: int) -> None:
    """The budget lets one pod go at a time: the node waits until its successor is ready."""
    assert notes
    await asyncio.to_thread(helm, cluster, "upgrade", values={"replicaCount": replicas})
    drain = ["drain", NODE, "--pod-selector", SERVERS, "--delete-emptydir-data", "--timeout=120s"]
    silence = ROLLING if replicas == 2 else ALONE
    async with under_load(cluster, f"drain of {replicas} replicas", silence):
        draining = asyncio.create_task(asyncio.to_thread(cluster.run, "kubectl", *drain))
        # Its successor finds no other node: an operator would have one.
        await asyncio.to_thread(
            wait, lambda: any(pod["status"]["phase"] == "Pending" for pod in pods(cluster)), "a successor"
        )
        await asyncio.to_thread(cluster.done, "kubectl", "uncordon", NODE)
        drained = await draining
        assert drained.returncode == 0, drained.stderr
        await asyncio.to_thread(wait, lambda: ready(cluster) == replicas, "the successors")


async def test_a_pod_that_is_killed_under_load(cluster: ControlPlane, node: RealNode, notes: str) -> None:
    """Its readers come back to the other, or to its own next life."""
    assert notes
    await asyncio.to_thread(helm, cluster, "upgrade", values={"replicaCount": 2})
    async with under_load(cluster, "a pod killed (-9)", KILLED):
        killed = pods(cluster)[0]
        container = killed["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        await asyncio.to_thread(node.kill, container)

        def lives_again() -> bool:
            named = [pod for pod in pods(cluster) if pod["metadata"]["name"] == killed["metadata"]["name"]]
            return named[0]["status"]["containerStatuses"][0]["restartCount"] == 1 and ready(cluster) == 2

        await asyncio.to_thread(wait, lives_again, "its next life")


async def test_scaling_under_load(cluster: ControlPlane, notes: str) -> None:
    """To three pods and to one."""
    assert notes
    async with under_load(cluster, "scaled to three pods and to one", ROLLING):
        for count in (3, 1):
            words = ["-n", NAMESPACE, "scale", f"deployment/{NAME}", f"--replicas={count}"]
            await asyncio.to_thread(cluster.done, "kubectl", *words)
            there = functools.partial(settled, cluster, count)
            await asyncio.to_thread(wait, there, f"{count} pods")


async def test_nobody_notices_that_the_api_server_is_away(cluster: ControlPlane, notes: str) -> None:
    """For a minute: pods and their addresses stay as they are."""
    assert notes
    async with under_load(cluster, "the API server away for a minute", UNNOTICED):
        away: Any = cluster.away("kube-apiserver")
        await asyncio.to_thread(away.__enter__)
        await asyncio.sleep(60)
        await asyncio.to_thread(away.__exit__, None, None, None)
