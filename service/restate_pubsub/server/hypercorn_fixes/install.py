"""Put the fixed classes where hypercorn looks them up."""

from __future__ import annotations

import hypercorn.protocol
from hypercorn.asyncio import run

from restate_pubsub.server.hypercorn_fixes.connection import Connection
from restate_pubsub.server.hypercorn_fixes.http1 import Http1
from restate_pubsub.server.hypercorn_fixes.http2 import Http2


def install() -> None:
    """Use the fixes from now on, in this process. The server's configuration must be a `ServerConfig`."""
    vars(hypercorn.protocol).update(H11Protocol=Http1, H2Protocol=Http2)
    vars(run).update(TCPServer=Connection)
