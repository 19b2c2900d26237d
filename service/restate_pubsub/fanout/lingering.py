"""Feeds that nobody reads any more, and that stay a while for who may come back. One timer watches all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restate_pubsub.fanout.feed import Feed


class Lingering:
    """The feeds, in the order in which their time is over."""

    def __init__(self, seconds: float, retire: Callable[[Feed], None]) -> None:
        """Each stays for so many seconds; then `retire` is called."""
        self._seconds = seconds
        self._retire = retire
        self._feeds: dict[Feed, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def put_in(self, feed: Feed) -> None:
        """Let a feed stay a while from now on."""
        self._feeds.pop(feed, None)
        self._feeds[feed] = asyncio.get_running_loop().time() + self._seconds
        self._watch()

    def take_out(self, feed: Feed) -> None:
        """Let a feed stay: it has a reader again."""
        self._feeds.pop(feed, None)

    def end(self) -> None:
        """Retire all now, and from now on each as soon as it comes."""
        self._seconds = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        feeds, self._feeds = list(self._feeds), {}
        for feed in feeds:
            self._retire(feed)

    def _watch(self) -> None:
        if self._timer is None and self._feeds:
            self._timer = asyncio.get_running_loop().call_at(next(iter(self._feeds.values())), self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._feeds and self._feeds[oldest := next(iter(self._feeds))] <= now:
            del self._feeds[oldest]
            self._retire(oldest)
        self._watch()
