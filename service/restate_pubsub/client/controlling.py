"""Stop, answer and withdraw from inside a handler: journaled calls, so that each happens once."""

from __future__ import annotations

from typing import Any

import msgspec
from restate import Context

from restate_pubsub.client.pubsub_client import Stopped
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.json_text import dump


async def stop(
    ctx: Context,
    topic: str,
    id: str | None = None,  # noqa: A002
    *,
    reason: str | None = None,
    cancel: bool = False,
    name: str = "pubsub",
) -> Stopped:
    """Stop the token stream `id` of a topic for good, or all that are unfinished; see `PubsubClient.stop`.

    Args:
        ctx: the handler's context.
        topic: where the stream is.
        id: the stream's name; None for all that have one and are unfinished.
        reason: what readers and the writer are told, at most 256 characters.
        cancel: cancel the invocation, too, that a stream is named after.
        name: the pubsub object's name.

    Raises:
        InvalidRequest: a bad id or reason, or to cancel what is not named after an invocation.
        restate.TerminalError: refused, as the topic is closed.

    """
    request = calls.StopRequest(id, reason, cancel)
    calls.check_stop(request)
    answer = await ctx.generic_call(name, "stop", msgspec.json.encode(request), key=topic)
    done = msgspec.json.decode(answer, type=calls.Stopped)
    return Stopped(done.offset, tuple(done.stopped), tuple(done.cancelled))


async def answer(ctx: Context, topic: str, question: str, data: Any, *, name: str = "pubsub") -> int:
    """Answer a question by the id in its event, and return the offset of the answer; the first one counts.

    Raises:
        restate.TerminalError: refused: 409 if somebody was first, 404 if it was not asked in this topic.

    """
    body = b'{"id":%b,"data":%b}' % (msgspec.json.encode(question), dump(data))
    return int(msgspec.json.decode(await ctx.generic_call(name, "answer", body, key=topic))["offset"])


async def withdraw(ctx: Context, topic: str, question: str, *, name: str = "pubsub") -> bool:
    """Say that nobody waits for an answer any more; return False if one came before.

    `ask` does so by itself. It is for a handler that sends `ask` with an awakeable of its own.
    """
    body = msgspec.json.encode({"id": question})
    return bool(msgspec.json.decode(await ctx.generic_call(name, "withdraw", body, key=topic))["withdrawn"])
