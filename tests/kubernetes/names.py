"""The names of Services, for the pods of a node: what a cluster's DNS says, as far as these tests ask."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from kubernetes.control_plane import ControlPlane

NO_SUCH_NAME = 3
SERVICES = ["svc", "cluster", "local"]


class Names:
    """A DNS server on port 53 of one address. It remembers what it said, for when the API server is away."""

    def __init__(self, cluster: ControlPlane, address: str) -> None:
        """Answer once it is started."""
        self._cluster = cluster
        self._known: dict[str, str] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, name="names", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            with contextlib.suppress(OSError, struct.error, IndexError):
                self._socket.sendto(self._answer(question), asker)

    def _address(self, name: str) -> str | None:
        service, _, rest = name.partition(".")
        namespace, _, kind = rest.partition(".")
        if kind.split(".") != SERVICES:
            return None
        with contextlib.suppress(OSError):
            found = self._cluster.get(f"/api/v1/namespaces/{namespace}/services/{service}")
            if found is None:
                self._known.pop(name, None)
            else:
                self._known[name] = found["spec"]["clusterIP"]
        return self._known.get(name)

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode())
            at += length + 1
        (kind,) = struct.unpack(">H", question[at + 1 : at + 3])
        asked = question[12 : at + 5]
        address = self._address(".".join(labels).lower())
        records = b""
        if address is not None and kind == 1:
            records = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address)
        code = NO_SUCH_NAME if address is None else 0
        return question[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, bool(records), 0, 0) + asked + records
