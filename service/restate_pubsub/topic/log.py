"""The log of one topic as arithmetic: bounds, pages, windows, truncation. No I/O, no Restate.

A topic is a run of offsets `[head, tail)`. Each message lies in a state key of its own (`m_<offset>`) until
its page of `PAGE` offsets is full; then the page is *sealed*: one key (`p_<page>`) takes its messages and the
`m_` keys go. A full page that is not sealed is *loose*: one whose messages would be too many bytes for one state value
stays so for ever, any other until the write that filled it has told its readers.

Functions here take the bounds and say what to read, write and clear; `handlers` does it. So what is true of
the log (bounds never go back, what was appended is read back in order) can be tested without a server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = 64
"""Offsets in a page; part of the state's contract (`p_<offset // 64>`)."""

PAGE_MAX_BYTES = 256 * 1024
"""A page over this is not sealed: Restate takes 32 MiB in one value, and a page is rewritten as a whole."""

CARRY_BYTES = 16 * 1024
"""How many bytes of the open page's messages the metadata carries as well.

What it carries needs no reading when the page is sealed, or when a reader asks for the newest messages: for tokens that
is all of a page, and without it each of them would cost a read of its own, 64 in one write."""

SEAL_AT_ONCE = 16
"""A batch that brings a page more messages than this seals it before anybody is told; a smaller one afterwards.

Sealing later costs two more journal entries for each of the batch's messages, but its readers need not wait until what
the page had before is loaded: 64 publishes in a row would else have one that is 9 ms later than the others. Nothing is
loaded where the metadata carries it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a topic's metadata says.

    `open_bytes`, `open_events` (event names by offset) and `open_data` (the JSON of those that are carried, by offset)
    are of the messages in the tail's page. Everything below `swept` is physically gone; what lies between it and `head`
    is what truncation still owes. `size` is the bytes of the messages stored from `sized_from` on: a topic that another
    implementation began has messages nobody counted. `timer` names the pending idle timer, 0 for none.
    """

    head: int = 0
    tail: int = 0
    closed: bool = False
    open_bytes: int = 0
    open_events: Mapping[int, str] = field(default_factory=dict)
    open_data: Mapping[int, bytes] = field(default_factory=dict)
    swept: int = 0
    size: int = 0
    sized_from: int = 0
    timer: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a topic is kept; None is no limit. `idle` is in seconds."""

    messages: int | None = None
    size: int | None = None
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class LoosePage:
    """A full page that lies in `m_` keys: its counted bytes, and its event names by offset."""

    size: int
    events: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class PageWrite:
    """Seal page `page` with the messages of `[start, stop)`: all of it that is not swept."""

    page: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """How a batch is written.

    Load and clear the `m_` keys `load`, which go into the first of `pages` (what the old bounds carry is loaded
    already); write `pages` and `keys` and what is known of full pages that are `loose`; then `bounds` holds. `later` is
    a loose page that is to be sealed after that.
    """

    bounds: Bounds
    load: range
    pages: tuple[PageWrite, ...]
    keys: tuple[int, ...]
    loose: Mapping[int, LoosePage]
    later: PageWrite | None = None


def page_of(offset: int) -> int:
    """Return the page that holds `offset`."""
    return offset // PAGE


def plan_append(bounds: Bounds, data: Sequence[bytes], events: Mapping[int, str], *, close: bool = False) -> AppendPlan:
    """Plan the append of messages whose JSON is `data`; `events` names some of them by offset.

    A page is sealed when it is full, if its messages are known to fit. Those of the first page that are stored
    already are known if they were counted.
    """
    sizes = [len(text) for text in data]
    stop = bounds.tail + len(sizes)
    load = range(0)
    pages: list[PageWrite] = []
    keys: list[int] = []
    loose: dict[int, LoosePage] = {}
    later = None
    open_bytes, open_events, open_data = bounds.open_bytes, dict(bounds.open_events), dict(bounds.open_data)
    offset = bounds.tail
    while offset < stop:
        page = page_of(offset)
        end = min((page + 1) * PAGE, stop)
        open_bytes += sum(sizes[offset - bounds.tail : end - bounds.tail])
        open_events |= {at: name for at, name in events.items() if offset <= at < end}
        start = min(max(page * PAGE, bounds.swept), offset)
        if end % PAGE:  # the batch ends inside this page: it stays open
            keys.extend(range(offset, end))
            open_data |= _carried(open_data, offset, data[offset - bounds.tail :])
            break
        fits = open_bytes <= PAGE_MAX_BYTES and start >= bounds.sized_from
        at_hand = all(at in open_data for at in range(start, offset))
        if fits and (at_hand or end - offset > SEAL_AT_ONCE):
            pages.append(PageWrite(page, start, end))
            load = range(start, offset) or load
        else:
            keys.extend(range(offset, end))
            loose[page] = LoosePage(open_bytes, open_events)
            later = PageWrite(page, start, end) if fits else later
        open_bytes, open_events, open_data, offset = 0, {}, {}, end
    grown = replace(
        bounds,
        tail=stop,
        closed=bounds.closed or close,
        open_bytes=open_bytes,
        open_events=open_events,
        open_data=open_data,
        size=bounds.size + sum(sizes),
    )
    return AppendPlan(grown, load, tuple(pages), tuple(keys), loose, later)


def _carried(before: Mapping[int, bytes], offset: int, data: Sequence[bytes]) -> dict[int, bytes]:
    """Return which of the messages from `offset` on fit in the metadata beside those of `before`."""
    room = CARRY_BYTES - sum(map(len, before.values()))
    carried = {}
    for at, text in enumerate(data, offset):
        if len(text) <= room:
            carried[at] = text
            room -= len(text)
    return carried


def truncated(bounds: Bounds, head: int) -> Bounds:
    """Move the head up to `head`, never back and never past the tail."""
    head = min(max(bounds.head, head), bounds.tail)
    events = {at: name for at, name in bounds.open_events.items() if at >= head}
    return replace(bounds, head=head, open_events=events)


def retained(bounds: Bounds, retention: Retention) -> Bounds:
    """Truncate to the number of messages that are kept."""
    return bounds if retention.messages is None else truncated(bounds, bounds.tail - retention.messages)


def emptied(bounds: Bounds) -> Bounds:
    """Keep nothing but the counter: an offset never means two messages."""
    at = bounds.tail
    return Bounds(head=at, tail=at, swept=at, sized_from=at)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What to look at before clearing: full pages, each one sealed key or else its `m_` keys from `first` on, and
    `m_` keys of the open page.
    """

    pages: tuple[int, ...]
    first: int
    keys: range

    def __bool__(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.pages or self.keys)


SWEEP_KEYS = 8
"""How many messages of the open page one write looks at when the topic is over its size."""


def plan_sweep(bounds: Bounds, retention: Retention, max_pages: int) -> SweepPlan:
    """Plan to clear what lies below the head, and more if the topic is over its size; at most `max_pages` pages."""
    over = _over(bounds.size, retention)
    open_page = page_of(bounds.tail)
    first = page_of(bounds.swept)
    # A topic over its size loses whole pages, but never the one with the newest message.
    last = min(max(page_of(bounds.head), page_of(bounds.tail - 1) if over else 0), first + max_pages)
    pages = tuple(range(first, last))
    keys = range(0)
    if max(first, last) == open_page:
        start = max(bounds.swept, open_page * PAGE)
        stop = max(bounds.head, min(start + SWEEP_KEYS, bounds.tail - 1)) if over else bounds.head
        keys = range(start, stop)
    return SweepPlan(pages, bounds.swept, keys)


def settle(
    bounds: Bounds, plan: SweepPlan, retention: Retention, page_sizes: Mapping[int, int], key_sizes: Mapping[int, int]
) -> tuple[Bounds, tuple[int, ...], range]:
    """Say, now that the sizes are known, which pages and `m_` keys are cleared, and what holds afterwards."""
    head, swept, size, open_bytes = bounds.head, bounds.swept, bounds.size, bounds.open_bytes
    pages: list[int] = []
    for page in plan.pages:
        end = (page + 1) * PAGE
        if end > head and not _over(size, retention):
            break
        head, swept, size = max(head, end), max(swept, end), size - page_sizes[page]
        pages.append(page)
    stop = plan.keys.start
    if len(pages) == len(plan.pages):
        for at in plan.keys:
            if at >= head and not _over(size, retention):
                break
            counted = key_sizes[at] if at >= bounds.sized_from else 0
            head, stop, size, open_bytes = max(head, at + 1), at + 1, size - counted, open_bytes - counted
        swept = max(swept, stop)
    settled = replace(
        truncated(bounds, head),
        swept=swept,
        size=max(size, 0),
        open_bytes=max(open_bytes, 0),
        open_data={at: text for at, text in bounds.open_data.items() if at >= swept},
    )
    return settled, tuple(pages), range(plan.keys.start, stop)


def _over(size: int, retention: Retention) -> bool:
    return retention.size is not None and size > retention.size


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Where the messages of `[start, stop)` lie: `pages` are full, the rest are `m_` keys of the open page."""

    start: int
    stop: int
    pages: tuple[int, ...]
    keys: range


def plan_read(bounds: Bounds, offset: int, limit: int) -> ReadPlan:
    """Plan to read at most `limit` messages from `offset`; `head <= offset <= tail`."""
    stop = min(bounds.tail, offset + limit)
    open_start = page_of(bounds.tail) * PAGE
    pages = tuple(range(page_of(offset), page_of(max(offset, min(stop, open_start)) + PAGE - 1)))
    keys = range(max(offset, open_start), stop)
    return ReadPlan(offset, stop, pages if offset < open_start else (), keys)
