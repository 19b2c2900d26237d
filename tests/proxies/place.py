"""Where a program of a test runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from support.harness import free_port

LIMIT = 3
"""Seconds for which a proxy lets a stream be silent; the service's heartbeat is a third of it."""


@dataclasses.dataclass
class Place:
    """Where one program runs, and what it stands before."""

    folder: Path
    host: str
    """Where the service listens, as host:port."""
    port: int = dataclasses.field(default_factory=free_port)
    http2: int = dataclasses.field(default_factory=free_port)
    """The port for HTTP/2 without TLS, where the program wants one of its own."""

    @property
    def service_port(self) -> str:
        """The service's port alone."""
        return self.host.rpartition(":")[2]

    def write(self, name: str, text: str) -> str:
        """Write a file into the folder, and return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


Command = list[str]
"""How a program is started."""
