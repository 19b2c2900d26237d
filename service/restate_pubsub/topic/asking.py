"""Ask, answer, withdraw, in the order of their commands.

An answer is decided when it is set as the question's end; from then on it counts, whatever happens to the call. Its
event is appended after that, the awakeable is resolved when the event is durable, and then the end is done. A call that
is killed in between is made good by the next call for this question, or by one that was sent to come ten seconds later.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from restate_pubsub.errors import InvalidRequest, TopicClosed
from restate_pubsub.protocol.calls import WithdrawRequest
from restate_pubsub.topic import questions
from restate_pubsub.topic.append import Request, append
from restate_pubsub.topic.context import ExclusiveContext
from restate_pubsub.topic.log import Bounds
from restate_pubsub.topic.questions import End, Questions
from restate_pubsub.topic.read import read
from restate_pubsub.topic.state import METADATA_KEY, Topic, decode_topic
from restate_pubsub.topic.steps import SWEEP_SECONDS, TopicOptions
from restate_pubsub.topic.waiters import is_awakeable

GONE = 410


async def ask(ctx: ExclusiveContext, options: TopicOptions, question: str, data: bytes) -> int:
    """Append a question, and return where it is; asked again under the same id, it is there once.

    Raises:
        InvalidRequest: the id is not an awakeable's.
        TooManyQuestions, AlreadyAnswered, TopicClosed, TooLarge: refused.

    """
    if not is_awakeable(question):
        msg = f"ask: id {question[:80]!r} is not an awakeable's: send the id that ctx.awakeable() gives"
        raise InvalidRequest(msg)
    loaded = await _load(ctx)
    asked, bounds = loaded.asked, loaded.bounds
    known = asked.by_id.get(question)
    message = questions.question_message(question, data)
    if known is not None:
        if known.end is not None:
            raise questions.late(question, known.end)
        if await _is_at(ctx, bounds, known.offset, message.data):
            return known.offset
        asked = Questions(asked.life, {id_: about for id_, about in asked.by_id.items() if id_ != question})
    # Known before it is seen: nobody can read a question that cannot be answered.
    facts = [(questions.KEY, questions.encode(asked.asked(question, bounds.tail)))]
    return (await append(ctx, options, Request("ask", [message], facts=facts))).offset


async def answer(ctx: ExclusiveContext, options: TopicOptions, question: str, data: bytes) -> int:
    """Answer a question, and return where the answer is. The same answer again is the same.

    Raises:
        NoSuchQuestion, AlreadyAnswered, TopicClosed, TooLarge: refused.

    """
    loaded = await _load(ctx)
    about = loaded.asked.to_answer(question)
    mine = End(loaded.bounds.tail, msgspec.Raw(data))
    if about.end is None:
        return (await _ended(ctx, options, question, mine, loaded.asked)).offset
    end = await _finished(ctx, options, question, about.end, loaded)
    bounds = (await _load(ctx)).bounds
    if await _is_at(ctx, bounds, end.offset, questions.end_message(question, mine).data, gone=False):
        return end.offset
    raise questions.late(question, end)


async def withdraw(ctx: ExclusiveContext, options: TopicOptions, question: str) -> bool:
    """Say that nobody waits for an answer any more; return whether the question had been open."""
    loaded = await _load(ctx)
    asked, tail = loaded.asked, loaded.bounds.tail
    about = asked.by_id.get(question)
    if about is None:
        return True
    if about.end is not None:
        return (await _finished(ctx, options, question, about.end, loaded)).withdrawn
    try:
        await _ended(ctx, options, question, End(tail, withdrawn=True), asked)
    except TopicClosed:  # readers have gone; that it is over is all that there is to keep
        ended = asked.ended(question, End(tail, withdrawn=True, done=True))
        ctx.set(questions.KEY, questions.encode(ended))
    return True


async def finish(ctx: ExclusiveContext, options: TopicOptions, question: str) -> None:
    """Make good what a killed call has left of a question's end."""
    loaded = await _load(ctx)
    about = loaded.asked.by_id.get(question)
    if about is not None and about.end is not None:
        await _finished(ctx, options, question, about.end, loaded)


async def any_open(ctx: ExclusiveContext, topic: Topic) -> bool:
    """Whether somebody waits for an answer: such a topic is not idle."""
    return bool(questions.decode((await ctx.get(questions.KEY))[0], topic.life).open)


async def reject_all(ctx: ExclusiveContext, topic: Topic) -> None:
    """Tell whoever waits for an answer that there will be none: the topic is about to be deleted."""
    for question in questions.decode((await ctx.get(questions.KEY))[0], topic.life).open:
        ctx.reject(question, f"The topic {ctx.key!r} was deleted with the question in it", GONE)


async def strays(ctx: ExclusiveContext, topic: Topic) -> list[str]:
    """Return the key of questions that a deletion which was killed has left."""
    raw = (await ctx.get(questions.KEY))[0]
    return [questions.KEY] if raw and not questions.decode(raw, topic.life).by_id else []


class _Loaded(NamedTuple):
    bounds: Bounds
    asked: Questions


async def _load(ctx: ExclusiveContext) -> _Loaded:
    metadata, asked = await ctx.get(METADATA_KEY, questions.KEY)
    topic = decode_topic(metadata)
    return _Loaded(topic.bounds, questions.decode(asked, topic.life))


async def _ended(ctx: ExclusiveContext, options: TopicOptions, question: str, end: End, asked: Questions) -> End:
    """Set the end, append its event, and complete it."""
    again = msgspec.json.encode(WithdrawRequest(question, finish=True))
    ctx.send("withdraw", again, SWEEP_SECONDS)
    facts = [(questions.KEY, questions.encode(asked.ended(question, end)))]
    handler = "withdraw" if end.withdrawn else "answer"
    await append(ctx, options, Request(handler, [questions.end_message(question, end)], facts=facts))
    return _done(ctx, question, end, asked)


async def _finished(ctx: ExclusiveContext, options: TopicOptions, question: str, end: End, loaded: _Loaded) -> End:
    """Return the end of a question, done: its event is appended if that is missing."""
    if end.done:
        return end
    bounds, asked = loaded
    if await _is_at(ctx, bounds, end.offset, questions.end_message(question, end).data):
        return _done(ctx, question, end, asked)
    moved = msgspec.structs.replace(end, offset=bounds.tail)
    return await _ended(ctx, options, question, moved, asked)


def _done(ctx: ExclusiveContext, question: str, end: End, asked: Questions) -> End:
    """Give whoever waits the answer, and let the end keep no more than where it is."""
    if not end.withdrawn:
        ctx.resolve(question, bytes(end.data))
    done = msgspec.structs.replace(end, data=questions.NOTHING, done=True)
    ctx.set(questions.KEY, questions.encode(asked.ended(question, done)))
    return done


async def _is_at(ctx: ExclusiveContext, bounds: Bounds, offset: int, data: bytes, *, gone: bool = True) -> bool:
    """Whether the message at `offset` is this one; `gone` is the answer where it is not there any more."""
    if offset >= bounds.tail:
        return False
    if offset < bounds.head:
        return gone
    batch = await read(ctx, bounds, offset, 1, 1)
    return bool(batch.messages) and batch.messages[0].data == data
