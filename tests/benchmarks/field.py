"""Where it is measured: one Restate and all contenders, started and connected."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from benchmarks.contenders import Broadcast, Contender, Floor, Nchan, Ours, Reference
from benchmarks.peers import Peer, centrifugo, centrifugo_binary, mercure, starlette_redis
from benchmarks.processes import NODE, Ingress, Process, cpu_seconds
from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Balancer
from support.harness import Service, free_port
from support.waiting import until

HERE = Path(__file__).parent
CALM_SHARE, CALM_SECONDS = 0.1, 20.0

ROOM: Final[dict[str, Any]] = {
    "PUBSUB_MAX_STREAMS_PER_CLIENT": "100000",
    "PUBSUB_MAX_STREAMS": "100000",
    "PUBSUB_STREAM_RATE": "100000",
    "PUBSUB_STREAM_RATE_PER_CLIENT": "100000",
    "PUBSUB_MAX_TOPICS": "100000",
    "PUBSUB_TOPIC_RATE_PER_CLIENT": "100000",
}
"""All readers here have one address, which a service that protects itself would not serve."""


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
        self.peers: list[Peer] = []
        self._processes: list[Process] = []
        self._services: list[Service] = []
        self._ingresses: list[Ingress] = []
        self._parts = contextlib.AsyncExitStack()

    async def start(self) -> Self:
        """Start Restate and all contenders, and register who needs it."""
        restate, folder = self.restate, self.restate.base_dir
        await restate.start()
        service, other = await self._service(), await self._service(register=False, PUBSUB_ADVERTISE="")
        pubsub = self._ingress("pubsub")
        self.ours = Ours([service], pubsub)
        # Restate knows only the first, so every write runs there; this has no address, and gets it through Restate.
        self.other = Ours([other], pubsub, "restate-pubsub, other replica")
        self.two = await self._replicas("two", 2)
        self.three = await self._replicas("three", 3)
        in_granian = await self._service(str(HERE / "in_granian.py"), PUBSUB_OBJECT_NAME="granian")
        self.granian = Ours([in_granian], self._ingress("granian"), "restate-pubsub, in granian")

        node, sse = await self._node()
        await self._register(node.port)
        reference = self._ingress("reference")
        self.published = Reference(node, reference, sse, "published", "reference")
        self.eager = Reference(node, reference, sse, "eager", "reference, pullInterval 0")

        floor = await self._run(Process(folder, port := free_port(), sys.executable, str(HERE / "floor.py"), str(port)))
        await self._register(port)
        self.floor = Floor(floor, self._ingress("floor"))

        self.nchan = Nchan(await self._nginx())

        script = str(HERE / "broadcast.py")
        self.broadcast = Broadcast(
            await self._run(Process(folder, port := free_port(), sys.executable, script, str(port)))
        )
        self.binary = await centrifugo_binary()
        await self._peers()
        return self

    async def _peers(self) -> None:
        """Start what else people use, as far as it is there."""
        for begin in self._beginnings():
            self.peers.append(await begin())

    def _beginnings(self) -> list[Callable[[], Awaitable[Peer]]]:
        """Return what starts each of the peers that are there."""
        folder = self.restate.base_dir
        found: list[Callable[[], Awaitable[Peer]]] = []
        if shutil.which("redis-server"):
            found.append(partial(starlette_redis, folder))
        if self.binary is not None:
            found.append(partial(centrifugo, folder, self.binary))
        if (hub := shutil.which("mercure")) is not None:
            found.append(partial(mercure, folder, hub))
        return found

    def peers_settings(self) -> str:
        """Return how each peer is set up, and which of them are not on this machine."""
        there = [f"{peer.name}: {peer.settings}." for peer in self.peers]
        away = {"Starlette + Redis", "Centrifugo", "Mercure"} - {peer.name for peer in self.peers}
        return " ".join([*there, *(f"{name} is not on this machine." for name in sorted(away))])

    async def kill_and_restart(self, ours: Ours) -> None:
        """Kill a service and Restate, and start both again where they were."""
        await self.restate.kill()
        for service in ours.services:
            await service.kill()
        await self.restate.start()
        for service in ours.services:
            await service.start(register=False)
            await until(partial(service.answers, "/health/ready"), "the service to be ready")

    async def _service(self, *program: str, register: bool = True, **settings: Any) -> Service:
        service = Service(self.restate, program=program or ("-m", "restate_pubsub"), **ROOM, **settings)
        self._services.append(service)
        return await service.start(register=register)

    async def _replicas(self, words: str, count: int) -> Ours:
        """Start some processes; haproxy gives them Restate's requests in turn, and the readers are spread over them."""
        name = f"replicas-{count}"
        services = [await self._service(register=False, PUBSUB_OBJECT_NAME=name) for _ in range(count)]
        balancer = Balancer(self.restate.base_dir, [service.port for service in services])
        await self._parts.enter_async_context(balancer)
        await self._register(balancer.restate_port, "/restate")
        return Ours(services, self._ingress(name), f"restate-pubsub, {words} replicas")

    @contextlib.asynccontextmanager
    async def fresh(self, like: Contender) -> AsyncIterator[Contender]:
        """Start another process of a contender, whose memory nobody has used yet; no writes run in it."""
        if isinstance(like, Ours):
            service = await self._service(register=False)
            yield Ours([service], like.ingress, like.name)
            await service.kill()
        elif isinstance(like, Reference):
            process, sse = await self._node()
            yield Reference(process, like.ingress, sse, like.kind, like.name)
            await process.stop()
        elif isinstance(like, Peer):
            (begin,) = (begin for begin, peer in zip(self._beginnings(), self.peers, strict=True) if peer is like)
            peer = await begin()
            yield peer
            await peer.stop()
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

    async def _register(self, port: int, path: str = "") -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.restate.admin_url}/deployments", json={"uri": f"http://127.0.0.1:{port}{path}", "force": True}
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
        everybody: tuple[Contender, ...] = (
            self.ours,
            self.other,
            self.two,
            self.three,
            self.granian,
            self.eager,
            self.nchan,
            *self.peers,
        )
        pids = [*self.restate_pids, *(pid for contender in everybody for pid in contender.pids)]
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
        for peer in self.peers:
            await peer.stop()
        for ingress in self._ingresses:
            await ingress.close()
        for process in self._processes:
            await process.stop()
        for service in self._services:
            await service.kill()
        await self._parts.aclose()
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
