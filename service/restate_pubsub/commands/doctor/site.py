"""The public address as the doctor uses it: streams, uploads, and a topic of its own."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from restate_pubsub.proxies import proxy_for

BROWSER = {"accept": "text/event-stream", "accept-encoding": "gzip, deflate"}
NDJSON = {"content-type": "application/x-ndjson"}
CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event, and when it came."""

    id: str
    name: str
    data: Any
    at: float


@dataclass
class Site:
    """Where the streams are, with a session that has the token."""

    base: str
    """The URL that a topic is appended to."""
    topic: str
    session: aiohttp.ClientSession
    programs: list[str] = field(default_factory=list)
    """What stands in between, as far as it says."""
    token: str | None = None

    def url(self, query: str = "") -> URL:
        """Return the URL of the doctor's topic."""
        return URL(f"{self.base}/{quote(self.topic, safe='/')}{'?' + query if query else ''}", encoded=True)

    def headers(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """Return a request's headers."""
        own = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return {**own, **more}

    @contextlib.asynccontextmanager
    async def request(
        self, method: str, query: str = "", *, data: Any = None, **headers: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the doctor's topic."""
        given = self.headers({name.replace("_", "-"): value for name, value in headers.items()})
        async with self.session.request(
            method, self.url(query), data=data, headers=given, proxy=proxy_for(self.base), allow_redirects=False
        ) as answer:
            yield answer

    @contextlib.asynccontextmanager
    async def stream(self, query: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a stream as a browser does."""
        given = {name.replace("-", "_"): value for name, value in BROWSER.items()} | headers
        async with self.request("GET", query, **given) as answer:
            yield answer


@contextlib.asynccontextmanager
async def site(base: str, topic: str, token: str | None) -> AsyncIterator[Site]:
    """Return the site while the block runs."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Site(base, topic, session, token=token)


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Yield a stream's events until it ends."""
    identity, name, data = "", "message", b""
    while line := await answer.content.readline():
        key, _, value = line.rstrip(b"\r\n").partition(b": ")
        if key == b"id":
            identity = value.decode()
        elif key == b"event":
            name = value.decode()
        elif key == b"data":
            data = value
        elif not key:
            if data:
                yield Event(identity, name, _parsed(data), time.monotonic())
            name, data = "message", b""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:  # something in between has written it
        return data.decode(errors="replace")
