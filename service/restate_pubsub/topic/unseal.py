"""Turn a topic back into the form of `@restatedev/pubsub`: each message in a key of its own.

That object knows no pages: it would answer null for what lies in one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.topic import state
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.log import PAGE, UnsealedPage, page_of
from restate_pubsub.topic.read import get_pages
from restate_pubsub.topic.steps import Loaded, TopicOptions, current_policy, is_marked, save, swept_later

PAGES_PER_CALL = 16
"""A thousand messages: a topic's readers and writers wait for no longer than that."""


@dataclass(frozen=True, slots=True)
class Unsealed:
    """How many pages were turned back, and the page to go on at; None at the end."""

    pages: int
    next: int | None


async def unseal(ctx: ExclusiveContext, options: TopicOptions, loaded: Loaded, first: int) -> Unsealed:
    """Turn back a part of the topic's pages, from page `first` on.

    Raises:
        InvalidRequest: this deployment makes pages, so that the next write would make one again.

    """
    policy = await current_policy(ctx, options)
    if policy.pages:
        msg = "unseal: this deployment packs messages into pages: set PUBSUB_PAGES=false first"
        raise InvalidRequest(msg)
    bounds = loaded.topic.bounds
    pages = range(max(first, page_of(bounds.swept)), page_of(bounds.tail))
    sealed, _ = await get_pages(ctx, pages[:PAGES_PER_CALL])
    topic = swept_later(ctx, replace(loaded.topic, policy=policy))
    # The mark first: of a call that is killed half way, a sweep clears the keys beside the page.
    mark = bool(sealed) and not await is_marked(ctx)
    if mark:
        ctx.set(state.UNFINISHED_KEY, b"true")
    save(ctx, topic)
    for page, messages in sealed.items():
        start = (page + 1) * PAGE - len(messages)
        for at, message in enumerate(messages, start):
            ctx.set(state.message_key(at), message.data)
        events = {at: message.event for at, message in enumerate(messages, start) if message.event}
        sizes = {at: len(message.data) for at, message in enumerate(messages, start)}
        ctx.set(state.unsealed_key(page), state.encode_unsealed(UnsealedPage(events, sizes)))
        ctx.clear(state.page_key(page))
    if mark:
        ctx.clear(state.UNFINISHED_KEY)
    rest = pages[PAGES_PER_CALL:]
    return Unsealed(len(sealed), rest[0] if rest else None)
