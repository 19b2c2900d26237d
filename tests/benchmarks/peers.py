"""What else people use for this, each started with its own settings; what it keeps after a kill is said beside it."""

from __future__ import annotations

import abc
import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import jwt

from benchmarks.contenders import OneByOne, OneProcess
from benchmarks.processes import Process, with_children
from support.harness import ROOT, free_port

HERE = Path(__file__).parent
CENTRIFUGO = "github.com/centrifugal/centrifugo/v6@v6.9.1"
BUILD_SECONDS = 1500.0
KEY = "benchmarks"
SECRET = KEY * 4
TOKEN = jwt.encode({"mercure": {"publish": ["*"]}}, SECRET, "HS256")
KEPT = 20_000


@dataclass
class Peer(OneProcess, OneByOne, abc.ABC):
    """A program beside ours. `process` serves the streams; `parts` are all, in the order in which they start."""

    process: Process
    parts: list[Process]
    name: str
    settings: str
    session: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    @abc.abstractmethod
    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""

    @property
    def pids(self) -> list[int]:
        """All its processes, and what they started."""
        return [pid for part in self.parts for pid in with_children(part.pid)]

    async def post(self, path: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Post, and wait for the acknowledgement."""
        url = f"http://127.0.0.1:{self.process.port}{path}"
        async with self.session.post(url, data=data, headers=headers) as response:
            answer = await response.read()
            assert response.status < 300, answer

    async def kill_and_restart(self) -> None:
        """End all its processes as a power cut would, and start them again."""
        for part in self.parts:
            await part.kill()
        for part in self.parts:
            await part.start()

    async def stop(self) -> None:
        """End it."""
        await self.session.close()
        for part in reversed(self.parts):
            await part.stop()


class StarletteRedis(Peer):
    """See `starlette_redis.py`."""

    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""
        return f"/{topic}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Publish, and wait for the acknowledgement."""
        await self.post(f"/{topic}", message)


class Centrifugo(Peer):
    """Centrifugo, by its unidirectional SSE; its client keeps the place, as the events have no `id`."""

    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""
        wanted = {"subs": {topic: {"recover": True, "offset": 0, "epoch": ""}}}
        return f"/connection/uni_sse?cf_connect={quote(json.dumps(wanted, separators=(',', ':')))}"

    async def publish(self, topic: str, message: bytes) -> None:
        """Publish, and wait for the acknowledgement."""
        body = b'{"channel":"%b","data":%b}' % (topic.encode(), message)
        await self.post("/api/publish", body, {"x-api-key": KEY, "content-type": "application/json"})


class Mercure(Peer):
    """Mercure's hub, with its history in a file."""

    def path(self, topic: str) -> str:
        """Return the path of a stream of all messages."""
        return f"/.well-known/mercure?topic={topic}&lastEventID=earliest"

    async def publish(self, topic: str, message: bytes) -> None:
        """Publish, and wait for the acknowledgement."""
        form = f"topic={topic}&data={quote(message.decode())}".encode()
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/x-www-form-urlencoded"}
        await self.post("/.well-known/mercure", form, headers)


async def starlette_redis(folder: Path) -> StarletteRedis:
    """Start Redis and the program."""
    store, port = free_port(), free_port()
    home = folder / f"redis-{store}"
    home.mkdir()
    words = ("--port", str(store), "--bind", "127.0.0.1", "--dir", str(home), "--save", "", "--maxclients", "20000")
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    redis = Process(home, store, "redis-server", *words, *durable)
    program = Process(home, port, sys.executable, str(HERE / "starlette_redis.py"), str(port), str(store))
    settings = f"uvicorn, a Redis stream for each topic (the newest {KEPT:,}), `appendonly yes`, `appendfsync always`"
    return await _started(StarletteRedis(program, [redis, program], "Starlette + Redis", settings))


async def centrifugo(folder: Path, binary: Path) -> Centrifugo:
    """Start Centrifugo."""
    port = free_port()
    home = folder / f"centrifugo-{port}"
    home.mkdir()
    config = {
        "http_server": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "warn"},
        "client": {"insecure": True, "channel_limit": 1000},
        "http_api": {"key": KEY},
        "uni_sse": {"enabled": True},
        "channel": {
            "without_namespace": {
                "history_size": KEPT,
                "history_ttl": "1h",
                "force_recovery": True,
                "allow_subscribe_for_client": True,
                "allow_subscribe_for_anonymous": True,
            }
        },
    }
    (home / "config.json").write_text(json.dumps(config))
    process = Process(home, port, str(binary), "--config", str(home / "config.json"))
    settings = f"memory engine, uni_sse, history of {KEPT:,} messages for an hour, forced recovery"
    return await _started(Centrifugo(process, [process], "Centrifugo", settings))


async def mercure(folder: Path, binary: str) -> Mercure:
    """Start Mercure's hub."""
    port = free_port()
    home = folder / f"mercure-{port}"
    home.mkdir()
    (home / "Caddyfile").write_text(
        "{\n  auto_https off\n  admin off\n  log {\n    level ERROR\n  }\n}\n"
        f":{port} {{\n  bind 127.0.0.1\n  mercure {{\n    anonymous\n"
        f"    publisher_jwt {SECRET}\n    subscriber_jwt {SECRET}\n"
        f"    transport bolt {{\n      path {home}/history.db\n      size {KEPT}\n    }}\n  }}\n}}\n"
    )
    process = Process(home, port, binary, "run", "--config", str(home / "Caddyfile"))
    settings = f"Bolt transport, the newest {KEPT:,} updates of all topics together"
    return await _started(Mercure(process, [process], "Mercure", settings))


async def centrifugo_binary() -> Path | None:
    """Build Centrifugo if Go is installed; once, into `build/`. None where it is not, or cannot be built."""
    binary = ROOT / "build" / "go" / "centrifugo"
    if binary.exists():
        return binary
    go = shutil.which("go")
    if go is None:
        return None
    env = os.environ | {"GOBIN": str(binary.parent), "CGO_ENABLED": "0"}
    build = await asyncio.create_subprocess_exec(
        go, "install", CENTRIFUGO, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(build.wait(), BUILD_SECONDS)
    except TimeoutError:
        build.kill()
        await build.wait()
    return binary if binary.exists() else None


P = TypeVar("P", bound=Peer)


async def _started(peer: P) -> P:
    try:
        for part in peer.parts:
            await part.start()
    except BaseException:
        await peer.stop()
        raise
    return peer
