"""`restate-pubsub dev`: who can reach it, and what is left when it has ended, however it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from support.harness import ROOT, free_port, listens, stream
from support.waiting import until

OTHER_ADDRESS = "127.0.0.2"
"""Also this machine, but only what listens on all interfaces is there."""


class Dev:
    """One `restate-pubsub dev` with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "dev.log"
        self.ports = {"ingress": free_port(), "admin": free_port(), "service": free_port()}
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *words: str, bind: str | None = None) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RESTATE_", "PUBSUB_"))}
        env = inherited | {
            "RESTATE_INGRESS_URL": f"http://localhost:{self.ports['ingress']}",
            "RESTATE_ADMIN_URL": f"http://localhost:{self.ports['admin']}",
            **({} if bind is None else {"PUBSUB_BIND": bind}),
        }
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "restate_pubsub", "dev", "--base-dir", self.data, *words,
                env=env, stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

    def servers(self) -> list[int]:
        """Return the Restate servers on the data folder."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"restate-server") and os.fsencode(self.data) in words:
                found.append(int(process.name))
        return found

    async def left(self) -> bool:
        """Whether nothing takes connections any more: a process has no name for a moment before its sockets close."""
        return not any([await listens(self.ports[port]) for port in ("ingress", "admin")])

    async def end(self, signum: signal.Signals) -> None:
        """Send a signal, and wait until nothing of it runs."""
        assert self.process is not None
        self.process.send_signal(signum)
        await asyncio.wait_for(self.process.wait(), 40)
        await until(lambda: not self.servers(), "the Restate server to end")
        await until(self.left, "its ports to be free")


@pytest.fixture
def dev(tmp_path: Path) -> Dev:
    """Return one that is not started."""
    return Dev(tmp_path)


async def begun(dev: Dev) -> None:
    """Wait until the Restate server is a process."""
    await until(dev.servers, "restate-server to be started")


async def answering(dev: Dev) -> None:
    """Wait until Restate listens; it is not ready yet."""
    await until(lambda: listens(dev.ports["admin"]), "restate-server to listen")


async def ready(dev: Dev) -> None:
    """Wait until all of it runs."""
    await until(lambda: "Ready. Follow a topic" in dev.log.read_text(), "dev to be ready", 60)


@pytest.mark.parametrize("moment", [begun, answering, ready])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
async def test_whatever_ends_dev_ends_restate(
    dev: Dev, signum: signal.Signals, moment: Callable[[Dev], Awaitable[None]]
) -> None:
    """From its first moment on; the next start finds its ports free."""
    bind = f"127.0.0.1:{dev.ports['service']}"
    await dev.start(bind=bind)
    await moment(dev)
    await dev.end(signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_replicas_hand_one_another_what_they_write(dev: Dev, signum: signal.Signals) -> None:
    """The first runs the write, and its peers' readers have it; all of them end with `dev`."""
    first = free_port()
    further = [first + 1, first + 2]
    if any([await listens(port) for port in further]):
        pytest.skip("ports beside the first are taken")
    await dev.start("--replicas", "3", bind=f"127.0.0.1:{first}")
    await ready(dev)
    assert f"http://127.0.0.1:{further[1]}" in dev.log.read_text()
    async with aiohttp.ClientSession() as session:
        for port in further:
            await until(lambda port=port: listens(port), "the replica to listen")  # type: ignore[misc]

            async def handed(port: int = port) -> bool:
                url = f"http://localhost:{dev.ports['ingress']}/pubsub/t/publish"
                async with session.post(url, json="x") as answer:
                    assert answer.status == 200
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    return 'messages_arrived_total{by="peer"} 0.0' not in await answer.text()

            async with stream(f"http://127.0.0.1:{port}/pubsub/t") as reader:
                await until(handed, "a message from the peer")
                assert (await reader.next()).data == "x"
    await dev.end(signum)
    for port in (first, *further):
        await until(lambda port=port: _free(port), "the ports to be free")  # type: ignore[misc]


async def _free(port: int) -> bool:
    return not await listens(port)


@pytest.mark.parametrize("words", [[], ["--public"]], ids=["loopback", "public"])
async def test_only_this_machine_reaches_it_unless_public(dev: Dev, words: list[str]) -> None:
    """Restate's ports as well as the service's, whose default address is another in `serve`."""
    if await listens(9080):
        pytest.skip("port 9080, the default that this is about, is taken")
    await dev.start(*words)
    try:
        await ready(dev)
        for port in (dev.ports["ingress"], dev.ports["admin"], 9080):
            assert await listens(port)
            assert await listens(port, OTHER_ADDRESS) == bool(words)
    finally:
        await dev.end(signal.SIGTERM)
