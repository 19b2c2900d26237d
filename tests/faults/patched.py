"""`restate-pubsub serve` with a fault built in, and a report of what it holds; run by tests as a process of its own.

`FAULT` says what happens to every `FAULT_EVERY`-th write that has readers here to hand its messages to:

- `raise`: it is durable; instead of the delivery, an exception.
- `die`: it is durable; instead of the delivery, the end of the process.
- `cut`: at a random moment from shortly before its journal entry to shortly after its delivery, the connections from
  Restate break.

On SIGUSR1 it writes to the file `HOLDS` how many tasks, readers and kilobytes of memory it has.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from weakref import WeakSet

from hypercorn.asyncio import tcp_server
from hypercorn.protocol.h2 import H2Protocol

from restate_pubsub.commands.main import main
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.observer import By
from restate_pubsub.fanout.reader import Reader
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.server import app
from restate_pubsub.server import serving as server

FAULT = os.environ.get("FAULT", "")
EVERY = int(os.environ.get("FAULT_EVERY", "10"))
HOLDS = os.environ.get("HOLDS")
CUT_WITHIN = 60
"""Turns of the loop, from before the journal entry, which is confirmed within them, or from just after that. Timers
are too coarse: the whole takes 1.3 ms, and the loop waits in whole ones."""

connections: WeakSet[Any] = WeakSet()
writes = 0
broken: set[tuple[str, int]] = set()


def due() -> bool:
    """Count a write; whether it is one that breaks."""
    global writes  # noqa: PLW0603 - one process, one count
    writes += 1
    return writes % EVERY == 0


class FaultyHub(Hub):
    """A hub whose deliveries break."""

    def follows(self, topic: str) -> bool:
        """Cut soon, if it is time: a write asks just before it journals who takes its news."""
        if FAULT == "cut" and due():
            cut_after(random.randrange(CUT_WITHIN))
        return super().follows(topic)

    def deliver(self, topic: str, batch: Batch, by: By = "local") -> None:
        """Break instead, if it is time; what a peer hands over comes from one that is whole."""
        if by == "peer":
            super().deliver(topic, batch, by)
            return
        if FAULT == "raise" and (topic, batch.offset) not in broken and due():
            broken.add((topic, batch.offset))  # a retry gets it through
            msg = "between the journal entry and the delivery"
            raise RuntimeError(msg)
        if FAULT == "die" and due():
            os._exit(1)
        if FAULT == "cut" and due():
            cut_after(random.randrange(CUT_WITHIN))
        super().deliver(topic, batch, by)


def cut_after(turns: int) -> None:
    """Cut after so many turns of the loop, which does not rest meanwhile."""
    if turns:
        asyncio.get_running_loop().call_soon(cut_after, turns - 1)
    else:
        cut()


def cut() -> None:
    """Break the connections from Restate, and only those: it alone speaks HTTP/2 here."""
    for connection in list(connections):
        if isinstance(getattr(connection.protocol, "protocol", None), H2Protocol):
            connection.writer.transport.abort()


def report() -> None:
    """Write what this process holds; under another name first, so that nobody reads half of it."""
    assert HOLDS is not None
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    resident = int(status.partition("VmRSS:")[2].split()[0])
    tasks = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    held = {
        # Restate keeps its connections, and hypercorn has four tasks for each.
        "tasks": len(tasks) - 4 * tasks.count("H2Protocol.send_task"),
        "readers": sum(isinstance(thing, Reader) for thing in gc.get_objects()),
        "kilobytes": resident,
        "at": time.monotonic(),
    }
    part = Path(f"{HOLDS}.part")
    part.write_text(json.dumps(held), encoding="ascii")
    part.rename(HOLDS)


def patch() -> None:
    """Put the faults in."""
    vars(app)["Hub"] = FaultyHub
    run = tcp_server.TCPServer.run

    def noted(self: Any) -> Coroutine[Any, Any, None]:
        connections.add(self)
        return run(self)

    tcp_server.TCPServer.run = noted  # type: ignore[method-assign]
    serve = server.serve

    async def serve_with_report(*args: Any, **options: Any) -> None:
        if HOLDS:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, report)
        await serve(*args, **options)

    server.serve = serve_with_report


if __name__ == "__main__":
    patch()
    main()
