"""Serve an ASGI application with hypercorn until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from restate.server import install_shutdown_hook

UNLIMITED = 2**31 - 1


async def serve(app: Any, bind: str) -> None:
    """Serve `app` at `bind`; what is open when a signal comes has a second to end."""
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = 1.0
    # Restate keeps its connections, with many invocations on each.
    config.keep_alive_timeout = config.keep_alive_max_requests = config.h2_max_concurrent_streams = UNLIMITED
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        install_shutdown_hook(loop, stop.set, signum)  # the SDK handles SIGTERM, too: this is how to share it
    serving = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=stop.wait))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait({serving}, timeout=2 * config.graceful_timeout)
    stopping.cancel()
    if serving.done():
        serving.result()
    serving.cancel()
