"""Real parts for tests: a Restate server, service processes, and a reader that speaks Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from restate_pubsub.commands.child_process import ends_with_us
from restate_pubsub.commands.local_restate import RestateServer
from support.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]


PORTS = range(12_000, 32_000)
"""Below those from which the system takes one for each outgoing connection (32,768 and more): a port that is free now
must still be so when a server binds it."""


def free_port() -> int:
    """Return a TCP port that nobody uses."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", secrets.choice(PORTS)))
            return int(sock.getsockname()[1])


def restate_server(folder: Path, node: str = "pubsub-test", **env: str) -> RestateServer:
    """Return a Restate server on free ports; not started."""
    memory = {"RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "256MB"}
    return RestateServer(
        folder, ingress_port=free_port(), admin_port=free_port(), node_port=free_port(), node=node, env=memory | env
    )


@contextlib.asynccontextmanager
async def running_restate(folder: Path, node: str = "pubsub-test", **env: str) -> AsyncIterator[RestateServer]:
    """Run a Restate server on free ports."""
    server = restate_server(folder, node, **env)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def topic_name(prefix: str = "t") -> str:
    """Return a topic that no other test uses."""
    return f"{prefix}-{secrets.token_hex(6)}"


class Service:
    """One `restate-pubsub serve` process."""

    def __init__(
        self,
        restate: RestateServer,
        *,
        python: str = sys.executable,
        program: Sequence[str] = ("-m", "restate_pubsub"),
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        """`env` and `settings` go into its environment; `program` is what Python runs."""
        self.restate = restate
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("RESTATE_", "PUBSUB_"))
        } | {
            "RESTATE_INGRESS_URL": restate.ingress_url.replace("localhost", "127.0.0.1"),
            "RESTATE_ADMIN_URL": restate.admin_url.replace("localhost", "127.0.0.1"),
            "PUBSUB_BIND": f"127.0.0.1:{self.port}",
            "PUBSUB_ADVERTISE": self.url,
            "PUBSUB_PEERS": "127.0.0.1",
            **(env or {}),
            **settings,
        }
        self.python = python
        self.program = program
        self.process: asyncio.subprocess.Process | None = None
        self.log_file = restate.base_dir / f"service-{self.port}.log"

    @property
    def log(self) -> str:
        """Everything it logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    async def start(self, *, register: bool = True) -> Self:
        """Start it, wait until it lives, and register it."""
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                self.python,
                *self.program,
                "serve",
                env=self.env,
                stdout=log,
                stderr=log,
                preexec_fn=ends_with_us(),
            )
        await until(lambda: self.answers("/health/live"), f"{self.url} to live:\n{self.log}")
        if register:
            await self.register(self.url)
        return self

    async def register(self, url: str) -> None:
        """Register it under `url`, its own or one that leads to it, and wait until it is ready."""
        code, out = await self.command("register", "--url", f"{url}/restate", "--force")
        assert code == 0, out
        await until(lambda: self.answers("/health/ready"), f"{self.url} to be ready:\n{self.log}")

    async def answers(self, path: str) -> bool:
        """Whether `GET path` is a 200."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            try:
                async with session.get(self.url + path) as response:
                    return response.status == 200
            except (aiohttp.ClientError, OSError, TimeoutError):
                return False

    async def command(
        self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, **settings: str
    ) -> tuple[int, str]:
        """Run the command with this service's settings; return its exit code and all it printed."""
        process = await asyncio.create_subprocess_exec(
            self.python,
            *self.program,
            *words,
            env=self.env | dict(env or {}) | settings,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(stdin), 120)
        return process.returncode or 0, out.decode()

    async def stop(self, signum: signal.Signals = signal.SIGTERM, seconds: float = PATIENCE) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(signum)
        try:
            return await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self.stop(signal.SIGKILL)

    def topic_url(self, topic: str, query: str = "") -> str:
        """Return the URL of a stream."""
        return f"{self.url}/pubsub/{quote(topic).replace('.', '%2E')}{'?' + query if query else ''}"

    async def has_streams(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until this process has so many open streams."""

        async def open_() -> bool:
            return await self.metric("restate_pubsub_streams") == count

        await until(open_, f"{count} open streams", seconds)

    async def metric(self, name: str) -> float:
        """Return the sum of a metric's series, or the value of one that is named with its labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        labels = "" if "{" in name else r"(?:\{[^}]*\})?"
        found = re.findall(rf"^{re.escape(name)}{labels} (\S+)$", text, re.MULTILINE)
        assert found, f"{name} is not among the metrics"
        return sum(map(float, found))


async def call(
    restate: RestateServer, topic: str, handler: str, body: Any = ..., *, name: str = "pubsub", **headers: str
) -> tuple[int, Any]:
    """Call a handler over the ingress, as any HTTP client would; return status and decoded answer."""
    segment = quote(topic, safe="").replace(".", "%2E")
    url = URL(f"{restate.ingress_url.replace('localhost', '127.0.0.1')}/{name}/{segment}/{handler}", encoded=True)
    raw = b"" if body is ... else body if isinstance(body, bytes) else json.dumps(body).encode()
    data = None if body is ... else io.BytesIO(raw)  # aiohttp warns of large bytes
    given = ({} if data is None else {"content-type": "application/json"}) | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    timeout = aiohttp.ClientTimeout(60)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, skip_auto_headers=["content-type"]) as session,
            session.post(url, data=data, headers=given) as response,
        ):
            text = await response.read()
            return response.status, json.loads(text) if text else None
    except TimeoutError as error:
        columns = "target, status, created_at, retry_count, last_failure, last_attempt_deployment_id"
        asked = f"select {columns} from sys_invocation where target_service_key = '{topic}'"  # noqa: S608
        error.add_note(f"{handler}: Restate says of the topic's calls: {await query(restate, asked)}")
        raise


async def publish(restate: RestateServer, topic: str, *messages: Any) -> None:
    """Publish messages one by one, as the reference's clients would."""
    for message in messages:
        status, answer = await call(restate, topic, "publish", message)
        assert status == 200, answer


async def subscribed(restate: RestateServer, topic: str, count: int = 1) -> None:
    """Wait until `count` subscriptions are in the topic's state."""

    async def there() -> bool:
        return bool(count == (await call(restate, topic, "info"))[1]["subscribers"])

    await until(there, f"{count} subscriptions")


async def query(restate: RestateServer, sql: str) -> list[dict[str, Any]]:
    """Ask Restate's SQL, which does not find its own partitions for a moment after the start."""
    said: dict[str, Any] = {}

    async def answered() -> bool:
        async with (
            aiohttp.ClientSession(headers={"accept": "application/json"}) as session,
            session.post(f"{restate.admin_url}/query", json={"query": sql}) as response,
        ):
            said.update(await response.json())
            return "rows" in said

    await until(answered, f"the answer to {sql}")
    rows: list[dict[str, Any]] = said["rows"]
    return rows


async def state_of(restate: RestateServer, topic: str) -> dict[str, str]:
    """Return a topic's state keys and values."""
    rows = await query(restate, f"select key, value_utf8 from state where service_key = '{topic}'")  # noqa: S608
    return {row["key"]: row["value_utf8"] for row in rows}


async def change_state(restate: RestateServer, topic: str, **changes: str) -> None:
    """Set some of a topic's state keys, as an operator can, and wait until they are set."""
    new = await state_of(restate, topic) | changes
    body = {"object_key": topic, "new_state": {key: list(value.encode()) for key, value in new.items()}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{restate.admin_url}/services/pubsub/state", json=body) as response,
    ):
        assert response.status == 202, await response.text()

    async def changed() -> bool:
        return await state_of(restate, topic) == new

    await until(changed, "the state to be changed")


class Event(NamedTuple):
    """One Server-Sent Event as a browser would see it."""

    id: str
    event: str
    data: Any


class Stream:
    """One open stream, parsed by the book (WHATWG HTML, 9.2.6)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Read from `response`."""
        self.response = response
        self.raw = b""
        self.comments: list[str] = []
        self.retry: int | None = None
        self.last_id = ""
        self._lines: list[str] = []
        self._buffer = b""

    async def next(self, seconds: float = PATIENCE) -> Event:
        """Return the next event; EOFError when the response has ended."""
        return await asyncio.wait_for(self._next(), seconds)

    async def take(self, count: int, seconds: float = PATIENCE) -> list[Event]:
        """Return the next `count` events."""
        return [await self.next(seconds) for _ in range(count)]

    async def to_end(self, seconds: float = PATIENCE) -> list[Event]:
        """Return all events until the response ends."""
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(await self.next(seconds))
        return events

    async def _next(self) -> Event:
        name = "message"
        data: list[str] = []
        while True:
            line = await self._line()
            if not line:
                if data:
                    return Event(self.last_id, name, json.loads("\n".join(data)))
                name = "message"
                continue
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
            elif field == "id":
                self.last_id = value
            elif field == "retry":
                self.retry = int(value)

    async def _line(self) -> str:
        while b"\n" not in self._buffer:
            chunk = await self.response.content.readany()
            if not chunk:
                raise EOFError
            self.raw += chunk
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode()


@contextlib.asynccontextmanager
async def stream(url: str, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream; the status must be 200."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(URL(url, encoded=True), headers=given) as response,
    ):
        assert response.status == 200, await response.text()
        yield Stream(response)


async def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody takes connections on a port of this machine."""
    try:
        _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


async def get(url: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Return status, body (decoded if JSON) and headers of a GET."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.get(URL(url, encoded=True), headers=given) as response:
        text = await response.read()
        found = {name.lower(): value for name, value in response.headers.items()}
        return response.status, json.loads(text) if "json" in found.get("content-type", "") else text, found


async def read_all(restate: RestateServer, topic: str, offset: int = 0, *, name: str = "pubsub") -> list[Any]:
    """Pull everything there is from `offset` on, as a client without patience would."""
    messages: list[Any] = []
    while True:
        status, answer = await call(restate, topic, "pull", {"offset": offset, "timeout": 0}, name=name)
        if status == 408:
            return messages
        assert status == 200, answer
        assert answer["nextOffset"] == offset + len(answer["messages"])
        messages += answer["messages"]
        offset = answer["nextOffset"]
        if answer.get("closed"):
            return messages
