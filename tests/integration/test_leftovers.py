"""What a test run starts ends with it, also if the run is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT
from support.waiting import until

RUN = """
import asyncio, pathlib, sys
from types import SimpleNamespace
from support.harness import Service

async def main():
    restate = SimpleNamespace(ingress_url=sys.argv[1], admin_url=sys.argv[2], base_dir=pathlib.Path(sys.argv[3]))
    service = await Service(restate).start(register=False)
    print(service.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]
    return False


async def test_a_service_ends_with_a_run_that_is_killed(restate: RestateServer, tmp_path: Path) -> None:
    """Nobody is left to stop it."""
    words = [sys.executable, "-c", RUN, restate.ingress_url, restate.admin_url, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    run = await asyncio.create_subprocess_exec(*words, env=env, stdout=asyncio.subprocess.PIPE)
    assert run.stdout is not None
    pid = int(await run.stdout.readline())
    assert lives(pid)
    run.kill()
    await run.wait()
    try:
        await until(lambda: not lives(pid), "the service to end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
