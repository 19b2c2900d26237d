"""More processes of the service on this machine, for `dev`: each listens beside the first, and all are peers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Mapping

from restate_pubsub.commands.addresses import address
from restate_pubsub.commands.child_process import ends_with_us
from restate_pubsub.settings.fields import Settings

STOP_SECONDS = 30.0


def settings_of(settings: Settings, number: int) -> dict[str, str]:
    """Return what is set for a replica: the first has number 0 and the settings' own addresses.

    The ports of each further one are higher than those of the one before by the number of its addresses.
    """
    binds = [_shifted(bind, number * len(settings.listens)) for bind in settings.bind]
    changed = {
        "PUBSUB_BIND": ",".join(binds),
        "PUBSUB_ADVERTISE": address(binds[-1]),
        "PUBSUB_PEERS": "localhost,127.0.0.1",
    }
    if settings.metrics_bind is not None:
        changed["PUBSUB_METRICS_BIND"] = _shifted(settings.metrics_bind, number * len(settings.listens))
    return changed


def _shifted(bind: str, by: int) -> str:
    host, _, port = bind.rpartition(":")
    return f"{host}:{int(port) + by}"


@contextlib.asynccontextmanager
async def further_replicas(settings: Settings, environment: Mapping[str, str], count: int) -> AsyncIterator[None]:
    """Run `count` more; they end with this block, and with this process however it ends."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(1, count + 1):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "restate_pubsub",
                "serve",
                env={**environment, **settings_of(settings, number)},
                start_new_session=True,  # a Ctrl-C is for us: we stop it
                preexec_fn=ends_with_us(),
            )
            stack.push_async_callback(_end, process)
        yield


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
