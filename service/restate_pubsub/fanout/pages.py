"""Catch-up pages of all topics: bounded in bytes, the least recently used go first, and none stays unused for long.

Readers hold no page. So one that takes nothing costs the chunk that is being written to it, and no more.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from restate_pubsub.fanout.frames import Frames
    from restate_pubsub.fanout.ring_memory import RingMemory

READ_BYTES = 4 * 1024 * 1024
"""What a reader that takes all of it asks for in one read."""
UNUSED_SECONDS = 5.0
"""How long a page stays that nobody takes from: the herd after a restart comes within seconds."""
SHARE = 4
"""The part of the memory for messages that pages may have is one in so many; and so are the reads under way."""
READS_AT_ONCE = 8


@dataclass(eq=False, slots=True)
class Page:
    """Messages that were read again, joined or each as it was written, and whom to tell when they are forgotten."""

    frames: Frames
    join: bool
    forget: Callable[[Page], None]
    used_at: float = 0.0


class Pages:
    """The pages, in the order in which they were last used, and how many reads may be under way."""

    def __init__(self, max_bytes: int, memory: RingMemory) -> None:
        """Take a share of `max_bytes`, which is what `memory` has for everything."""
        self.size = 0
        self.reads = asyncio.Semaphore(max(1, min(READS_AT_ONCE, max_bytes // SHARE // READ_BYTES)))
        """Each read holds one: what is being read is bounded as well, and others wait for their turn."""
        self._max = max_bytes // SHARE
        self._memory = memory
        self._pages: OrderedDict[Page, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, page: Page) -> None:
        """Keep a page; its `forget` is called when it has to go, which may be at once."""
        page.used_at = asyncio.get_running_loop().time()
        self._pages[page] = None
        self.size += page.frames.size
        self._make_room(self._max)
        self._memory.holds(self, self.size)
        self._watch()

    def used(self, page: Page) -> None:
        """Note that somebody takes from a page."""
        if page in self._pages:
            page.used_at = asyncio.get_running_loop().time()
            self._pages.move_to_end(page)

    def drop(self, page: Page) -> None:
        """Forget a page; nobody is told."""
        if page in self._pages:
            del self._pages[page]
            self.size -= page.frames.size
            self._memory.holds(self, self.size)

    def give_up(self, size: int) -> int:
        """Forget pages of at least `size` bytes, or all; return how many bytes are left."""
        self._make_room(max(self.size - size, 0))
        return self.size

    def close(self) -> None:
        """Look after nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _make_room(self, max_bytes: int) -> None:
        while self.size > max_bytes:
            page, _ = self._pages.popitem(last=False)
            self.size -= page.frames.size
            page.forget(page)

    def _watch(self) -> None:
        if self._timer is None and self._pages:
            self._timer = asyncio.get_running_loop().call_at(
                next(iter(self._pages)).used_at + UNUSED_SECONDS, self._expire
            )

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        kept = self.size
        while self._pages and (oldest := next(iter(self._pages))).used_at + UNUSED_SECONDS <= now:
            del self._pages[oldest]
            self.size -= oldest.frames.size
            oldest.forget(oldest)
        if self.size != kept:
            self._memory.holds(self, self.size)
        self._watch()
