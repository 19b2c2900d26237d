"""Ask a person from inside a handler, and wait for the answer for as long as it takes.

The question is an event in the topic, the answer resolves an awakeable of the handler's. So the wait is durable: it
outlives the process, the page and the deployment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import restate
from restate import Context

from restate_pubsub.protocol.json_text import dump

NOT_ANSWERED = 408


class NotAnswered(restate.TerminalError):
    """Nobody answered in time; the question is withdrawn, and readers have been told so."""

    def __init__(self, seconds: float) -> None:
        """`seconds` is how long the question was open."""
        super().__init__(f"Nobody answered within {seconds:g} s; the question is withdrawn", NOT_ANSWERED)


async def ask(
    ctx: Context, topic: str, question: Any, *, timeout: float | timedelta | None = None, name: str = "pubsub"
) -> Any:
    """Append the event `question`, wait for the first answer, and return it.

    The event's data is `{"id", "question"}`; who answers sends that id, with `client.answer`, over HTTP with
    `POST …?do=answer&id=…`, or by calling the object's `answer`.

    Args:
        ctx: the handler's context.
        topic: where the question goes.
        question: any JSON.
        timeout: seconds to wait at most; None waits for ever.
        name: the pubsub object's name.

    Raises:
        NotAnswered: nobody answered in time. Readers see the event `answer` with `{"id", "withdrawn": true}`.
        restate.TerminalError: the question was refused (the topic is closed, too many are open), the topic was deleted,
            or this invocation was cancelled; then the question is withdrawn, too.

    """
    awakeable: str
    answer: Any
    awakeable, answer = ctx.awakeable()
    body = b'{"id":%b,"data":%b}' % (msgspec.json.encode(awakeable), dump(question))
    await ctx.generic_call(name, "ask", body, key=topic)
    over = msgspec.json.encode({"id": awakeable})
    try:
        if timeout is None:
            return await answer
        wait = timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
        match await restate.select(answer=answer, late=ctx.sleep(wait)):
            case ["answer", value]:
                return value
    except restate.TerminalError:
        ctx.generic_send(name, "withdraw", over, key=topic)
        raise
    withdrawn = msgspec.json.decode(await ctx.generic_call(name, "withdraw", over, key=topic))["withdrawn"]
    if not withdrawn:  # an answer came at the last moment, and readers have seen it
        return await answer
    raise NotAnswered(wait.total_seconds())
