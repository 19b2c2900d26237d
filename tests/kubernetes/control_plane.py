"""A real control plane on loopback: etcd, API server, controller manager and scheduler, each ended by its pid."""

from __future__ import annotations

import contextlib
import csv
import json
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import programs
from support.harness import ROOT, free_port

PATIENCE = 90.0
NODE = "node-1"
CHART = ROOT / "helm" / "restate-pubsub"
USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}
"""Whom the API server knows, by a token that is made at the start: the user's name, and the group."""

Object = dict[str, Any]


def wait(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Ask again and again until `condition` is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return found


class ControlPlane:
    """The cluster's programs, and what a user has to speak to it: `kubectl`, `helm3`, `helm4`, and the API itself."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`."""
        self.folder = folder
        self.url = f"https://127.0.0.1:{free_port()}"
        self.tokens = {user: secrets.token_hex(24) for user in USERS}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._context = ssl._create_unverified_context()  # noqa: S323 - its own certificate, on loopback

    # --- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and wait until its controllers work."""
        key = self.folder / "service-accounts.pem"
        openssl = ["openssl", "genpkey", "-algorithm", "RSA", "-out", str(key)]
        subprocess.run(openssl, check=True, capture_output=True)
        with (self.folder / "tokens.csv").open("w", newline="") as file:
            for user, (name, group) in USERS.items():
                csv.writer(file).writerow([self.tokens[user], name, user, group])
        for user, token in self.tokens.items():
            self._kubeconfig(user, token)
        store, peers = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.begin(
            "etcd",
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )
        self.begin(
            "kube-apiserver",
            f"--etcd-servers={store}",
            f"--secure-port={self.url.rpartition(':')[2]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--cert-dir=certificates",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--token-auth-file=tokens.csv",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
        )
        wait(self._ready, "the API server")
        # Not earlier: the controller manager gives up where nothing answers.
        self.begin(
            "kube-controller-manager",
            "--kubeconfig=controllers.kubeconfig",
            f"--service-account-private-key-file={key}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--cert-dir=certificates",
            "--horizontal-pod-autoscaler-sync-period=2s",
        )
        self.begin(
            "kube-scheduler",
            "--kubeconfig=scheduler.kubeconfig",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--cert-dir=certificates",
        )
        wait(lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default"), "the controllers")

    def stop(self) -> None:
        """End it, the last program first."""
        for process in reversed(self._running.values()):
            process.terminate()
        for name in reversed([*self._running]):
            self.end(name)

    def begin(self, name: str, *options: str) -> None:
        """Start one program: one that is built for this, or the machine's."""
        built = programs.folder() / name
        words = [str(built) if built.exists() else name, *options]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log)

    def end(self, name: str) -> list[str]:
        """End one program, and return how it was started."""
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return [str(word) for word in process.args][1:] if isinstance(process.args, list) else []

    @contextlib.contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Be without one of its programs for the block."""
        options = self.end(name)
        yield
        self.begin(name, *options)
        wait(self._ready, "the API server")

    def _ready(self) -> bool:
        for name, process in self._running.items():
            assert process.poll() is None, f"{name} ended: see its log in {self.folder}"
        try:
            return self.request("GET", "/readyz") is not None
        except OSError:
            return False

    def _kubeconfig(self, user: str, token: str) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "current-context": "here",
        }
        (self.folder / f"{user}.kubeconfig").write_text(json.dumps(config))

    # --- the API -------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object | None:
        """Ask the API server; None where it has no such thing."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.tokens['admin']}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=30) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            msg = f"{method} {path}: {error.code} {error.read().decode()}"
            raise OSError(msg) from None
        return {} if text == b"ok" else dict(json.loads(text))

    def get(self, path: str) -> Object | None:
        """Return an object, None if there is none."""
        return self.request("GET", path)

    def items(self, path: str) -> list[Object]:
        """Return a list's objects."""
        return list((self.request("GET", path) or {}).get("items", []))

    def status(self, path: str, status: Object) -> None:
        """Say the status of an object, as its controller does."""
        self.request("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")

    def define(self, files: Iterable[Path]) -> None:
        """Take definitions of custom resources, and wait until the API has them."""
        given = [word for file in files for word in ("-f", str(file))]
        self.done("kubectl", "apply", "--server-side", *given)
        self.done("kubectl", "wait", "--for=condition=Established", "--timeout=30s", *given)

    # --- its users' programs -------------------------------------------------------------------------------------

    def run(self, program: str, *words: str, given: str = "", seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run `kubectl`, `helm3` or `helm4` against it."""
        home = self.folder / "home"
        environ = {"KUBECONFIG": str(self.folder / "admin.kubeconfig"), "HOME": str(home), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [str(programs.folder() / program), *words],
            env=environ,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def done(self, program: str, *words: str, given: str = "") -> str:
        """Run it, and return what it printed; it must succeed."""
        ran = self.run(program, *words, given=given)
        assert ran.returncode == 0, f"{program} {' '.join(words)}: {ran.stdout}{ran.stderr}"
        return ran.stdout
