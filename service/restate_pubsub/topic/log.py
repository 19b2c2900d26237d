"""The log of one topic as arithmetic: bounds, pages, windows, truncation. No I/O, no Restate.

A topic is a run of offsets `[head, tail)`. Each message lies in a state key of its own (`m_<offset>`) until its page
of `PAGE` offsets is full. Then the page is *sealed*: one key (`p_<page>`) takes its messages and the `m_` keys go.
Some full pages are *unsealed*: those whose messages are too many bytes for one value stay so for ever, others until
the write that filled them has told its readers. What is known of an unsealed page lies in `e_<page>`.

Functions here take the bounds and say what to read, write and clear; `read` and `write` do it. So what is true of the
log (bounds never go back, what was appended is read back in order) can be tested without a server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from restate_pubsub.topic.policy import Retention

PAGE = 64
"""Offsets in a page; part of the state's contract (`p_<offset // 64>`)."""

PAGE_MAX_BYTES = 256 * 1024
"""A page over this is not sealed: Restate takes 32 MiB in one value, and a page is rewritten as a whole."""

INLINE_BYTES = 16 * 1024
"""So many bytes of the open page's messages stand in the metadata as well.

What stands there needs no reading when the page is sealed, or when a reader asks for the newest messages. Of tokens
that is the whole page; without it each token would cost a read of its own, 64 in one write."""

SMALL = 16
"""A batch of at most so many messages that stays in the open page leaves no more than these keys if it is killed.

Later messages are written over them, and whoever writes the page as a whole clears so many as well."""

SEAL_AT_ONCE = 16
"""A batch that brings a page more messages than this seals it before anybody is told; a smaller one afterwards.

Sealing later costs two more journal entries for each of the batch's messages, but its readers need not wait until the
rest of the page is loaded: of 64 publishes in a row, one would else be 9 ms later than the others. Nothing is loaded
where the metadata has the messages."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages `[start, stop)` of one page that one writer declared to continue one another in one field.

    `continues`: so does the first of them the message before it, which lies in the page before.
    """

    start: int
    stop: int
    field: str
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Joining:
    """How messages are declared to continue one another: in which field, and whose they are."""

    field: str
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a topic's metadata says of its log.

    `open_events` (event names by offset), `open_data` (the JSON of those that are inlined) and `open_sizes` (the bytes
    of those that are not) are of the messages in the tail's page. What lies below `swept` is counted no more, and is
    cleared by the call that moved it. What lies between it and `head` is not cleared yet. `size` is the bytes of the
    messages stored from `sized_from` on: a topic that another implementation began has messages nobody counted.
    `open_joins` says which messages of the tail's page continue one another, and `last_join` whether the next message
    may continue the newest one, wherever that lies.
    """

    head: int = 0
    tail: int = 0
    closed: bool = False
    open_events: Mapping[int, str] = field(default_factory=dict)
    open_data: Mapping[int, bytes] = field(default_factory=dict)
    open_sizes: Mapping[int, int] = field(default_factory=dict)
    swept: int = 0
    size: int = 0
    sized_from: int = 0
    open_joins: tuple[Stretch, ...] = ()
    last_join: Joining | None = None

    def open_size(self, offset: int) -> int:
        """Return the counted bytes of a message in the tail's page."""
        return len(self.open_data[offset]) if offset in self.open_data else self.open_sizes.get(offset, 0)

    def has_inlined(self, offset: int) -> bool:
        """Whether all messages from `offset` on are inlined: they are read without asking for more."""
        return all(at in self.open_data for at in range(offset, self.tail))


@dataclass(frozen=True, slots=True)
class UnsealedPage:
    """A full page that lies in `m_` keys: its event names and its counted bytes, by offset, and what continues."""

    events: Mapping[int, str] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)
    joins: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class PageWrite:
    """Seal page `page` with the messages of `[start, stop)`: all of it that is not swept."""

    page: int
    start: int
    stop: int
    joins: tuple[Stretch, ...] = ()


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """How a batch is written.

    Load the `m_` keys `load`, which go into the first of `pages` (what the old bounds have inline is loaded already);
    write `pages` and `keys` and what is known of full pages that are `unsealed`; then `bounds` holds. `later` is an
    unsealed page that is to be sealed after that. `obsolete` are `m_` keys that the pages have taken, or that a killed
    write may have left where they begin.
    """

    bounds: Bounds
    load: range
    pages: tuple[PageWrite, ...]
    keys: tuple[int, ...]
    unsealed: Mapping[int, UnsealedPage]
    later: PageWrite | None = None
    obsolete: range = range(0)

    @property
    def touched(self) -> int:
        """How many pages it fills."""
        return len(self.pages) + len(self.unsealed)

    @property
    def small(self) -> bool:
        """Whether it brings a few keys of the open page: what it leaves if it is killed, later writes make good."""
        return not self.pages and not self.unsealed and len(self.keys) <= SMALL


def page_of(offset: int) -> int:
    """Return the page that holds `offset`."""
    return offset // PAGE


def plan_append(
    bounds: Bounds,
    data: Sequence[bytes],
    events: Mapping[int, str],
    *,
    close: bool = False,
    pages: bool = True,
    join: Joining | None = None,
    joined_from: int = 0,
) -> AppendPlan:
    """Plan the append of messages whose JSON is `data`; `events` names some of them by offset.

    A page is sealed when it is full, if its messages are known to fit. Those of the first page that are stored already
    are known if they were counted. Without `pages` none is, and nothing is joined. `join`: the messages from offset
    `joined_from` on are declared to continue one another.
    """
    if not pages:
        join, bounds = None, replace(bounds, open_joins=(), last_join=None)
    first, stop = bounds.tail, bounds.tail + len(data)
    load = obsolete = range(0)
    writes: list[PageWrite] = []
    keys: list[int] = []
    unsealed: dict[int, UnsealedPage] = {}
    later = None
    page = replace(bounds)
    offset = first
    while offset < stop:
        number = page_of(offset)
        end = min((number + 1) * PAGE, stop)
        new, names = data[offset - first : end - first], _between(events, offset, end)
        declared = join if end > joined_from else None
        if declared is not None:
            continues = offset >= joined_from and page.last_join == declared
            page = _stretched(page, range(max(offset, joined_from), end), declared, continues=continues)
        page = replace(page, last_join=declared)
        if end % PAGE:  # the batch ends inside this page: it stays open
            keys.extend(range(offset, end))
            page = _filled(page, offset, new, names)
            break
        start = min(max(number * PAGE, bounds.swept), offset)
        sizes = [*map(bounds.open_size, range(start, offset)), *map(len, new)]
        fits = pages and sum(sizes) <= PAGE_MAX_BYTES and start >= bounds.sized_from
        at_hand = all(at in bounds.open_data for at in range(start, offset))
        if fits and (at_hand or end - offset > SEAL_AT_ONCE):
            writes.append(PageWrite(number, start, end, page.open_joins))
            if offset == first:
                load, obsolete = range(start, offset), range(start, min(offset + SMALL, end))
        else:
            keys.extend(range(offset, end))
            named, sized = {**page.open_events, **names}, dict(zip(range(start, end), sizes, strict=True))
            unsealed[number] = UnsealedPage(named, sized, page.open_joins)
            later = PageWrite(number, start, end, page.open_joins) if fits else later
        page, offset = replace(page, open_events={}, open_data={}, open_sizes={}, open_joins=()), end
    grown = replace(page, tail=stop, closed=bounds.closed or close, size=bounds.size + sum(map(len, data)))
    return AppendPlan(grown, load, tuple(writes), tuple(keys), unsealed, later, obsolete)


def _stretched(page: Bounds, offsets: range, join: Joining, *, continues: bool) -> Bounds:
    """Add messages that continue one another to the open page; `continues`: they do so the message before them."""
    before = page.open_joins
    if continues and before and before[-1].stop == offsets.start:
        grown = (*before[:-1], replace(before[-1], stop=offsets.stop))
    else:
        grown = (*before, Stretch(offsets.start, offsets.stop, join.field, continues))
    return replace(page, open_joins=grown)


def _between(events: Mapping[int, str], start: int, stop: int) -> dict[int, str]:
    """Return the event names of `[start, stop)`."""
    return {at: events[at] for at in range(start, stop) if at in events} if events else {}


def _filled(page: Bounds, offset: int, data: Sequence[bytes], names: Mapping[int, str]) -> Bounds:
    """Add messages to the open page: inline as many as there is room for."""
    room = INLINE_BYTES - sum(map(len, page.open_data.values()))
    inlined, sizes = dict(page.open_data), dict(page.open_sizes)
    for at, text in enumerate(data, offset):
        if len(text) <= room:
            inlined[at] = text
            room -= len(text)
        else:
            sizes[at] = len(text)
    return replace(page, open_events={**page.open_events, **names}, open_data=inlined, open_sizes=sizes)


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
    """What to clear from `start` on: full `pages` have to be looked at; `open` says that the open page is next."""

    start: int
    pages: range
    open: bool

    def __bool__(self) -> bool:
        """Whether there is anything to clear."""
        return bool(self.pages) or self.open


def plan_sweep(bounds: Bounds, retention: Retention, max_pages: int, *, singly: bool = False) -> SweepPlan:
    """Plan to clear what lies below the head, and more if the topic is over its size; at most `max_pages` pages.

    `singly`: also single small messages of the open page, which otherwise go with their page.
    """
    over = _over(bounds.size, retention)
    open_page = page_of(bounds.tail)
    first = page_of(bounds.swept)
    # A topic over its size loses its oldest messages, but never the newest one.
    limit = max(bounds.head, bounds.tail - 1 if over else 0)
    if limit <= bounds.swept:
        return SweepPlan(bounds.swept, range(first, first), open=False)
    # Of a page that only partly goes, single messages are cleared where they are large, and in keys of their own.
    wanted = page_of(limit + PAGE - 1 if _large(bounds) else limit)
    last = max(first, min(wanted, open_page, first + max_pages))
    open_start = max(bounds.swept, open_page * PAGE)
    single = (singly or over or _large(bounds)) and last == open_page and limit > open_start
    return SweepPlan(bounds.swept, range(first, last), open=single)


def _large(bounds: Bounds) -> bool:
    """Whether the topic's messages are so large that its pages stay unsealed."""
    counted = bounds.tail - max(bounds.swept, bounds.sized_from)
    return bounds.size * PAGE > counted * PAGE_MAX_BYTES


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep clears, page by page: sealed `pages`, whole `unsealed` pages, and single `m_` keys; then `bounds`.

    Of a page that is partly cleared the rest stays, with what is known of it. `more`: another sweep finds something.
    """

    bounds: Bounds
    pages: Sequence[int] = ()
    unsealed: Sequence[int] = ()
    keys: Sequence[int] = ()
    more: bool = False


def finish_sweep(
    bounds: Bounds,
    plan: SweepPlan,
    retention: Retention,
    sealed: Mapping[int, int],
    unsealed: Mapping[int, UnsealedPage],
) -> Sweep:
    """Say what is cleared, now that the pages are known: the bytes of `sealed` ones, and the `unsealed` ones."""
    head, swept, size = bounds.head, bounds.swept, bounds.size
    pages: list[int] = []
    whole: list[int] = []
    keys: list[int] = []

    def goes(at: int) -> bool:
        return at < head or (_over(size, retention) and at < bounds.tail - 1)

    complete = True
    for page in plan.pages:
        end = (page + 1) * PAGE
        if page in sealed:
            if not goes(end - 1):
                complete = False
                break
            size -= sealed[page]
            pages.append(page)
            swept = end
            continue
        about = unsealed[page]
        while swept < end and goes(swept):
            size -= about.sizes.get(swept, 0)
            keys.append(swept)
            swept += 1
            head = max(head, swept)
        if swept < end:
            complete = False
            break
        whole.append(page)
    if complete and plan.open:
        start = max(swept, page_of(bounds.tail) * PAGE)
        for at in range(start, bounds.tail):
            if not goes(at):
                break
            size -= bounds.open_size(at)
            keys.append(at)
            swept = at + 1
    moved = truncated(bounds, max(head, swept))
    finished = replace(
        moved,
        swept=swept,
        size=max(size, 0),
        open_data={at: text for at, text in bounds.open_data.items() if at >= swept},
        open_sizes={at: one for at, one in bounds.open_sizes.items() if at >= swept},
    )
    return Sweep(finished, pages, whole, keys, more=complete and bool(plan_sweep(finished, retention, 1)))


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


def strays(bounds: Bounds, offsets: Sequence[int], pages: Sequence[int], unsealed: Sequence[int]) -> Sweep:
    """Return what of these `m_` keys, `p_` and `e_` pages a killed call has left behind: nobody counts it.

    `offsets`, `pages` and `unsealed` are all that there are.
    """
    open_page, first_page = page_of(bounds.tail), page_of(bounds.swept)
    full = range(first_page, open_page)
    kept = {page for page in pages if page in full}
    return Sweep(
        bounds,
        [page for page in pages if page not in kept],
        [page for page in unsealed if page not in full or page in kept],
        [at for at in offsets if not bounds.swept <= at < bounds.tail or page_of(at) in kept],
    )
