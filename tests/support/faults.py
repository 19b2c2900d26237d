"""What stands between real parts: a TCP proxy that can cut, stall, or lose an answer, and a load balancer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import aiohttp

from support.harness import Service, free_port, listens
from support.programs import program
from support.waiting import until


class Proxy:
    """Forwards a port of its own to another; faults are switched on and off while it runs."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Forward to `port` on this machine's loopback; `host` is the address to listen on."""
        self.target = port
        self.host = host
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut_answers = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Cut everything and stop."""
        assert self._server is not None
        self._flowing.set()
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections that are open now."""
        for writer in self._writers:
            with contextlib.suppress(AttributeError):
                writer.transport.abort()

    def cut_answers(self, count: int) -> None:
        """Let the next `count` requests through, and cut their connections when the answer comes."""
        self._cut_answers = count

    def stall(self) -> None:
        """Neither refuse nor answer: hold all bytes back until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let bytes through again."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._pipe(reader, far_writer), self._pipe(far_reader, writer, answers=True), return_exceptions=True
        )
        for one in (writer, far_writer):
            self._writers.discard(one)
            one.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            if answers and self._cut_answers:
                self._cut_answers -= 1
                break
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


class Balancer:
    """haproxy before several replicas: `restate_url` for Restate (HTTP/2, request by request), `url` for browsers.

    Restate's side looks only whether a replica listens; browsers are sent to those that say they are ready. Looked at
    four times a second, so that one that says goodbye is left at once; one that is only slow to answer (this machine
    is busy) has five seconds, since the last one that is up would else be taken for dead: a 503 for everybody.
    """

    def __init__(self, folder: Path, ports: Sequence[int], *, ready: str = "/health/ready") -> None:
        """Balance over `ports` of this machine; `ready` is asked for on each."""
        self.restate_port, self.port, self._stats_port = free_port(), free_port(), free_port()
        self.restate_url = f"http://127.0.0.1:{self.restate_port}"
        self.url = f"http://127.0.0.1:{self.port}"
        self._config = folder / f"haproxy-{self.port}.cfg"
        self._log = folder / f"haproxy-{self.port}.log"
        self._process: asyncio.subprocess.Process | None = None
        check = "check inter 250ms fall 1 rise 1"
        h2 = "\n".join(f"  server s{port} 127.0.0.1:{port} proto h2 {check}" for port in ports)
        h1 = "\n".join(f"  server s{port} 127.0.0.1:{port} {check}" for port in ports)
        self._config.write_text(
            f"""
global
  maxconn 4000
defaults
  mode http
  timeout connect 2s
  timeout check 5s
  timeout client 1h
  timeout server 1h
  option redispatch
frontend restate
  bind 127.0.0.1:{self.restate_port} proto h2
  default_backend restate
backend restate
  balance roundrobin
{h2}
frontend web
  bind 127.0.0.1:{self.port}
  default_backend web
backend web
  balance leastconn
  option httpchk GET {ready}
{h1}
frontend stats
  bind 127.0.0.1:{self._stats_port}
  stats enable
  stats uri /
"""
        )

    async def __aenter__(self) -> Self:
        """Start it, and wait until both ports listen."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program("haproxy"), "-db", "-f", str(self._config), stdout=log, stderr=log
            )
        await until(self._listens, "haproxy to listen")
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def up(self, count: int) -> None:
        """Wait until it sends browsers, and Restate, to `count` replicas."""
        await until(lambda: self._counts(count), f"{count} replicas behind haproxy")

    async def _counts(self, count: int) -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self._stats_port}/;csv") as got:
            rows = [line.split(",") for line in (await got.text()).splitlines()]
        up = [row[0] for row in rows if len(row) > 17 and row[17].startswith("UP") and row[1] != "BACKEND"]
        return up.count("web") == up.count("restate") == count

    async def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()
        return await listens(self.restate_port) and await listens(self.port)


async def behind_a_proxy(stack: contextlib.AsyncExitStack, service: Service) -> Proxy:
    """Start a service that Restate reaches through a proxy; the stack ends both."""
    await service.start(register=False)
    stack.push_async_callback(service.stop)
    proxy = await stack.enter_async_context(Proxy(service.port))
    await service.register(proxy.url)
    return proxy


async def behind_a_balancer(stack: contextlib.AsyncExitStack, replicas: Sequence[Service]) -> Balancer:
    """Start services that share Restate's requests; the stack ends all of it."""
    for replica in replicas:
        await replica.start(register=False)
        stack.push_async_callback(replica.stop)
    folder = replicas[0].log_file.parent
    balancer = await stack.enter_async_context(Balancer(folder, [replica.port for replica in replicas]))
    await replicas[0].register(balancer.restate_url)
    return balancer
