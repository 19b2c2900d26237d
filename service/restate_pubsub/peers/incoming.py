"""What peers hand to the readers of this process, over connections that they have opened."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Protocol

import structlog

from restate_pubsub.errors import PubsubError
from restate_pubsub.peers.refused import Refused
from restate_pubsub.protocol.peers import Hello, Proof, Subscriber, Welcome, prove, proves, read_greeting, read_line

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import By
    from restate_pubsub.peers.observer import PeerObserver
    from restate_pubsub.protocol.messages import Batch

log = structlog.stdlib.get_logger(__name__)

SILENT_SECONDS = 4.0
"""A peer that has said nothing for so long is cut off; see `link.LATE_BEATS`."""
GREETING_SECONDS = 5.0
GREETING_BYTES = 4096
LINE_BYTES = 16 * 1024 * 1024
DOUBT_SECONDS = 60.0
"""When a peer is gone, Restate is asked of the topics of which it has brought news in this time …"""
FEW_TOPICS = 200
"""… and of all that are read here, where they are not more than this. Of more, a write that got lost before its topic's
first news comes with the topic's sweep, after ten seconds."""
AGAIN_SECONDS = 1.0
"""So long after a peer was cut off it may still hand over news in vain: Restate is asked once more then."""

Say = Callable[[bytes], Awaitable[None]]


class TakesNews(Protocol):
    """The readers in this process."""

    def deliver(self, topic: str, batch: Batch, by: By) -> None:
        """Take durable news of a topic."""

    def followed(self) -> Collection[str]:
        """Return the topics that are read here."""

    def delivery_uncertain(self, topic: str) -> None:
        """A write may have happened that was not delivered: ask Restate."""


class Incoming:
    """Takes connections of peers that prove that they have read this replica's key in Restate."""

    def __init__(self, here: Subscriber, readers: TakesNews, observer: PeerObserver) -> None:
        """`here` is this replica, as its own subscriptions name it."""
        self._here = here
        self._readers = readers
        self._observer = observer
        self._open: set[asyncio.Task[None]] = set()
        self._ended = False

    @property
    def connected(self) -> bool:
        """Whether any peer hands over what it writes."""
        return bool(self._open)

    async def greeted(self, lines: Lines) -> tuple[Hello, Welcome]:
        """Take the first line, and return it with the answer.

        Raises:
            Refused: it is not for this replica.

        """
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                hello = read_greeting(await lines.next(GREETING_BYTES), Hello)
        except (TimeoutError, EOFError, ValueError, PubsubError):
            raise Refused(reason="proof") from None
        if hello.receiver != self._here.name or self._ended:
            raise Refused(reason="name")
        nonce = secrets.token_hex(16)
        return hello, Welcome(nonce, prove(self._here.key, "reader", hello, nonce))

    async def serve(self, hello: Hello, welcome: Welcome, lines: Lines, say: Say) -> None:
        """Take news until the peer ends, is silent, or this process stops.

        Raises:
            Refused: the proof is not good.

        """
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                proof = read_greeting(await lines.next(GREETING_BYTES), Proof).proof
        except (TimeoutError, EOFError, ValueError, PubsubError):
            raise Refused(reason="proof") from None
        if not proves(proof, self._here.key, "writer", hello, welcome.nonce):
            raise Refused(reason="proof")
        taking = asyncio.create_task(self._take(hello.sender, lines, say))
        self._open.add(taking)
        try:
            await asyncio.wait({taking})
        finally:
            self._open.discard(taking)
            taking.cancel()

    async def end(self) -> None:
        """Take no more: peers answer this replica's pulls again."""
        self._ended = True
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _take(self, peer: str, lines: Lines, say: Say) -> None:
        loop = asyncio.get_running_loop()
        fed: dict[str, float] = {}
        log.info("a peer hands over news", peer=peer)
        await say(b"\n")
        try:
            async with asyncio.timeout(SILENT_SECONDS) as limit:
                while True:
                    line = await lines.next(LINE_BYTES)
                    limit.reschedule(loop.time() + SILENT_SECONDS)
                    if line:
                        self._took(line, fed)
                    else:
                        await say(b"\n")
                        _forget(fed, loop.time() - DOUBT_SECONDS)
        except Ended:
            log.info("a peer has said everything", peer=peer)
        except EOFError:
            self._doubt(peer, fed, "its connection broke")
        except TimeoutError:
            topics = self._doubt(peer, fed, f"it was silent for {SILENT_SECONDS:g} s")
            loop.call_later(AGAIN_SECONDS, self._ask, topics)
        except (PubsubError, ValueError) as error:
            self._doubt(peer, fed, str(error))
        except Exception:
            log.exception("taking a peer's news failed", peer=peer)
            self._doubt(peer, fed, "it failed here")

    def _took(self, line: bytes, fed: dict[str, float]) -> None:
        topic, news = read_line(line)
        if news is None:
            self._readers.delivery_uncertain(topic)
        else:
            fed[topic] = asyncio.get_running_loop().time()
            self._readers.deliver(topic, news, "peer")

    def _doubt(self, peer: str, fed: dict[str, float], why: str) -> Collection[str]:
        _forget(fed, asyncio.get_running_loop().time() - DOUBT_SECONDS)
        followed = self._readers.followed()
        topics = set(followed if len(followed) <= FEW_TOPICS else fed)
        log.warning("a peer is gone; what it may have written is asked for", peer=peer, why=why, topics=len(topics))
        self._ask(topics)
        return topics

    def _ask(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._readers.delivery_uncertain(topic)


def _forget(fed: dict[str, float], before: float) -> None:
    for topic in [topic for topic, at in fed.items() if at < before]:
        del fed[topic]


class Ended(EOFError):
    """A body has come to its end."""


class Lines:
    """The lines of a body that comes in chunks."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        """`chunks` ends where the body does, and raises EOFError where it was cut off."""
        self._chunks = chunks
        self._lines: list[bytes] = []
        self._rest = b""

    async def next(self, most: int) -> bytes:
        """Return the next line, without its end.

        Raises:
            Ended: there is none.
            EOFError: the body was cut off.
            ValueError: it is longer than `most` bytes.

        """
        while not self._lines:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                raise Ended
            *lines, rest = chunk.split(b"\n")
            if lines:
                self._lines = [self._rest + lines[0], *lines[1:]][::-1]
                self._rest = rest
            else:
                self._rest += rest
            if len(self._rest) > most:
                msg = f"a line has more than {most} bytes"
                raise ValueError(msg)
        return self._lines.pop()
