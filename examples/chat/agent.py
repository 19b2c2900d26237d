"""The agent: a Restate service that answers a prompt and lets the browser watch.

What it says goes to the topic `chat/{chat}`:

    {"turn", "role": "user", "content"}              the prompt
    {"turn", "role": "tool", "call", "arguments"}    a tool is called …
    {"turn", "role": "tool", "result"}               … and has returned
    mail     {"turn", "to", "text"}                  what the tool `send_mail` has done
    token    {"turn", "text"}                        a piece of the answer
    done     {"turn"}                                the answer is complete, or was stopped
    failed   {"turn", "error"}                       there will be none

and from the library:

    question {"id", "question"}                      may this tool act? The question is `{"turn", "call", "arguments"}`
    answer   {"id", "answer"}                        somebody said `{"yes"}` or no …
    answer   {"id", "withdrawn": true}               … or nobody did
    stop     {"id", "reason"}                        somebody stopped turn `id`: what was said stays, and no more comes
    restart  {"id", "offset"}                        the step is tried again, so drop the tokens of turn `id` from
                                                     `offset` on

Messages and tokens take different ways to the topic (a send that Restate delivers; calls while the step runs), so
readers go by `turn`, not by who comes first. A `done` is sent after the last token was acknowledged.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import operator
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict

import restate
from restate import RunOptions

from model import Model, ScriptedModel, ToolCall
from restate_pubsub import (
    NotAnswered,
    PubsubError,
    StreamStopped,
    TokenStream,
    ask,
    create_pubsub_client,
    create_pubsub_publisher,
)
from serving import serve

# ┌─ Put a real model here ────────────────────────────────────────────────────────────────────────────────────┐
# │ Anything with the two methods of `Model` will do: `choose_tool` decides, `answer` yields pieces of text,    │
# │ for example the text deltas of your provider's streaming client.                                            │
MODEL: Model = ScriptedModel()
# └────────────────────────────────────────────────────────────────────────────────────────────────────────────┘

publish = create_pubsub_publisher()
pubsub = create_pubsub_client(os.environ.get("RESTATE_INGRESS_URL", "http://localhost:8080"))
agent = restate.Service("agent")

RETRY: RunOptions[Any] = RunOptions(
    initial_retry_interval=timedelta(milliseconds=500), max_duration=timedelta(minutes=10)
)
"""A step that still fails after ten minutes ends the turn: its reader should not wait for ever."""


class Prompt(TypedDict):
    """What a person asks: in which chat, under a name for this turn that the page chose."""

    chat: str
    turn: str
    prompt: str


class Stopped(Exception):
    """Somebody has stopped the turn: readers have seen that, and no step of it runs any more."""


@agent.handler()
async def run(ctx: restate.Context, request: Prompt) -> None:
    """Answer one prompt; every step is durable."""
    topic, turn, prompt = f"chat/{request['chat']}", request["turn"], request["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    try:
        with contextlib.suppress(Stopped):
            await take_turn(ctx, topic, turn, prompt)
    except restate.TerminalError as error:  # the model refused for good, or somebody cancelled the invocation
        publish(ctx, topic, {"turn": turn, "error": error.message}, event="failed")
        raise
    publish(ctx, topic, {"turn": turn}, event="done")


async def take_turn(ctx: restate.Context, topic: str, turn: str, prompt: str) -> None:
    """Choose a tool, use it if nobody minds, and answer."""

    async def step(name: str, work: Callable[[TokenStream], Awaitable[Any]]) -> Any:
        done = await ctx.run_typed(name, partial(unless_stopped, topic, turn, work), RETRY)
        if done["stopped"]:
            raise Stopped
        return done["value"]

    result = None
    if call := await step("choose a tool", lambda _: choose_tool(prompt)):
        publish(ctx, topic, {"turn": turn, "role": "tool", "call": call["call"], "arguments": call["arguments"]})
        if why := await forbidden(ctx, topic, turn, call):
            result = {"sent": False, "why": why}
        else:
            result = await step(call["call"], lambda _: use_tool(topic, turn, call))
        publish(ctx, topic, {"turn": turn, "role": "tool", "result": result})
    await step("answer", lambda stream: answer(stream, turn, prompt, result))


async def unless_stopped(topic: str, turn: str, work: Callable[[TokenStream], Awaitable[Any]]) -> dict[str, Any]:
    """Do a step's work until it is done or somebody stops the turn; return which, and what the work returned.

    Every step of a turn opens the turn's stream, whether it writes or not: a stop is a fact about the stream, so it
    ends the step that runs, also while the model is silent, and each that would come after it or run again. What
    is said in the stream continues in `text`: a page that is loaded later gets the answer as one message.

    Tried again, the stream opens under the same id: the topic says so to its readers if something was written, and
    refuses whatever an earlier attempt still tries to write.
    """
    try:
        async with pubsub.stream(topic, id=turn, join="text") as stream:
            working = asyncio.ensure_future(work(stream))
            try:
                await asyncio.wait({working, stream.stopped}, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    return {"stopped": False, "value": working.result()}
            finally:
                working.cancel()
    except StreamStopped:
        return {"stopped": True}
    except PubsubError as error:
        if error.final:  # the topic is closed, say: the same again would be refused again, and the model paid again
            raise restate.TerminalError(error.message, error.status) from error
        raise
    return {"stopped": True}


async def choose_tool(prompt: str) -> dict[str, Any] | None:
    """Ask the model whether it needs a tool."""
    call = await MODEL.choose_tool(prompt)
    return {"call": call.name, "arguments": call.arguments, "within": call.within} if call else None


async def forbidden(ctx: restate.Context, topic: str, turn: str, call: dict[str, Any]) -> str:
    """Ask whoever reads the topic, if the tool must not act by itself; return why it may not, or nothing."""
    if call["within"] is None:
        return ""
    question = {"turn": turn, "call": call["call"], "arguments": call["arguments"]}
    try:
        said = await ask(ctx, topic, question, timeout=call["within"])
    except NotAnswered:
        return "nobody answered in time"
    return "" if isinstance(said, dict) and said.get("yes") is True else "you said no"


async def answer(stream: TokenStream, turn: str, prompt: str, result: Any) -> int:
    """Write the model's tokens as they come, and return how many there were."""
    async for text in MODEL.answer(turn, prompt, result):
        await stream.write({"turn": turn, "text": text}, event="token")
    return stream.written


# --- tools -----------------------------------------------------------------------------------------------------


async def use_tool(topic: str, turn: str, call: dict[str, Any]) -> Any:
    """Do what the model asked for."""
    await asyncio.sleep(0.8)  # long enough to be seen
    match ToolCall(call["call"], call["arguments"]):
        case ToolCall("calculate", {"expression": str(expression)}):
            try:
                return round(calculate(ast.parse(expression, mode="eval").body), 2)
            except (SyntaxError, ArithmeticError, ValueError, RecursionError) as error:
                msg = f"cannot calculate {expression}: {error}"
                raise restate.TerminalError(msg) from error
        case ToolCall("look_at_topic"):
            info = await pubsub.info(topic)
            return {name: info[name] for name in ("head", "tail", "bytes")}
        case ToolCall("send_mail", {"to": to, "text": text}):
            # The key makes it one mail, even if the process dies before the step is journaled, and the step runs again.
            mail = {"turn": turn, "to": to, "text": text}
            await pubsub.publish(topic, mail, event="mail", idempotency_key=f"{turn}/mail")
            return {"sent": True}
    msg = f"there is no tool for {call}"
    raise restate.TerminalError(msg)


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def calculate(node: ast.expr) -> float:
    """Evaluate sums and products of numbers, and nothing else."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.BinOp(left, operation, right) if type(operation) in OPERATORS:
            return float(OPERATORS[type(operation)](calculate(left), calculate(right)))
    msg = f"cannot calculate {ast.unparse(node)}"
    raise restate.TerminalError(msg)


app = restate.app([agent])

if __name__ == "__main__":
    asyncio.run(serve(app, os.environ.get("CHAT_AGENT_BIND", "127.0.0.1:9081")))
