"""What one process knows of a topic's log: where it begins and ends, and its recent messages. Pure: no I/O, no loop.

Everything new goes through `learn`, in whatever way it came. What readers may ask changes nothing: `begin` says where
one starts, `next` what it gets from where it is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, NamedTuple

from restate_pubsub.fanout.ring import Ring
from restate_pubsub.fanout.steps import Chunk, Encode, End, Reset
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.names import RESTART_EVENT


@dataclass(frozen=True, slots=True)
class Start:
    """Where a reader wants to begin: at an offset, at the latest (what comes next), or at the last so many.

    `resumes`: it has read before, so at the end of a closed topic it need not be told once more.
    """

    kind: Literal["offset", "latest", "last"] = "offset"
    value: int = 0
    resumes: bool = False


class Begin(NamedTuple):
    """Where a reader begins: the offset that it gets first, and the epoch in which offsets have that meaning."""

    offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Located:
    """The log has said where the topic is; `asked_at` is the window's tail when it was asked.

    `whole` is the topic's bytes where it may be read as a whole.
    """

    head: int
    tail: int
    closed: bool
    asked_at: int
    whole: int | None = None


@dataclass(frozen=True, slots=True)
class HeadMoved:
    """The log has said, in passing, that nothing below `head` is there any more."""

    head: int


News = Located | Batch | HeadMoved


@dataclass(frozen=True, slots=True)
class Learnt:
    """What news did to the window.

    `changed`: whoever waits has something to look at. `arrived`: so many new messages. `gap`: messages are missing
    before those of the news, which were left out. `jumped`: the tail is another one without messages, so a pull from
    the old one may wait in vain. `lost`: the topic's counter went back, and offsets from before mean nothing.
    """

    changed: bool = False
    arrived: int = 0
    gap: bool = False
    jumped: bool = False
    lost: bool = False


class Unknown(enum.Enum):
    """Why it cannot be said yet where a reader begins."""

    NOT_LOCATED = "nobody has asked the log yet"
    ASK = "only the log can tell: this process may know too little"


class Missing(enum.Enum):
    """What a reader needs and the window does not have."""

    OLDER = "what follows is older than the ring: it has to be read again"
    NEWER = "nothing follows yet"


class Window:
    """`[head, tail)` of one topic, with the newest messages in a ring."""

    def __init__(self, encode: Encode, max_bytes: int) -> None:
        """Keep at most `max_bytes` of encoded messages."""
        self.ring = Ring()
        self.head = 0
        self.epoch = 0
        """Goes up when the topic's counter was lost."""
        self.located = False
        self.restarted = -1
        """Where the newest event is, of those that came here, that replaces an attempt of a stream."""
        self.whole: int | None = None
        """About how many bytes the topic has, where it may be read as a whole."""
        self._end: int | None = None
        self._encode = encode
        self._max_bytes = max_bytes

    @property
    def tail(self) -> int:
        """The offset after the newest message that is known."""
        return self.ring.tail

    @property
    def closed(self) -> bool:
        """Whether nothing will follow the tail."""
        return self._end is not None and self.tail >= self._end

    # --- what is learnt ------------------------------------------------------------------------------------------

    def learn(self, news: News) -> Learnt:
        """Take in what is new of the news, and say what that has changed."""
        before, tail, epoch = self._state(), self.tail, self.epoch
        arrived, gap = 0, False
        if isinstance(news, Located):
            self._locate(news)
        elif not self.located:
            return Learnt()  # the position that comes first is read after this
        elif isinstance(news, HeadMoved):
            self._raise_head(news.head)
        else:
            arrived, gap = self._accept(news)
        return Learnt(
            changed=self._state() != before,
            arrived=arrived,
            gap=gap,
            jumped=self.tail != tail + arrived,
            lost=self.epoch != epoch,
        )

    def _state(self) -> tuple[object, ...]:
        """Return all that a reader's next step depends on."""
        return self.located, self.epoch, self.head, self.tail, self.closed

    def _locate(self, news: Located) -> None:
        if not self.located or news.tail < news.asked_at:
            self.epoch += self.located
            self.located = True
            self.ring.clear(news.tail)
            self.restarted = -1
            self.head = news.head
            self._end = None
        self._raise_head(news.head)
        self.whole = news.whole
        if news.tail >= self.tail:  # otherwise it was said before what has come since
            self._end = news.tail if news.closed else None

    def _accept(self, batch: Batch) -> tuple[int, bool]:
        """Return how many messages were new, and whether some are missing before them."""
        if batch.head is not None and batch.offset > self.tail:
            self._raise_head(batch.head)  # what seems to be missing may be gone
        if batch.offset > self.tail:
            return 0, True
        arrived = 0
        if batch.next_offset >= self.tail:
            new = batch.messages[self.tail - batch.offset :]
            arrived = len(new)
            for at, message in enumerate(new, self.tail):
                if message.event == RESTART_EVENT:
                    self.restarted = at
            if self.whole is not None:
                self.whole += sum([len(message.data) for message in new])
            self.ring.extend([self._encode(at, message) for at, message in enumerate(new, self.tail)])
            self._end = batch.next_offset if batch.closed else None
        if batch.head is not None:
            self._raise_head(batch.head)
        self.ring.shrink(self._max_bytes)
        return arrived, False

    def _raise_head(self, head: int) -> None:
        """Forget what lies below a head that has moved: it must not be shown any more."""
        if head > self.head:
            self.head = head
            self.ring.drop_below(head)

    def give_up(self, size: int) -> int:
        """Forget recent messages of at least `size` bytes, the oldest first, or all; return how many are left.

        A reader that has not taken them yet reads them again.
        """
        self.ring.shrink(max(self.ring.size - size, 0))
        return self.ring.size

    # --- what readers ask ----------------------------------------------------------------------------------------

    def begin(self, start: Start, asked: int | None = None) -> Begin | Reset | Unknown:
        """Return where a reader begins; a reset where that is gone, and it goes on at the head.

        `asked` is the tail that the log has told for this reader. Without it, what only the log can tell is `ASK`: a
        closed topic may have been deleted since and be open again, and an offset past what this process knows may
        come from a replica that knows more.
        """
        if not self.located:
            return Unknown.NOT_LOCATED
        if asked is None and (self.closed or (start.kind == "offset" and start.value > self.tail)):
            return Unknown.ASK
        known = max(asked or 0, self.tail)
        if start.kind == "latest":
            return Begin(self.tail, self.epoch)
        if start.kind == "last":
            return Begin(max(self.head, self.tail - start.value), self.epoch)
        if start.value < self.head or (start.value > known and not self.closed):
            return Reset(start.value, self.head, known)
        return Begin(start.value, self.epoch)

    def next(self, offset: int, epoch: int) -> Chunk | Reset | End | Missing:
        """Return what a reader gets from `offset` on, which had a meaning in that epoch."""
        ring = self.ring
        if epoch != self.epoch or offset < self.head:
            return Reset(offset, self.head, ring.tail)
        if offset >= ring.tail:
            return Missing.NEWER if self._end is None or ring.tail < self._end else End(ring.tail)
        return ring.take(offset) if offset >= ring.base else Missing.OLDER
