"""Builds the programs of a control plane from their Go modules, once, into a folder of the user's cache.

The definitions of other people's custom resources are in Go modules, too, and are copied beside the programs.

`KUBEBUILDER_ASSETS` names another folder, as envtest has it: whoever has the programs builds nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
CLUSTER = HERE / "cluster"
VERSION = re.findall(r"^require k8s.io/kubernetes (v\S+)", (CLUSTER / "go.mod").read_text(), re.MULTILINE)[0]
PACKAGES = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "helm3": ("helm3", "helm.sh/helm/v3/cmd/helm"),
    "helm4": ("helm4", "helm.sh/helm/v4/cmd/helm"),
    "kubectl": ("cluster", "k8s.io/kubernetes/cmd/kubectl"),
    "kube-scheduler": ("cluster", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kube-controller-manager": ("cluster", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-apiserver": ("cluster", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kubelet": ("cluster", "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": ("cluster", "k8s.io/kubernetes/cmd/kube-proxy"),
}
"""Each program: the folder of its module, and its package."""
NODE = ("kubelet", "kube-proxy")
CONTROL_PLANE = tuple(name for name in PACKAGES if name not in NODE)
MONITORS = "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml"
DEFINITIONS = {
    "HTTPRoute": ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    "PodMonitor": ("github.com/prometheus-operator/prometheus-operator", MONITORS.format("podmonitors")),
    "PrometheusRule": ("github.com/prometheus-operator/prometheus-operator", MONITORS.format("prometheusrules")),
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "ServiceMonitor": ("github.com/prometheus-operator/prometheus-operator", MONITORS.format("servicemonitors")),
}
"""Each kind of custom resource that can be had: the module that defines it, and the file in it."""


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the programs are, or will be."""
    if assets := environ.get("KUBEBUILDER_ASSETS"):
        return Path(assets)
    cache = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/")) / ".cache")
    return cache / "restate-pubsub" / f"kubernetes-{VERSION}"


def definition(kind: str) -> Path:
    """Return where the definition of a kind of custom resource is, or will be."""
    return folder() / "definitions" / f"{kind}.yaml"


def missing(wanted: Iterable[str] = PACKAGES) -> list[str]:
    """Return the programs that are not built yet."""
    return [name for name in wanted if not os.access(folder() / name, os.X_OK)]


def undefined() -> list[str]:
    """Return the kinds of custom resources whose definitions are not there yet."""
    return [kind for kind in DEFINITIONS if not definition(kind).exists()]


def build() -> None:
    """Build what is missing: some twelve minutes on two cores, and 5 GB of Go's caches."""
    if shutil.which("go") is None:
        sys.exit("make test-kubernetes builds Kubernetes from its Go modules: install Go 1.26 or newer")
    major, minor = VERSION.removeprefix("v").split(".")[:2]
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(["-s -w", *(f"-X {version}.{name}={value}" for name, value in stamps.items())])
    folder().mkdir(parents=True, exist_ok=True)
    for name in missing():
        began = time.monotonic()
        print(f"building {name} …", end=" ", flush=True)
        module, package = PACKAGES[name]
        subprocess.run(
            ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", folder() / name, package],
            cwd=HERE / module,
            env={**os.environ, "CGO_ENABLED": "0"},
            check=True,
        )
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    for kind in undefined():
        module, path = DEFINITIONS[kind]
        words = ["go", "mod", "download", "-json", module]
        got = subprocess.run(words, cwd=HERE / "definitions", check=True, stdout=subprocess.PIPE).stdout
        definition(kind).parent.mkdir(exist_ok=True)
        definition(kind).write_bytes((Path(json.loads(got)["Dir"]) / path).read_bytes())


if __name__ == "__main__":
    build()
