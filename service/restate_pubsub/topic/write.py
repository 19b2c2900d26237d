"""Write a topic's messages into Restate's state, seal its pages, and clear what is truncated.

What is planned is in `topic.log`; here are its commands, and their order, by which a reader that looks in between finds
every message in one place or the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from restate import ObjectContext

from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import log as topic_log
from restate_pubsub.topic import state as stored
from restate_pubsub.topic.log import AppendPlan, Bounds, Retention
from restate_pubsub.topic.read import RAW, get_keys, get_pages


async def write(ctx: ObjectContext, bounds: Bounds, plan: AppendPlan, messages: Sequence[Message]) -> None:
    """Write a batch as planned; nobody sees it before the metadata counts it, and `clear_written` comes after that."""
    first = bounds.tail
    already = await get_keys(ctx, plan.load, bounds.open_data)
    for page in plan.pages:
        before = [
            Message(already.get(at, b"null"), bounds.open_events.get(at))
            for at in range(page.start, min(first, page.stop))
        ]
        after = messages[max(page.start - first, 0) : page.stop - first]
        ctx.set(stored.page_key(page.page), stored.encode_page(page.start, [*before, *after]), RAW)
    for at in plan.keys:
        ctx.set(stored.message_key(at), messages[at - first].data, RAW)
    for number, about in plan.loose.items():
        ctx.set(stored.loose_key(number), stored.encode_loose(about), RAW)
        # Readers look here first, and a write that was killed before its end may have left a page that nobody counted.
        ctx.clear(stored.page_key(number))


def clear_written(ctx: ObjectContext, plan: AppendPlan) -> None:
    """Clear the keys of the messages that the plan's pages have taken.

    Not before the metadata counts the pages: a write that is killed in between must leave the keys.
    """
    for at in plan.load:
        ctx.clear(stored.message_key(at))


async def seal(ctx: ObjectContext, before: Bounds, plan: AppendPlan, swept: int, messages: Sequence[Message]) -> None:
    """Seal the page that the plan left for later; neither `messages` nor what the bounds `before` carry is loaded.

    The page's own key comes first, and what is known of the loose page goes last: a reader that finds neither looks
    for the messages' keys, which have gone by then, and so for the page once more.
    """
    page = plan.later
    if page is None:
        return
    first, events = before.tail, plan.loose[page.page].events
    start = max(page.start, swept)
    already = await get_keys(ctx, range(start, first), before.open_data)
    if len(already) < first - start:
        return  # something is missing that should not be: sealed without it, it would be lost for good
    older = [Message(already[at], events.get(at)) for at in range(start, first)]
    ctx.set(stored.page_key(page.page), stored.encode_page(start, [*older, *messages[: page.stop - first]]), RAW)
    for at in range(start, page.stop):
        ctx.clear(stored.message_key(at))
    ctx.clear(stored.loose_key(page.page))


async def sweep(ctx: ObjectContext, bounds: Bounds, retention: Retention, max_pages: int) -> Bounds:
    """Clear a part of what lies below the head, and return the bounds that hold then."""
    plan = topic_log.plan_sweep(bounds, retention, max_pages)
    if not plan:
        return bounds
    sealed, loose = await get_pages(ctx, plan.pages) if plan.pages else ({}, {})
    keys = await get_keys(ctx, plan.keys, bounds.open_data)
    page_sizes = {page: about.size for page, about in loose.items()}
    page_sizes |= {page: sum(len(message.data) for message in messages) for page, messages in sealed.items()}
    key_sizes = {at: len(keys.get(at, b"")) for at in plan.keys}
    settled, pages, cleared = topic_log.settle(bounds, plan, retention, page_sizes, key_sizes)
    for page in pages:
        if page in sealed:
            ctx.clear(stored.page_key(page))
        if page not in loose:
            continue
        ctx.clear(stored.loose_key(page))
        for at in range(max(plan.first, page * topic_log.PAGE), (page + 1) * topic_log.PAGE):
            ctx.clear(stored.message_key(at))
    for at in cleared:
        ctx.clear(stored.message_key(at))
    return settled
