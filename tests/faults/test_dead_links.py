"""A link that dies without a word: packets are dropped, and the reader comes back from another address.

The reader's sockets are in a network namespace of the test's own, so this needs root and `ip`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy
from support.harness import ROOT, Event, Service, Stream, publish
from support.node import NODE
from support.programs import program
from support.traffic import FULL
from support.waiting import PATIENCE, until

BEAT, SEND_TIMEOUT = (15.0, 30.0) if FULL else (1.0, 2.0)
BOUND = BEAT + 2 * SEND_TIMEOUT
"""What docs/proxies.md states: after so many seconds the service has freed a stream whose link is dead."""
DROPPED = 180.0 if FULL else 8.0
PAGE_BACK = 2 * max(BEAT, 5.0)
"""What docs/browser.md states: so many seconds after the link a page has what it missed."""
PULL_BACK = 30.0
"""What docs/python.md states of who reads over Restate's ingress, where there are no heartbeats."""
NEW_NETWORK = 0x40000000

PULL = """
import asyncio, sys

from restate_pubsub import create_pubsub_client
from restate_pubsub.ingress import connection

if "kept-alive" in sys.argv:
    connection.KEEPALIVE.clear()


async def main(url: str, topic: str) -> None:
    async with create_pubsub_client(url) as client:
        async for received in client.pull(topic, 0):
            print(received.data, flush=True)


asyncio.run(main(*sys.argv[1:3]))
"""
FOLLOW = f"""
import {{ follow }} from "{ROOT}/service/restate_pubsub/web/page_client/restate-pubsub.js";

follow(process.argv.at(-1), {{ message: (data) => console.log(data) }});
"""


class Link:
    """A pair of ends: ours, and one in a namespace."""

    def __init__(self, number: int) -> None:
        """`number` makes its addresses."""
        name = secrets.token_hex(3)
        self.namespace, self._near, self._far = f"dead-{name}", f"near-{name}", f"far-{name}"
        self._net = f"10.213.{number}"
        self.address = f"{self._net}.1"

    def up(self) -> None:
        """Make it."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.namespace)
        ip("addr", "add", f"{self.address}/24", "dev", self._near)
        ip("link", "set", self._near, "up")
        self._within("addr", "add", f"{self._net}.2/24", "dev", self._far)
        self._within("link", "set", self._far, "up")

    def die(self) -> None:
        """Drop all packets, without a word to either side."""
        for hop in (self._net + ".2", self._net + ".3"):
            ip("neigh", "replace", hop, "lladdr", "02:00:00:00:00:01", "dev", self._near, "nud", "permanent")
        self._within("neigh", "replace", self.address, "lladdr", "02:00:00:00:00:02", "dev", self._far)

    def come_back(self) -> None:
        """Let packets pass again, to another address of the reader."""
        for hop in (self._net + ".2", self._net + ".3"):
            ip("neigh", "del", hop, "dev", self._near)
        self._within("neigh", "del", self.address, "dev", self._far)
        self._within("addr", "del", f"{self._net}.2/24", "dev", self._far)
        self._within("addr", "add", f"{self._net}.3/24", "dev", self._far)

    def command(self, *words: str) -> list[str]:
        """Return how to run a program that is in the namespace."""
        return [program("ip"), "netns", "exec", self.namespace, *words]

    def down(self) -> None:
        """Remove it: first our end, and so both; a namespace lives on for as long as a socket of it does."""
        ip("link", "del", self._near)
        ip("netns", "del", self.namespace)

    def socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """Return a socket that is in the namespace; this thread is there for a moment."""
        family, kind, protocol, _, _ = address
        libc = ctypes.CDLL(None, use_errno=True)
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            assert libc.setns(there, NEW_NETWORK) == 0
            return socket.socket(family, kind, protocol)
        finally:
            assert libc.setns(here, NEW_NETWORK) == 0
            os.close(here)
            os.close(there)

    def _within(self, *words: str) -> None:
        ip("-n", self.namespace, *words)


def ip(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True, capture_output=True)


@pytest.fixture
def link() -> Iterator[Link]:
    """Return a link between here and a namespace."""
    if os.getuid() or not Path("/proc/thread-self/ns/net").exists():
        pytest.skip("only root may make network namespaces")
    link = Link(1 + os.getpid() % 250)
    try:
        link.up()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not to be had here: {error.stderr.decode()}")
    yield link
    link.down()


class WatchfulReader:
    """Takes a stream for dead when it misses two heartbeats, and goes on where it was: as docs/browser.md's reader."""

    def __init__(self, url: str, link: Link) -> None:
        """Run it with `run`."""
        self.url = url
        self.link = link
        self.data: list[int] = []
        self.last_id = ""
        self.noticed: list[float] = []

    async def run(self) -> None:
        """Read for ever."""
        connector = aiohttp.TCPConnector(socket_factory=self.link.socket, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                with contextlib.suppress(EOFError, TimeoutError, OSError, aiohttp.ClientError):
                    await self._read(session)
                self.noticed.append(time.monotonic())
                await asyncio.sleep(BEAT / 4)  # as every reader waits before it comes back

    async def _read(self, session: aiohttp.ClientSession) -> None:
        headers = {"last-event-id": self.last_id} if self.last_id else {}
        timeout = aiohttp.ClientTimeout(None, sock_connect=BEAT)
        async with session.get(self.url, headers=headers, timeout=timeout) as answer:
            stream = Stream(answer)
            while True:
                self._take(await stream.next(2 * BEAT))

    def _take(self, event: Event) -> None:
        if event.event == "message":
            self.data.append(event.data)
            self.last_id = event.id


@contextlib.asynccontextmanager
async def reading(url: str, link: Link) -> AsyncIterator[WatchfulReader]:
    reader = WatchfulReader(url, link)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_dead_link_is_noticed_on_both_sides(restate: RestateServer, link: Link, topic: str) -> None:
    """By the reader within two heartbeats, by the service within its bound; nothing is lost or doubled."""
    env = {
        "PUBSUB_HEARTBEAT": f"{BEAT:g}s",
        "PUBSUB_SEND_TIMEOUT": f"{SEND_TIMEOUT:g}s",
    }
    service = Service(restate)
    service.env |= env | {"PUBSUB_BIND": f"0.0.0.0:{service.port}"}
    await service.start()
    try:
        url = f"http://{link.address}:{service.port}/pubsub/{topic}?heartbeat=event"
        async with reading(url, link) as reader:
            await publish(restate, topic, 0)
            await until(lambda: reader.data == [0], "the first message")
            await service.has_streams(1)
            died = time.monotonic()
            link.die()
            await publish(restate, topic, 1)
            await until(lambda: reader.noticed, "the reader to notice", 3 * BEAT + 1)
            await service.has_streams(0, BOUND + BEAT)
            await publish(restate, topic, 2)
            await asyncio.sleep(max(0.0, died + DROPPED - time.monotonic()))  # the fault lasts so long
            link.come_back()
            await until(lambda: reader.data == [0, 1, 2], "the messages of meanwhile", 3 * BEAT + 2)
            await publish(restate, topic, 3)
            await until(lambda: reader.data == [0, 1, 2, 3], "what comes then")
    finally:
        await service.stop()


@contextlib.asynccontextmanager
async def printing(command: list[str], env: Mapping[str, str], printed: Path) -> AsyncIterator[Path]:
    """Run a reader that prints what it reads, a line each, into the file that this returns."""
    with printed.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=out)
    try:
        yield printed
    finally:
        process.kill()
        await process.wait()


async def test_every_reader_of_ours_comes_back(
    restate: RestateServer, link: Link, topic: str, parts: contextlib.AsyncExitStack, tmp_path: Path
) -> None:
    """`client.pull`, `restate-pubsub tail` and the package's `follow`, in their time; nothing is lost or doubled.

    One more `pull` gets no word from TCP: as where a balancer or a tunnel keeps the connection to it alive.
    """
    service = Service(restate)
    service.env |= {"PUBSUB_HEARTBEAT": f"{BEAT:g}s", "PUBSUB_BIND": f"0.0.0.0:{service.port}"}
    await service.start()
    parts.push_async_callback(service.stop)
    near = await parts.enter_async_context(Proxy(urlsplit(restate.ingress_url).port or 80, link.address))
    ingress = f"http://{link.address}:{near.port}"
    env = service.env | {"RESTATE_INGRESS_URL": ingress}
    url = f"http://{link.address}:{service.port}/pubsub/{topic}"
    script = tmp_path / "follow.mjs"
    script.write_text(FOLLOW)
    commands = {
        "pull": link.command(sys.executable, "-c", PULL, ingress, topic),
        "kept alive": link.command(sys.executable, "-c", PULL, ingress, topic, "kept-alive"),
        "tail": link.command(sys.executable, "-m", "restate_pubsub", "tail", topic),
        "follow": link.command(str(NODE), str(script), url),
    }
    await publish(restate, topic, 0)
    outs = {
        name: await parts.enter_async_context(printing(command, env, tmp_path / name))
        for name, command in commands.items()
    }

    async def has(name: str, expected: list[int], seconds: float) -> None:
        def read() -> list[int]:
            return [int(line) for line in outs[name].read_text().splitlines()]

        await until(lambda: read() == expected, f"{name} to have {expected}", seconds)

    async def all_have(*expected: int, page: float, pull: float) -> None:
        within = {name: page if name == "follow" else pull for name in outs}
        await asyncio.gather(*(has(name, [*expected], seconds) for name, seconds in within.items()))

    await all_have(0, page=PATIENCE, pull=PATIENCE)
    died = time.monotonic()
    link.die()
    await publish(restate, topic, 1)
    await publish(restate, topic, 2)
    await asyncio.sleep(max(0.0, died + DROPPED - time.monotonic()))  # the fault lasts so long
    await all_have(0, page=0, pull=0)
    link.come_back()
    await all_have(0, 1, 2, page=PAGE_BACK, pull=PULL_BACK)
    await publish(restate, topic, 3)
    await all_have(0, 1, 2, 3, page=PATIENCE, pull=PATIENCE)
