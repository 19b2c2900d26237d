"""What peers tell whoever watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from restate_pubsub.peers.refused import Reason


class PeerObserver(Protocol):
    """Counts for metrics. Calls come from the event loop and must be quick."""

    def handed_over(self) -> None:
        """A write's news went to a peer."""

    def fell_back(self) -> None:
        """A write's news could not go to a peer that has an address: its pull is answered instead."""

    def peer_refused(self, reason: Reason) -> None:
        """A connection was refused."""

    def peers_connected(self, change: int) -> None:
        """One more connection to a peer is open, or one less."""
