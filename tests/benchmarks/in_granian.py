"""The same application in another ASGI server: `python in_granian.py serve` instead of `restate-pubsub serve`.

Granian serves HTTP with a Rust library, in threads of its own beside the application's.
"""

from __future__ import annotations

import asyncio
import os
import sys

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP2Settings
from granian.server.embed import Server

from restate_pubsub.commands.main import main
from restate_pubsub.server.serving import raise_file_limit

UNLIMITED = 100_000


async def serve() -> None:
    """Serve `restate_pubsub.asgi:app` until the process is ended."""
    from restate_pubsub.asgi import app  # noqa: PLC0415 - reads the environment, which other commands need not

    raise_file_limit()
    host, _, port = os.environ["PUBSUB_BIND"].rpartition(":")
    await Server(
        app,
        address=host,
        port=int(port),
        interface=Interfaces.ASGI,
        http=HTTPModes.auto,
        websockets=False,
        backlog=4096,
        backpressure=UNLIMITED,
        http2_settings=HTTP2Settings(max_concurrent_streams=UNLIMITED),
    ).serve()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
