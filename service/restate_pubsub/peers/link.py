"""One connection to a peer, over which this process hands its news."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import structlog

from restate_pubsub.backoff import Backoff
from restate_pubsub.errors import PubsubError
from restate_pubsub.peers.refused import Refused
from restate_pubsub.protocol.peers import PATH, Hello, Proof, Subscriber, Welcome, prove, proves, read_greeting

if TYPE_CHECKING:
    from restate_pubsub.peers.allowed import AllowedPeers
    from restate_pubsub.peers.observer import PeerObserver

log = structlog.stdlib.get_logger(__name__)

BEAT_SECONDS = 0.5
LATE_BEATS = 4
"""A peer that has so many beats unanswered is not handed anything more: it is silent, or what it gets comes late.

That is two seconds, less than `incoming.SILENT_SECONDS`: where the network is cut, this side stops before the other
asks Restate what it has missed, so nothing is handed over in vain after that."""
LOST_BEATS = 8
"""With so many unanswered it is given up, and connected to anew."""
GREETING_SECONDS = 2.0
TRY_SECONDS = 60.0
"""A peer that cannot be reached for so long is given up until it subscribes again."""
MAX_PENDING = 4 * 1024 * 1024
"""Bytes that wait for a peer. One that takes nothing is not handed more; what it misses it pulls."""


class Link:
    """A connection that is kept open. `ready`: news may be handed over now."""

    def __init__(
        self,
        peer: Subscriber,
        ours: str,
        *,
        session: aiohttp.ClientSession,
        allowed: AllowedPeers,
        observer: PeerObserver,
    ) -> None:
        """Begin to connect. `ours` is this replica's name."""
        self.peer = peer
        self.over_at: float | None = None
        """When it was given up."""
        self._ours = ours
        self._session = session
        self._allowed = allowed
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._up = False
        self._closing = False
        self._unanswered = 0
        self._lines: list[bytes] = []
        self._pending = 0
        self._woken = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"peer {peer.name}")

    @property
    def ready(self) -> bool:
        """Whether the peer takes news."""
        return self._up and self._pending < MAX_PENDING and self._unanswered < LATE_BEATS

    def send(self, line: bytes) -> bool:
        """Hand over a line; return whether the connection is open."""
        if self._up:
            self._lines.append(line)
            self._pending += len(line)
            self._woken.set()
        return self._up

    async def close(self, seconds: float) -> None:
        """Say what is left to say, and end it: then the peer need not doubt that it has got everything."""
        self._closing = True
        self._woken.set()
        if not self._up:
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=seconds)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        backoff, until = Backoff(BEAT_SECONDS / 4, 5.0), self._loop.time() + TRY_SECONDS
        try:
            while not self._closing and self._loop.time() < until:
                try:
                    if await self._connection():
                        until = self._loop.time() + TRY_SECONDS
                        backoff.reset()
                except (aiohttp.ClientError, OSError, ValueError, PubsubError) as error:
                    log.debug("no connection to a peer", peer=self.peer.name, url=self.peer.url, error=repr(error))
                if not self._closing:
                    await asyncio.sleep(backoff.next())
        except Refused as refused:
            self._observer.peer_refused(refused.reason)
            log.warning("a peer is not called", peer=self.peer.name, url=self.peer.url, reason=refused.reason)
        except Exception:
            log.exception("a connection to a peer failed", peer=self.peer.name, url=self.peer.url)
        finally:
            self.over_at = self._loop.time()

    async def _connection(self) -> bool:
        """Connect, and stay until the connection ends; return whether it was ever open."""
        async with asyncio.timeout(GREETING_SECONDS):
            if not await self._allowed.allows(self.peer.url):
                raise Refused(reason="address")
        hello = Hello(self._ours, self.peer.name, secrets.token_hex(16))
        greeted: asyncio.Future[bytes] = self._loop.create_future()
        request = self._session.post(
            self.peer.url + PATH,
            data=self._said(hello, greeted),
            headers={"content-type": "application/x-ndjson"},
            timeout=aiohttp.ClientTimeout(total=None),
            allow_redirects=False,
        )
        was_up = False
        try:
            async with asyncio.timeout(GREETING_SECONDS) as limit, request as response:
                if response.status in (403, 404):
                    raise Refused(reason="name")
                response.raise_for_status()
                welcome = read_greeting(await response.content.readline(), Welcome)
                if not proves(welcome.proof, self.peer.key, "reader", hello, welcome.nonce):
                    raise Refused(reason="proof")
                proof = Proof(prove(self.peer.key, "writer", hello, welcome.nonce))
                if greeted.done():  # it has answered to the end, and takes nothing more
                    raise Refused(reason="proof")
                greeted.set_result(msgspec.json.encode(proof) + b"\n")
                if await response.content.readline() != b"\n":
                    raise Refused(reason="proof")
                limit.reschedule(None)
                was_up = True
                with self._open(response):
                    async for answers in response.content.iter_any():
                        self._unanswered = max(self._unanswered - answers.count(b"\n"), 0)
        except TimeoutError:
            log.debug("a peer does not answer", peer=self.peer.name, url=self.peer.url)
        return was_up

    @contextlib.contextmanager
    def _open(self, response: aiohttp.ClientResponse) -> Iterator[None]:
        """Take what is to be handed over, for as long as the peer is heard."""
        timers: list[asyncio.TimerHandle] = []

        def beat() -> None:
            if self._unanswered >= LOST_BEATS:
                response.close()
                return
            self._unanswered += 1
            self.send(b"\n")
            timers[:] = [self._loop.call_later(BEAT_SECONDS, beat)]

        self._up, self._unanswered = True, 0
        beat()
        self._observer.peers_connected(1)
        log.info("a peer is handed news", peer=self.peer.name, url=self.peer.url)
        try:
            yield
        finally:
            timers[0].cancel()
            self._up = False
            self._lines, self._pending = [], 0
            self._observer.peers_connected(-1)

    async def _said(self, hello: Hello, greeted: asyncio.Future[bytes]) -> AsyncIterator[bytes]:
        yield msgspec.json.encode(hello) + b"\n"
        yield await greeted
        while self._lines or not self._closing:
            if self._lines:
                lines, self._lines, self._pending = self._lines, [], 0
                yield b"".join(lines)
            else:
                self._woken.clear()
                await self._woken.wait()
