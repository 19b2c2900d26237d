"""Whom a write hands its news to: the readers of this process, and the replicas whose subscriptions say where."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import aiohttp

from restate_pubsub.peers.link import Link
from restate_pubsub.protocol.calls import encode_notification
from restate_pubsub.protocol.peers import Subscriber, line

if TYPE_CHECKING:
    from restate_pubsub.peers.allowed import AllowedPeers
    from restate_pubsub.peers.observer import PeerObserver
    from restate_pubsub.protocol.messages import Batch

MOST_BYTES = 1024 * 1024
"""News larger than this are pulled by each replica, in parts."""
MAX_LINKS = 64
"""Peers that are known at a time, whatever subscriptions say; what is above goes through Restate."""
REST_SECONDS = 10.0
"""After it was given up, or was refused, a peer is tried again when it subscribes, but not before this time."""
CLOSE_SECONDS = 1.0


class LocalReaders(Protocol):
    """The readers in this process. None of it may raise."""

    @property
    def replica(self) -> str:
        """This process's name among all."""

    def follows(self, topic: str) -> bool:
        """Whether anybody here reads the topic."""

    def deliver(self, topic: str, batch: Batch) -> None:
        """Take durable news of a topic."""

    def expect_tail(self, topic: str, tail: int) -> None:
        """A write ran here that may not have been handed over: the topic goes up to `tail`."""

    def delivery_uncertain(self, topic: str) -> None:
        """A write was cut off before it was delivered: ask Restate."""


class Peers:
    """The object's `Readers`."""

    def __init__(self, local: LocalReaders, allowed: AllowedPeers, observer: PeerObserver) -> None:
        """Nobody is known at first: whoever subscribes is."""
        self._local = local
        self._allowed = allowed
        self._observer = observer
        self._links: dict[Subscriber, Link] = {}
        self._by_name: dict[str, Link] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def replica(self) -> str:
        """This process's name among all."""
        return self._local.replica

    def meet(self, subscriber: str) -> None:
        """Connect to whoever pulls, if it is a peer that is new."""
        peer = Subscriber.read(subscriber)
        if peer.url and peer.name != self.replica and self._allowed:
            self._link(peer)

    def takers(self, topic: str, waiting: Iterable[str], news: Batch) -> list[str]:
        """Return the names of the replicas that can be handed the news.

        A topic that ends is told to everybody through Restate, and so are news that are large.
        """
        takers = [self.replica] if self._local.follows(topic) else []
        if not self._allowed:
            return takers
        small = sum(len(message.data) for message in news.messages) <= MOST_BYTES and not news.closed
        for text in waiting:
            peer = Subscriber.read(text)
            if peer.name == self.replica or not peer.url:
                continue
            if (link := self._link(peer)) is not None and link.ready and small:
                takers.append(peer.name)
            else:
                self._observer.fell_back()
        return takers

    def deliver(self, topic: str, news: Batch, takers: Sequence[str]) -> None:
        """Hand durable news to replicas by their names."""
        said = b""
        for name in takers:
            if name == self.replica:
                self._local.deliver(topic, news)
            elif (link := self._by_name.get(name)) is not None:
                said = said or line(topic, encode_notification(news))
                if link.send(said):
                    self._observer.handed_over()

    def expect_tail(self, topic: str, tail: int) -> None:
        """See to it that this process gets to `tail`; the others are told by whoever runs a write."""
        self._local.expect_tail(topic, tail)

    def delivery_uncertain(self, topic: str, takers: Sequence[str]) -> None:
        """Have whoever was to be handed news ask Restate."""
        self._local.delivery_uncertain(topic)
        for name in takers:
            if (link := self._by_name.get(name)) is not None:
                link.send(line(topic, b""))

    async def close(self) -> None:
        """End all connections, when everything is said."""
        await asyncio.gather(*(link.close(CLOSE_SECONDS) for link in self._links.values()))
        self._links.clear()
        self._by_name.clear()
        if self._session is not None:
            await self._session.close()

    def _link(self, peer: Subscriber) -> Link | None:
        """Return the connection to a peer, which may have yet to be made; None where there are too many."""
        link = self._links.get(peer)
        if link is not None and not self._rested(link):
            return link
        if link is None and len(self._links) >= MAX_LINKS:
            for other in [other for other in self._links.values() if self._rested(other)]:
                self._forget(other)
            if len(self._links) >= MAX_LINKS:
                return None
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        link = Link(peer, self.replica, session=self._session, allowed=self._allowed, observer=self._observer)
        self._links[peer] = self._by_name[peer.name] = link
        return link

    @staticmethod
    def _rested(link: Link) -> bool:
        return link.over_at is not None and asyncio.get_running_loop().time() - link.over_at > REST_SECONDS

    def _forget(self, link: Link) -> None:
        del self._links[link.peer]
        if self._by_name.get(link.peer.name) is link:
            del self._by_name[link.peer.name]
