"""Read a topic's messages out of Restate's state.

Lazy reads are not a snapshot: while a shared handler reads, an append may seal the very page whose `m_` keys are
on their way, and a truncation may clear them. So a missing key is looked for in its page, a missing page in its
keys, and what is in neither was truncated meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

from restate_pubsub.protocol.abandoned import without_abandoned
from restate_pubsub.protocol.joined import Entry, joined, parts, pieces, span, written_bytes
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import state
from restate_pubsub.topic.context import Reading
from restate_pubsub.topic.log import PAGE, PAGE_MAX_BYTES, Bounds, ReadPlan, UnsealedPage, page_of, plan_read

PAGES_PER_ROUND = 64
"""Sealed pages asked for in one round trip; of 64 messages of 200 bytes, about 0.8 MiB."""
KEYS_PER_ROUND = 8
"""`m_` keys asked for in one round trip where the messages may be large."""


async def get_keys(ctx: Reading, offsets: Iterable[int], inlined: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the messages of `offsets`: those that the metadata has inline, the others from their `m_` keys.

    Missing ones are left out.
    """
    offsets = list(offsets)
    others = [at for at in offsets if at not in inlined]
    values = await ctx.get(*map(state.message_key, others)) if others else []
    loaded = dict(zip(others, values, strict=True))
    found = {at: inlined[at] if at in inlined else loaded[at] for at in offsets}
    return {at: value for at, value in found.items() if value is not None}


async def get_pages(ctx: Reading, pages: Iterable[int]) -> tuple[dict[int, list[Message]], dict[int, UnsealedPage]]:
    """Read full pages: those that are sealed, and what is known of those that are not."""
    pages = list(pages)
    keys = [key for page in pages for key in (state.page_key(page), state.unsealed_key(page))]
    values = iter(await ctx.get(*keys) if keys else [])
    sealed: dict[int, list[Message]] = {}
    unsealed: dict[int, UnsealedPage] = {}
    for page, value, about in zip(pages, values, values, strict=True):
        if value is None:
            unsealed[page] = state.decode_unsealed(about, page)
        else:
            sealed[page] = state.decode_page(value)[1]
    return sealed, unsealed


async def read(
    ctx: Reading,
    bounds: Bounds,
    offset: int,
    max_messages: int,
    max_bytes: int,
    *,
    join: bool = False,
    max_entries: int | None = None,
) -> Batch:
    """Read messages from `offset` on, within the limits; one at least, unless they were truncated meanwhile.

    `join`: those that continue one another may come as one. Then `max_messages` are those that are covered, and at most
    `max_entries` stored entries are.
    """
    entries: list[Entry] = []
    total, enough = 0, False
    async for some in _stored(ctx, bounds, plan_read(bounds, offset, max_messages)):
        for entry in some:
            entries.append(entry)
            total += len(entry.data) if join else written_bytes(entry)
            if enough := total > max_bytes or (join and len(entries) == max_entries):
                break
        if enough:
            break
    if join:
        found = joined(without_abandoned(offset, entries), max_bytes)
        messages, spans, stop = found.messages, found.spans, offset + found.count
    else:
        messages, spans = _within([message for entry in entries for message in pieces(entry)], max_bytes), {}
        stop = offset + len(messages)
    return Batch(offset, messages, stop, closed=bounds.closed and stop == bounds.tail, spans=spans)


def _within(messages: list[Message], max_bytes: int) -> list[Message]:
    total = 0
    for at, message in enumerate(messages):
        total += len(message.data)
        if at and total > max_bytes:
            return messages[:at]
    return messages


async def _stored(ctx: Reading, bounds: Bounds, plan: ReadPlan) -> AsyncIterator[list[Entry]]:
    """Yield what there is of the plan's messages, in order, some at a time; end early at one that is gone."""
    at = plan.start
    rounds = [plan.pages[first : first + PAGES_PER_ROUND] for first in range(0, len(plan.pages), PAGES_PER_ROUND)]
    for pages in rounds:
        for page, value in zip(pages, await ctx.get(*map(state.page_key, pages)), strict=True):
            stop = min((page + 1) * PAGE, plan.stop)
            if value is not None:
                found = _sealed(value, at, stop)
                yield found
                at += sum(map(span, found))
            else:
                about = state.decode_unsealed((await ctx.get(state.unsealed_key(page)))[0], page)
                async for found in _by_keys(ctx, range(at, stop), about, {}, sure=False):
                    yield found
                    at += sum(map(span, found))
            if at < stop:
                return
    if plan.keys:
        about = UnsealedPage(bounds.open_events, {at: bounds.open_size(at) for at in plan.keys}, bounds.open_joins)
        async for found in _by_keys(ctx, plan.keys, about, bounds.open_data):
            yield found


def _sealed(value: bytes, start: int, stop: int) -> list[Entry]:
    first, entries = state.decode_entries(value)
    if start == first and stop % PAGE == 0:
        return entries
    return parts(entries, start - first, stop - first) if start >= first else []


async def _by_keys(
    ctx: Reading, offsets: range, about: UnsealedPage, inlined: Mapping[int, bytes], *, sure: bool = True
) -> AsyncIterator[list[Entry]]:
    """Yield messages of one page that is not sealed, some at a time, up to the first that is gone.

    Not `sure`: its page was looked for first. What is found in a second place counts only if the head has not passed
    it when all was read: a killed write may have left something there that nobody ever counted.
    """
    step = PAGE if sum(about.sizes.values()) <= PAGE_MAX_BYTES else KEYS_PER_ROUND
    for start in range(offsets.start, offsets.stop, step):
        part = range(start, min(start + step, offsets.stop))
        found = await get_keys(ctx, part, inlined)
        missing = next((at for at in part if at not in found), None)
        page = None
        if missing is not None:  # sealed while we read, or truncated
            page = (await ctx.get(state.page_key(page_of(missing))))[0]
        if (missing is not None or not sure) and await _head(ctx) > start:
            return
        here = part[: None if missing is None else missing - start]
        messages = [Message(found[at], about.events.get(at)) for at in here]
        yield state.entries_of(start, messages, about.joins)
        if missing is not None:
            if page is not None:
                yield _sealed(page, missing, offsets.stop)
            return


async def _head(ctx: Reading) -> int:
    return state.decode_topic((await ctx.get(state.METADATA_KEY))[0]).bounds.head
