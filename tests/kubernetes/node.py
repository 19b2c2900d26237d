"""The kubelet's part, without containers: pods that were placed on the node run, and those that are to end, end.

What stands in here is what happens inside of containers. Everything that the chart is about is real: admission,
controllers, hooks, budgets, rollouts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime

from kubernetes.control_plane import NODE, ControlPlane, Object

RENEW_SECONDS = 10.0


class Node:
    """One node, and the thread that says how its pods are."""

    def __init__(self, cluster: ControlPlane) -> None:
        """Nothing fails until a test says so."""
        self.cluster = cluster
        self.failing: set[str] = set()
        """The components (`registration`, `test`, `server`) whose containers fail."""
        self._renewed = float("-inf")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)

    def start(self) -> None:
        """Join the cluster."""
        room: Object = {"cpu": "8", "memory": "32Gi", "pods": "110"}
        self.cluster.request(
            "POST", "/api/v1/nodes", {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}
        )
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}]
        self.cluster.status(f"/api/v1/nodes/{NODE}", {"capacity": room, "allocatable": room, "conditions": conditions})
        self._thread.start()

    def stop(self) -> None:
        """Leave."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.2):
            with contextlib.suppress(OSError):  # a pod that has gone meanwhile, or was written to by somebody else
                self._look()

    def _look(self) -> None:
        self._renew()
        for pod in self.cluster.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}"):
            self._pod(pod)
        for service in self.cluster.items("/api/v1/services"):
            self._load_balancer(service)

    def _load_balancer(self, service: Object) -> None:
        """Give it an address, as a cloud does."""
        if service["spec"]["type"] == "LoadBalancer" and not service["status"]["loadBalancer"]:
            path = f"/api/v1/namespaces/{service['metadata']['namespace']}/services/{service['metadata']['name']}"
            self.cluster.status(path, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})

    def _renew(self) -> None:
        """Say that the node is there: one that is not heard of for some 40 seconds is taken for lost."""
        if time.monotonic() < self._renewed + RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        lease: Object = {
            "metadata": {"name": NODE, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now(".%f")},
        }
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        if self.cluster.request("PATCH", f"{path}/{NODE}", lease, "application/merge-patch+json") is None:
            self.cluster.request("POST", path, lease)

    def _pod(self, pod: Object) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            self.cluster.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})
            return
        fails = metadata["labels"].get("app.kubernetes.io/component") in self.failing
        ends = pod["spec"]["restartPolicy"] == "Never"
        if ends:
            phase = "Failed" if fails else "Succeeded"
            state: Object = {"terminated": {"exitCode": int(fails)}}
        else:
            phase = "Running"
            state = {"waiting": {"reason": "CrashLoopBackOff"}} if fails else {"running": {}}
        if pod["status"].get("phase") == phase and (pod["status"]["containerStatuses"][0]["ready"] != fails or ends):
            return
        ready = not fails and not ends
        containers = [
            {
                "name": one["name"],
                "image": one["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "started": ready,
                "state": state,
            }
            for one in pod["spec"]["containers"]
        ]
        conditions = [
            {"type": kind, "status": str(ready or kind == "PodScheduled"), "lastTransitionTime": _now()}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        told = {"phase": phase, "conditions": conditions, "containerStatuses": containers, "startTime": _now()}
        self.cluster.status(path, told)


def _now(fraction: str = "") -> str:
    return datetime.now(UTC).strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z")
