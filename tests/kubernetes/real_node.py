"""A whole node: kubelet, kube-proxy, containerd and runc, so that the cluster's pods are containers that run.

It must have network, mount and process namespaces of its own, which `on-a-node` makes: nothing of it is seen outside,
and all of it ends with them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from kubernetes import programs
from kubernetes.control_plane import NODE, ControlPlane, wait
from kubernetes.names import Names

ADDRESS = "10.10.0.2"
GATEWAY = "10.10.0.1"
"""Nobody has it: a way out that leads nowhere, which the addresses of Services need until kube-proxy changes them."""
PODS = "10.244.0.0/24"
OF_ITS_OWN = ("/run/containerd", "/run/netns", "/var/lib/cni")
"""Folders that containerd and the network's programs write to: on this node, they begin empty."""
PROGRAMS = ("containerd", "ctr", "runc", "ip", "nft")

CONTAINERD = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/network"
"""


class RealNode:
    """One node of a cluster, whose images are archives in a folder."""

    def __init__(self, cluster: ControlPlane, images: Path) -> None:
        """Keep everything beside the cluster's own files."""
        self._cluster = cluster
        self._images = images
        self._folder = cluster.folder / "node"

    def start(self) -> None:
        """Join the cluster, and wait until it takes pods."""
        for part in ("network", "logs", "kubelet"):
            (self._folder / part).mkdir(parents=True)
        self._network()
        self._containers()
        Names(self._cluster, ADDRESS).start()
        self._kubelet()
        self._cluster.begin(
            "kube-proxy",
            "--kubeconfig=admin.kubeconfig",
            "--proxy-mode=nftables",
            f"--hostname-override={NODE}",
            f"--cluster-cidr={PODS}",
            "--bind-address=127.0.0.1",
            # These are the machine's, not the namespace's.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        )
        wait(lambda: self._cluster.get(f"/api/v1/nodes/{NODE}"), "the kubelet to make itself known")
        self._cluster.done("kubectl", "wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=90s")

    def kill(self, container: str) -> None:
        """Kill a container, as the kernel does when memory is short; its id is in the pod's status."""
        _done("ctr", "-a", self._socket, "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)

    @property
    def _socket(self) -> str:
        return str(self._folder / "containerd.sock")

    def _network(self) -> None:
        for path in OF_ITS_OWN:
            Path(path).mkdir(parents=True, exist_ok=True)
            _done("mount", "-t", "tmpfs", "tmpfs", path)
        _done("ip", "link", "add", "node0", "type", "bridge")
        _done("ip", "addr", "add", f"{ADDRESS}/24", "dev", "node0")
        _done("ip", "link", "set", "node0", "up")
        _done("ip", "route", "add", "default", "via", GATEWAY)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        addresses = {
            "type": "host-local",
            "dataDir": str(self._folder / "addresses"),
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
        plugins = {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
        (self._folder / "network" / "pods.conflist").write_text(json.dumps(plugins))

    def _containers(self) -> None:
        config = self._folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self._folder))
        self._cluster.begin("containerd", f"--config={config}")
        ask = ["ctr", "-a", self._socket, "version"]
        wait(lambda: subprocess.run(ask, capture_output=True, check=False).returncode == 0, "containerd")
        for archive in sorted(self._images.glob("*.tar")):
            _done("ctr", "-a", self._socket, "-n", "k8s.io", "images", "import", str(archive))

    def _kubelet(self) -> None:
        resolver = self._folder / "resolv.conf"
        resolver.write_text(f"nameserver {ADDRESS}\n")
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "resolvConf": str(resolver),
            "podLogsDir": str(self._folder / "logs"),
            # A machine that is itself a container has no tree of cgroups, and no disk, of its own to look after.
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "localStorageCapacityIsolation": False,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "5s",
        }
        (self._folder / "kubelet.json").write_text(json.dumps(config))
        self._cluster.begin(
            "kubelet",
            f"--config={self._folder / 'kubelet.json'}",
            "--kubeconfig=kubelet.kubeconfig",
            f"--root-dir={self._folder / 'kubelet'}",
            f"--cert-dir={self._folder / 'certificates'}",
            f"--node-ip={ADDRESS}",
            f"--hostname-override={NODE}",
        )


def lacking() -> list[str]:
    """Return what a node needs and this machine does not have."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    found = [name for name in PROGRAMS if not any(os.access(f"{each}/{name}", os.X_OK) for each in path.split(":"))]
    return found + programs.missing()


def _done(*words: str) -> None:
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(words)}: {ran.stderr}"
