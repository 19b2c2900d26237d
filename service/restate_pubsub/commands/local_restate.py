"""A local Restate server, for `restate-pubsub dev` and for tests: the npm package's binary, started and stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from restate_pubsub.commands.child_process import ends_with_us
from restate_pubsub.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS = 60.0
STOP_SECONDS = 15.0
NODE = "pubsub-dev"
LOOPBACK = "127.0.0.1"


def find_restate_server() -> str:
    """Return the path of the `restate-server` binary.

    Raises:
        ConfigError: there is none; the text says how to get it.

    """
    if given := os.environ.get("RESTATE_SERVER"):
        return given
    # The npm package's own launcher is a Node script that does not hand signals on: take the binary behind it.
    for folder in (Path.cwd(), *Path.cwd().parents):
        for binary in sorted(folder.glob("node_modules/@restatedev/restate-server-*/bin/restate-server")):
            return str(binary)
    if found := shutil.which("restate-server"):
        return found
    msg = (
        "There is no restate-server: run `npm install @restatedev/restate-server` here, "
        "or set RESTATE_SERVER to the path of one"
    )
    raise ConfigError(msg)


class RestateServer:
    """One `restate-server` process on a folder; it can be killed and started again on the same one."""

    def __init__(
        self,
        base_dir: Path,
        *,
        ingress_port: int = 8080,
        admin_port: int = 9070,
        node_port: int = 5122,
        node: str = NODE,
        public: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Ports are TCP, on the loopback interface; `public`: on all, and whoever reaches them may do anything."""
        self.base_dir = base_dir
        self.ingress_url = f"http://localhost:{ingress_port}"
        self.admin_url = f"http://localhost:{admin_port}"
        self.log_file = base_dir / "restate.log"
        self._node = node
        self._env = {
            "RESTATE_INGRESS__BIND_PORT": str(ingress_port),
            "RESTATE_ADMIN__BIND_PORT": str(admin_port),
            "RESTATE_BIND_PORT": str(node_port),
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_LOG_FILTER": "warn,restate=info",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            **({} if public else {"RESTATE_BIND_IP": LOOPBACK}),
            **(env or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            Unavailable: it ended, or did not answer in time; the text has the end of its log.

        """
        self.base_dir.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RESTATE_", "PUBSUB_"))}
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                find_restate_server(),
                "--no-logo",
                "--base-dir",
                str(self.base_dir),
                "--node-name",
                self._node,
                env=inherited | self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us: we stop it after the service
                preexec_fn=ends_with_us(),
            )
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(1)) as session:
            for _ in range(int(START_SECONDS / 0.05)):
                if self._process.returncode is not None:
                    break
                if await self._answers(session):
                    return
                await asyncio.sleep(0.05)
        await self.stop()
        tail = self.log_file.read_text(errors="replace")[-800:]
        msg = f"restate-server did not start; the end of {self.log_file}:\n{tail}"
        raise Unavailable(msg)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            for url in (f"{self.admin_url}/health", f"{self.ingress_url}/restate/health"):
                async with session.get(url) as response:
                    if response.status != 200:
                        return False
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        return True

    async def stop(self) -> None:
        """End it as its operator would."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def _end(self, signum: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signum)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
