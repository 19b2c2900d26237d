"""Move a topic's head, delete a topic, and clear what is not counted any more, so that a killed call loses nothing.

The metadata moves first, and the keys go after it: whoever reads in between is told that they are gone. While keys
are there that nobody counts, a mark says so, and the next sweep clears them.
"""

from __future__ import annotations

from dataclasses import replace

from restate_pubsub.topic import asking, remembered, state
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.log import Bounds, retained
from restate_pubsub.topic.policy import Retention
from restate_pubsub.topic.steps import (
    Loaded,
    TopicOptions,
    announce,
    is_marked,
    moved,
    remind,
    save,
    swept_later,
    swept_soon,
    timed,
)
from restate_pubsub.topic.write import clear_swept, stray_keys, swept

SWEEP_PAGES = 64
"""Full pages that one call looks at and clears."""
CLEARED_PER_CALL = 4096
"""Keys that one call clears of what a deleted topic had, or of what a killed call has left."""


async def cut(
    ctx: ExclusiveContext, options: TopicOptions, loaded: Loaded, bounds: Bounds, *, look: bool = False
) -> None:
    """Let `bounds`, with a head that may have moved, and the topic's retention hold, and clear a part of what is below.

    The rest is left to a sweep. Who waits is told of the head, and of whatever a killed call has not told. `look`:
    even if nothing goes, look for what a killed call has left.
    """
    topic = loaded.topic
    retention = Retention() if topic.policy is None else topic.policy.retention
    sweep = await swept(ctx, retained(bounds, retention), retention, SWEEP_PAGES, singly=True)
    left: list[str] = []
    clears = bool(sweep.pages or sweep.keys or sweep.unsealed)
    marked = (clears or look) and await is_marked(ctx)
    if marked:
        keys = await ctx.keys()
        going = {state.page_key(page) for page in sweep.pages} | {state.message_key(at) for at in sweep.keys}
        left = [key for key in stray_keys(keys, sweep.bounds) if key not in going]
        left += await remembered.strays(ctx, topic, keys)
        left += await asking.strays(ctx, topic)
    news = sweep.bounds.head != topic.bounds.head
    topic = replace(topic, bounds=sweep.bounds)
    if sweep.more or len(left) > CLEARED_PER_CALL:
        topic = swept_soon(ctx, topic)
    elif news or clears:
        topic = swept_later(ctx, topic)
    if clears and not marked:
        ctx.set(state.UNFINISHED_KEY, b"true")
    topic = timed(ctx, topic)
    save(ctx, topic)
    if news:
        await announce(ctx, options, loaded.waiting, moved(topic.bounds))
    elif loaded.waiting:
        await remind(ctx, options, loaded.waiting, topic.bounds)
    clear_swept(ctx, sweep)
    for key in left[:CLEARED_PER_CALL]:
        ctx.clear(key)
    if (clears or marked) and len(left) <= CLEARED_PER_CALL:
        ctx.clear(state.UNFINISHED_KEY)


async def delete(ctx: ExclusiveContext, options: TopicOptions, loaded: Loaded) -> None:
    """Forget the topic's messages and streams; only its counters stay. What is too much for one call a sweep clears."""
    topic = loaded.topic
    kept = (state.METADATA_KEY, state.SUBSCRIPTION_KEY, state.UNFINISHED_KEY)
    keys = await ctx.keys()
    log = stray_keys(keys, topic.deleted().bounds)
    in_log = set(log)
    others = [key for key in keys if key not in in_log and key not in kept]
    if not log and not others and topic.empty:
        return
    await asking.reject_all(ctx, topic)
    topic = topic.deleted()
    topic = swept_soon(ctx, topic) if len(log) > CLEARED_PER_CALL else swept_later(ctx, topic)
    ctx.set(state.UNFINISHED_KEY, b"true")
    save(ctx, topic)
    await announce(ctx, options, loaded.waiting, moved(topic.bounds))
    for key in (*others, *log[:CLEARED_PER_CALL]):
        ctx.clear(key)
    if len(log) <= CLEARED_PER_CALL:
        ctx.clear(state.UNFINISHED_KEY)
