"""`make demo`: Restate, the service, the agent and the page, started together and connected; Ctrl-C ends all.

Each part is a process of its own, and one that ends is started again: so you can kill any of them while it talks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from restate_pubsub.commands.child_process import ends_with_us
from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.commands.registration import Registrar
from restate_pubsub.errors import PubsubError, Unavailable

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only if asked to
PAUSE = 1.0
"""Seconds before a part that ended is started again, so that its absence can be seen."""
START_SECONDS, STOP_SECONDS = 20.0, 5.0


class Part:
    """A process of the demo: its name, its command, and the environment that it gets."""

    def __init__(self, name: str, command: list[str], log: Path, **env: str) -> None:
        self.name = name
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RESTATE_", "PUBSUB_"))}
        self._command = command
        self._env = inherited | env
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it; its output goes to its log."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=ends_with_us(),
            )

    async def stop(self) -> None:
        """End it, gently at first."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def keep_running(name: str, pid: Callable[[], int | None], start: Callable[[], Awaitable[None]]) -> None:
    """Start a part again whenever it has ended."""
    while True:
        if pid() is None:
            print(f"{name} ended; starting it again …", flush=True)
            await asyncio.sleep(PAUSE)
            try:
                await start()
            except PubsubError as error:
                print(f"{name}: {error}", flush=True)
                continue
            print(f"{name} runs again as process {pid()}", flush=True)
        await asyncio.sleep(0.1)


async def until_it_answers(url: str) -> None:
    """Wait for the page, which starts in a moment."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(1)) as session:
        for _ in range(int(START_SECONDS / 0.05)):
            try:
                async with session.get(url):
                    return
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.05)
    msg = f"{url} did not answer in {START_SECONDS:g} s"
    raise Unavailable(msg)


def free(port: int) -> bool:
    """Whether a port can be listened on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def chosen() -> dict[str, str]:
    """Return the settings of the service that the environment chooses, PUBSUB_CONSOLE=true above all."""
    return {name: value for name, value in os.environ.items() if name.startswith("PUBSUB_") and name != "PUBSUB_BIND"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A chat you can watch: everything it needs, on this machine.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the page's address; 0.0.0.0 lets a phone in (default 127.0.0.1)"
    )
    parser.add_argument(
        "--public", action="store_true", help="let other machines in everywhere: the page, the service and Restate"
    )
    parser.add_argument("--port", type=int, default=8000, help="the page (default 8000)")
    parser.add_argument("--ingress-port", type=int, default=8080, help="Restate's ingress (default 8080)")
    parser.add_argument("--admin-port", type=int, default=9070, help="Restate's admin API (default 9070)")
    parser.add_argument("--node-port", type=int, default=5122, help="Restate's node (default 5122)")
    parser.add_argument("--service-port", type=int, default=9080, help="the service (default 9080)")
    parser.add_argument("--agent-port", type=int, default=9081, help="the agent (default 9081)")
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".restate" / "chat", help="data and logs")
    parser.add_argument("--agent", type=Path, default=HERE / "agent.py", help="the agent's program (default agent.py)")
    parser.add_argument(
        "--agent-python", type=Path, default=Path(sys.executable), help="what runs it (default this Python)"
    )
    parser.add_argument(
        "--form", default="chat", help="what the agents of examples/agents write: chat or ai-sdk (default chat)"
    )
    parser.add_argument("--page", type=Path, default=HERE / "page", help="the page's folder (default page)")
    given = parser.parse_args()
    given.agent, given.agent_python = given.agent.absolute(), given.agent_python.absolute()
    given.page = given.page.absolute()
    if given.public:
        given.host = EVERYWHERE
    return given


async def main() -> int:
    """Run until Ctrl-C."""
    given = arguments()
    ports = {name: value for name, value in vars(given).items() if name.endswith("port")}
    if taken := [f"--{name.replace('_', '-')} {port}" for name, port in ports.items() if not free(port)]:
        print(f"error: in use already: {', '.join(taken)}; stop what listens there, or choose others", file=sys.stderr)
        return 2
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)

    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ingress, admin = f"http://127.0.0.1:{given.ingress_port}", f"http://127.0.0.1:{given.admin_port}"
    service_url, agent_url = f"http://127.0.0.1:{given.service_port}", f"http://127.0.0.1:{given.agent_port}"
    os.chdir(CHECKOUT)  # where the Restate server of `npm ci` is found
    restate = RestateServer(
        folder / "restate",
        ingress_port=given.ingress_port,
        admin_port=given.admin_port,
        node_port=given.node_port,
        public=given.public,
    )
    python = sys.executable
    service = Part(
        "the service",
        [python, "-m", "restate_pubsub", "serve"],
        folder / "service.log",
        RESTATE_INGRESS_URL=ingress,
        RESTATE_ADMIN_URL=admin,
        PUBSUB_BIND=f"{EVERYWHERE if given.public else '127.0.0.1'}:{given.service_port}",
        # Who reaches the page may stop and answer; with access tokens, `control` would say who.
        **({"PUBSUB_DRAIN_TIMEOUT": "3s", "PUBSUB_RETRY": "500ms", "PUBSUB_PUBLISH_ENABLED": "true"} | chosen()),
    )
    agent = Part(
        "the agent",
        [str(given.agent_python), str(given.agent)],
        folder / "agent.log",
        PYTHONPATH=str(HERE),  # an agent that lies elsewhere finds what this one has
        RESTATE_INGRESS_URL=ingress,
        CHAT_AGENT_BIND=f"127.0.0.1:{given.agent_port}",
        CHAT_FORM=given.form,
    )
    page = Part(
        "the page",
        [python, str(HERE / "web.py")],
        folder / "page.log",
        RESTATE_INGRESS_URL=ingress,
        CHAT_PUBSUB_URL=service_url,
        CHAT_BIND=f"{given.host}:{given.port}",
        CHAT_PAGE=str(given.page),
    )

    async def run() -> None:
        print("starting Restate, the service, the agent and the page …", flush=True)
        for part in (service, agent, page):
            await part.start()
        await restate.start()
        registrar = Registrar(admin)
        await registrar.register(f"{service_url}/restate", "pubsub", force=True)
        await registrar.register(agent_url, "agent", force=True)
        await until_it_answers(f"http://127.0.0.1:{given.port}/page/index.html")
        print(f"\n  The chat:  http://localhost:{given.port}/\n", flush=True)
        if chosen().get("PUBSUB_CONSOLE") == "true":
            print(f"  The console:  {service_url}/console/\n", flush=True)
        print("Kill a part while it talks, and watch; it is started again after a second:")
        print(f"  kill -9 {restate.pid:<8} Restate")
        for part in (service, agent, page):
            print(f"  kill -9 {part.pid:<8} {part.name}")
        print(f"\nLogs are in {folder}/. Ctrl-C ends all of it.\n", flush=True)
        await asyncio.gather(
            keep_running("Restate", lambda: restate.pid, restate.start),
            *(keep_running(part.name, lambda part=part: part.pid, part.start) for part in (service, agent, page)),  # type: ignore[misc]
        )

    running = asyncio.create_task(run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    print("stopping …", flush=True)
    running.cancel()
    stopping.cancel()
    failure = (await asyncio.gather(running, return_exceptions=True))[0]
    await asyncio.gather(page.stop(), agent.stop(), service.stop())
    await restate.stop()
    if isinstance(failure, Exception):
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
