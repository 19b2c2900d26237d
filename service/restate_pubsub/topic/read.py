"""Read a topic's messages out of Restate's state.

Lazy reads are not a snapshot: while a shared handler reads, an append may seal the very page whose `m_` keys are
on their way, and a truncation may clear them. So a missing key is looked for in its page, a missing page in its
keys, and what is in neither was truncated meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from restate import ObjectContext, ObjectSharedContext
from restate.serde import BytesSerde

from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import state as stored
from restate_pubsub.topic.log import PAGE, PAGE_MAX_BYTES, Bounds, LoosePage, ReadPlan, page_of, plan_read

Ctx = ObjectContext | ObjectSharedContext
RAW = BytesSerde()

PAGES_PER_ROUND = 64
"""Sealed pages asked for in one round trip; of 64 messages of 200 bytes, about 0.8 MiB."""
KEYS_PER_ROUND = 8
"""`m_` keys asked for in one round trip where the messages may be large."""


async def get(ctx: Ctx, *keys: str) -> list[bytes | None]:
    """Read several state keys in one round trip."""
    futures: list[Any] = [ctx.get(key, serde=RAW) for key in keys]
    return [await future for future in futures]


async def get_keys(ctx: Ctx, offsets: Iterable[int], carried: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the messages of `offsets`: those that the metadata carries, the others from their `m_` keys.

    Missing ones are left out.
    """
    offsets = list(offsets)
    others = [at for at in offsets if at not in carried]
    loaded = dict(zip(others, await get(ctx, *map(stored.message_key, others)), strict=True))
    found = {at: carried[at] if at in carried else loaded[at] for at in offsets}
    return {at: value for at, value in found.items() if value is not None}


async def get_pages(ctx: Ctx, pages: Iterable[int]) -> tuple[dict[int, list[Message]], dict[int, LoosePage]]:
    """Read full pages: those that are sealed, and what is known of those that are loose.

    A page is both if the write that sealed it was killed before its end: then its `m_` keys may be there still.
    """
    pages = list(pages)
    keys = [key for page in pages for key in (stored.page_key(page), stored.loose_key(page))]
    values = iter(await get(ctx, *keys))
    sealed: dict[int, list[Message]] = {}
    loose: dict[int, LoosePage] = {}
    for page, value, about in zip(pages, values, values, strict=True):
        if value is None or about is not None:
            loose[page] = stored.decode_loose(about)
        if value is not None:
            sealed[page] = stored.decode_page(value)[1]
    return sealed, loose


async def read(ctx: Ctx, bounds: Bounds, offset: int, limits: Limits, limit: int | None = None) -> Batch:
    """Read messages from `offset` on, within the limits; one at least, unless they were truncated meanwhile."""
    plan = plan_read(bounds, offset, min(limit or limits.pull_messages, limits.pull_messages))
    messages: list[Message] = []
    total = 0
    async for message in _stored(ctx, bounds, plan):
        total += len(message.data)
        if messages and total > limits.pull_bytes:
            break
        messages.append(message)
    stop = offset + len(messages)
    return Batch(offset, messages, stop, closed=bounds.closed and stop == bounds.tail)


async def _stored(ctx: Ctx, bounds: Bounds, plan: ReadPlan) -> AsyncIterator[Message]:
    """Yield the plan's messages in order; end early at one that is gone."""
    at = plan.start
    rounds = [plan.pages[first : first + PAGES_PER_ROUND] for first in range(0, len(plan.pages), PAGES_PER_ROUND)]
    for pages in rounds:
        for page, value in zip(pages, await get(ctx, *map(stored.page_key, pages)), strict=True):
            stop = min((page + 1) * PAGE, plan.stop)
            if value is not None:
                found = _sealed(value, at, stop)
            else:
                about = stored.decode_loose((await get(ctx, stored.loose_key(page)))[0])
                found = await _by_keys(ctx, range(at, stop), about, {})
            for message in found:
                yield message
            at += len(found)
            if at < stop:
                return
    if plan.keys:
        about = LoosePage(bounds.open_bytes, bounds.open_events)
        for message in await _by_keys(ctx, plan.keys, about, bounds.open_data):
            yield message


def _sealed(value: bytes, start: int, stop: int) -> list[Message]:
    first, messages = stored.decode_page(value)
    return messages[start - first : stop - first] if start >= first else []


async def _by_keys(ctx: Ctx, offsets: range, about: LoosePage, carried: Mapping[int, bytes]) -> list[Message]:
    """Read messages of one page that is not sealed, up to the first that is gone."""
    step = PAGE if about.size <= PAGE_MAX_BYTES else KEYS_PER_ROUND
    messages: list[Message] = []
    for start in range(offsets.start, offsets.stop, step):
        part = range(start, min(start + step, offsets.stop))
        found = await get_keys(ctx, part, carried)
        for at in part:
            if at not in found:  # sealed while we read, or truncated
                page = (await get(ctx, stored.page_key(page_of(at))))[0]
                return messages + (_sealed(page, at, offsets.stop) if page is not None else [])
            messages.append(Message(found[at], about.events.get(at)))
    return messages
