"""Whom a write hands its news to: the readers of this process, and the replicas whose subscriptions say where."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import aiohttp

from restate_pubsub.peers.link import Link
from restate_pubsub.protocol.calls import encode_notification
from restate_pubsub.protocol.peers import Subscriber, line

if TYPE_CHECKING:
    from restate_pubsub.peers.allowed import AllowedPeers
    from restate_pubsub.peers.observer import PeerObserver
    from restate_pubsub.protocol.messages import Batch, Place

MOST_BYTES = 1024 * 1024
"""News larger than this are pulled by each replica, in parts."""
MAX_LINKS = 64
"""Peers that are known at a time, whatever subscriptions say; what is above goes through Restate."""
REST_SECONDS = 10.0
"""After it was given up, or was refused, a peer is tried again when it subscribes, but not before this time."""
CLOSE_SECONDS = 1.0


class LocalReaders(Protocol):
    """The readers in this process. None of it may raise."""

    def follows(self, topic: str) -> bool:
        """Whether anybody here reads the topic."""

    def opened(self, topic: str, opening: str, place: Place) -> bool:
        """Take a topic's position that the pull of an opening has read; return whether that is to wait."""

    def read(self, reading: str, batch: Batch) -> bool:
        """Take what was read for somebody here; return whether it is still waited for."""

    def deliver(self, topic: str, batch: Batch) -> None:
        """Take durable news of a topic."""

    def expect_tail(self, topic: str, tail: int) -> None:
        """A write ran here that may not have been handed over: the topic goes up to `tail`."""

    def delivery_uncertain(self, topic: str) -> None:
        """A write was cut off before it was delivered: ask Restate."""


class Peers:
    """The object's `Readers`."""

    def __init__(self, here: Subscriber, local: LocalReaders, allowed: AllowedPeers, observer: PeerObserver) -> None:
        """`here` is this replica as its subscriptions name it. Nobody is known at first: whoever subscribes is."""
        self._here = here
        self._local = local
        self._allowed = allowed
        self._observer = observer
        self._links: dict[Subscriber, Link] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def replica(self) -> str:
        """This process's name among all."""
        return self._here.name

    def meet(self, subscriber: str) -> None:
        """Connect to whoever pulls, if it is a peer that is new."""
        if (peer := self._peer(subscriber)) is not None:
            self._link(peer)

    def opened(self, topic: str, subscriber: str, opening: str, place: Place) -> bool:
        """Tell the topic's position to the readers here, if it is this replica that opens it."""
        return Subscriber.read(subscriber) == self._here and self._local.opened(topic, opening, place)

    def read(self, subscriber: str, reading: str, batch: Batch) -> bool:
        """Hand what was read to the readers here, if it is this replica that asked for it."""
        return Subscriber.read(subscriber) == self._here and self._local.read(reading, batch)

    def takers(self, topic: str, waiting: Iterable[str], news: Batch) -> list[str]:
        """Return the marks of the replicas that can be handed the news.

        A topic that ends is told to everybody through Restate, and so are news that are large.
        """
        takers = [self._here.mark] if self._local.follows(topic) else []
        small = sum(len(message.data) for message in news.messages) <= MOST_BYTES and not news.closed
        for text in waiting:
            if (peer := self._peer(text)) is None:
                continue
            link = self._link(peer)
            if link is not None and link.ready and small:
                takers.append(peer.mark)
            else:
                self._observer.fell_back()
        return takers

    def deliver(self, topic: str, news: Batch, takers: Collection[str], waiting: Iterable[str]) -> None:
        """Hand durable news to those of the subscribers that are takers, and to this process if it is one."""
        if self._here.mark in takers:
            self._local.deliver(topic, news)
        said = b""
        for link in self._known(takers, waiting):
            said = said or line(topic, encode_notification(news))
            if link.send(said):
                self._observer.handed_over()

    def expect_tail(self, topic: str, tail: int) -> None:
        """See to it that this process gets to `tail`; the others are told by whoever runs a write."""
        self._local.expect_tail(topic, tail)

    def delivery_uncertain(self, topic: str, takers: Collection[str], waiting: Iterable[str]) -> None:
        """Have whoever was to be handed news ask Restate."""
        self._local.delivery_uncertain(topic)
        for link in self._known(takers, waiting):
            link.send(line(topic, b""))

    async def close(self) -> None:
        """End all connections, when everything is said."""
        await asyncio.gather(*(link.close(CLOSE_SECONDS) for link in self._links.values()))
        self._links.clear()
        if self._session is not None:
            await self._session.close()

    def _peer(self, text: str) -> Subscriber | None:
        """Return a peer by its subscription; None where it is this replica, or has no address, or may have none."""
        peer = Subscriber.read(text)
        return peer if peer.url and peer != self._here and self._allowed else None

    def _known(self, takers: Collection[str], waiting: Iterable[str]) -> Iterator[Link]:
        for peer in map(Subscriber.read, waiting):
            if peer.mark in takers and (link := self._links.get(peer)) is not None:
                yield link

    def _link(self, peer: Subscriber) -> Link | None:
        """Return the connection to a peer, which may have yet to be made; None where there are too many."""
        link = self._links.get(peer)
        if link is not None and not self._rested(link):
            return link
        if link is None and len(self._links) >= MAX_LINKS:
            for other in [other for other in self._links.values() if self._rested(other)]:
                del self._links[other.peer]
            if len(self._links) >= MAX_LINKS:
                return None
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        link = Link(peer, self._here.name, session=self._session, allowed=self._allowed, observer=self._observer)
        self._links[peer] = link
        return link

    @staticmethod
    def _rested(link: Link) -> bool:
        return link.over_at is not None and asyncio.get_running_loop().time() - link.over_at > REST_SECONDS
