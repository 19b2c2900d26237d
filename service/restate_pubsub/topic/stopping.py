"""Stop one token stream, or all that are unfinished, and cancel the invocations that write them.

That a stream is stopped is set in the step that counts the event. An invocation is cancelled before that: a call that
is killed in between finds the stream unfinished when it is made again, and cancelling twice is cancelling once. Only
the invocation of a stream that was opened in this topic is cancelled: who controls a topic controls no other.
"""

from __future__ import annotations

from restate_pubsub.protocol.calls import Stopped, StopRequest, StreamRef
from restate_pubsub.protocol.messages import stop_message
from restate_pubsub.protocol.names import invocation_of
from restate_pubsub.topic import remembered
from restate_pubsub.topic.append import Request, append
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.steps import TopicOptions, load
from restate_pubsub.topic.streams import Halt


async def stop(ctx: ExclusiveContext, options: TopicOptions, asked: StopRequest) -> Stopped:
    """Stop what is asked for.

    Raises:
        TopicClosed: the topic has ended.

    """
    if asked.id is None:
        return await _stop_all(ctx, options, asked)
    ref = StreamRef(asked.id)
    cancelled: list[str] = []
    if asked.cancel:
        known = (await load(ctx, options, ref)).known
        if known is not None and (known.attempt or known.successor):
            cancelled = _cancel(ctx, [asked.id])
    message = stop_message(asked.id, asked.reason)
    done = await append(ctx, options, Request("stop", [message], stream=ref, stop=asked))
    return Stopped(done.next_offset - 1, [asked.id], cancelled)


async def _stop_all(ctx: ExclusiveContext, options: TopicOptions, asked: StopRequest) -> Stopped:
    topic = (await load(ctx, options)).topic
    tail = topic.bounds.tail
    streams, more = await remembered.unfinished(ctx, topic)
    if not streams and not more:
        return Stopped(tail, [])
    cancelled = _cancel(ctx, streams) if asked.cancel else []
    rank = 1 if topic.halt is None else topic.halt.rank + 1
    halt = Halt(rank, tail, (topic.streams or (0, 0))[1], asked.reason)
    done = await append(ctx, options, Request("stop", [stop_message(None, asked.reason)], halt=halt))
    return Stopped(done.offset, streams, cancelled)


def _cancel(ctx: ExclusiveContext, streams: list[str]) -> list[str]:
    """Cancel the invocations that streams are named after, each once."""
    named = dict.fromkeys(invocation for stream in streams if (invocation := invocation_of(stream)) is not None)
    for invocation in named:
        ctx.cancel(invocation)
    return list(named)
