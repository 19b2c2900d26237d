"""Write a topic's messages into its state, seal its pages, and clear what is not counted any more.

What is planned is in `log`; here are the commands, and their order: a reader that looks in between finds every
message in one place or the other, and a call that is killed in between leaves nothing that is counted and not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import state
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.log import AppendPlan, Bounds, Sweep, finish_sweep, plan_sweep, strays
from restate_pubsub.topic.policy import Retention
from restate_pubsub.topic.read import get_keys, get_pages


async def write(ctx: ExclusiveContext, bounds: Bounds, plan: AppendPlan, messages: Sequence[Message]) -> None:
    """Write a batch as planned. Nobody sees it before the metadata counts it."""
    first = bounds.tail
    already = await get_keys(ctx, plan.load, bounds.open_data)
    for page in plan.pages:
        before = [
            Message(already.get(at, b"null"), bounds.open_events.get(at))
            for at in range(page.start, min(first, page.stop))
        ]
        after = messages[max(page.start - first, 0) : page.stop - first]
        ctx.set(state.page_key(page.page), state.encode_page(page.start, [*before, *after], page.joins))
    for at in plan.keys:
        ctx.set(state.message_key(at), messages[at - first].data)
    for number, about in plan.unsealed.items():
        ctx.set(state.unsealed_key(number), state.encode_unsealed(about))
        # Readers look here first, and a write that was killed before its end may have left a page that nobody counted.
        ctx.clear(state.page_key(number))


def clear_obsolete(ctx: ExclusiveContext, plan: AppendPlan) -> None:
    """Clear the keys of the messages that the plan's pages have taken.

    Not before the metadata counts the pages: a write that is killed in between must leave the keys.
    """
    for at in plan.obsolete:
        ctx.clear(state.message_key(at))


async def seal(
    ctx: ExclusiveContext, before: Bounds, plan: AppendPlan, swept: int, messages: Sequence[Message]
) -> None:
    """Seal the page that the plan left for later; neither `messages` nor what the bounds `before` have is loaded.

    The page's own key comes first, and what is known of the unsealed page goes last: a reader that finds neither looks
    for the messages' keys, which have gone by then, and so for the page once more.
    """
    page = plan.later
    if page is None or swept >= page.stop:
        return
    first, events = before.tail, plan.unsealed[page.page].events
    start = max(page.start, swept)
    already = await get_keys(ctx, range(start, first), before.open_data)
    if len(already) < first - start:
        return  # something is missing that should not be: sealed without it, it would be lost for good
    older = [Message(already[at], events.get(at)) for at in range(start, first)]
    new = messages[max(start - first, 0) : page.stop - first]
    ctx.set(state.page_key(page.page), state.encode_page(start, [*older, *new], page.joins))
    for at in range(start, page.stop):
        ctx.clear(state.message_key(at))
    ctx.clear(state.unsealed_key(page.page))


async def swept(
    ctx: ExclusiveContext, bounds: Bounds, retention: Retention, max_pages: int, *, singly: bool = False
) -> Sweep:
    """Look at a part of what is to be cleared, and say what goes; `clear_swept` does it once the metadata says so."""
    plan = plan_sweep(bounds, retention, max_pages, singly=singly)
    if not plan:
        return Sweep(bounds)
    sealed, unsealed = await get_pages(ctx, plan.pages)
    sizes = {page: sum(len(message.data) for message in messages) for page, messages in sealed.items()}
    return finish_sweep(bounds, plan, retention, sizes, unsealed)


def clear_swept(ctx: ExclusiveContext, sweep: Sweep) -> None:
    """Clear what the metadata counts no more."""
    for page in sweep.pages:
        ctx.clear(state.page_key(page))
    for at in sweep.keys:
        ctx.clear(state.message_key(at))
    for page in sweep.unsealed:
        ctx.clear(state.unsealed_key(page))


def stray_keys(keys: Sequence[str], bounds: Bounds) -> list[str]:
    """Return which of all the topic's keys are of its log, and nobody counts: a deleted topic's, or a killed call's."""
    found: dict[str, list[int]] = {"m": [], "p": [], "e": []}
    for key in keys:
        prefix, _, number = key.partition("_")
        if prefix in found and number.isascii() and number.isdigit():
            found[prefix].append(int(number))
    stray = strays(bounds, found["m"], found["p"], found["e"])
    return [
        *map(state.message_key, stray.keys),
        *map(state.page_key, stray.pages),
        *map(state.unsealed_key, stray.unsealed),
    ]
