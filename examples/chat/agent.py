"""The agent: a Restate service that answers a prompt and lets the browser watch.

What it says goes to the topic `chat/{chat}`:

    {"turn", "role": "user", "content"}              the prompt
    {"turn", "role": "tool", "call", "arguments"}    a tool is called …
    {"turn", "role": "tool", "result"}               … and has returned
    token    {"turn", "text"}                        a piece of the answer
    done     {"turn"}                                the answer is complete
    failed   {"turn", "error"}                       there will be none
    restart  {"id", "offset"}                        from the library: the step is tried again, so drop the
                                                     tokens of turn `id` from `offset` on

Messages and tokens take different ways to the topic (a send that Restate delivers; calls while the step runs), so
readers go by `turn`, not by who comes first. A `done` is sent after the last token was acknowledged.
"""

from __future__ import annotations

import ast
import asyncio
import operator
import os
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict

import restate
from restate import RunOptions

from model import Model, ScriptedModel, ToolCall
from restate_pubsub import PubsubError, create_pubsub_client, create_pubsub_publisher
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


@agent.handler()
async def run(ctx: restate.Context, request: Prompt) -> None:
    """Answer one prompt; every step is durable."""
    topic, turn, prompt = f"chat/{request['chat']}", request["turn"], request["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    try:
        result = None
        if call := await ctx.run_typed("choose a tool", partial(choose_tool, prompt), RETRY):
            publish(ctx, topic, {"turn": turn, "role": "tool", **call})
            result = await ctx.run_typed(call["call"], partial(use_tool, topic, call), RETRY)
            publish(ctx, topic, {"turn": turn, "role": "tool", "result": result})
        await ctx.run_typed("answer", partial(answer, topic, turn, prompt, result), RETRY)
    except restate.TerminalError as error:  # the model refused for good, or somebody cancelled the invocation
        publish(ctx, topic, {"turn": turn, "error": error.message}, event="failed")
        raise
    publish(ctx, topic, {"turn": turn}, event="done")


async def choose_tool(prompt: str) -> dict[str, Any] | None:
    """Ask the model whether it needs a tool."""
    call = await MODEL.choose_tool(prompt)
    return {"call": call.name, "arguments": call.arguments} if call else None


async def answer(topic: str, turn: str, prompt: str, result: Any) -> int:
    """Write the model's tokens to the topic as they come, and return how many there were.

    They continue one another in `text`: a page that is loaded later gets the answer as one message.
    Tried again, the stream opens under the same id: the topic says so to its readers, and refuses whatever an
    earlier attempt still tries to write.
    """
    try:
        async with pubsub.stream(topic, id=turn, join="text") as stream:
            async for text in MODEL.answer(turn, prompt, result):
                await stream.write({"turn": turn, "text": text}, event="token")
    except PubsubError as error:
        if error.final:  # the topic is closed, say: the same again would be refused again, and the model paid again
            raise restate.TerminalError(error.message, error.status) from error
        raise
    return stream.written


# --- tools -----------------------------------------------------------------------------------------------------


async def use_tool(topic: str, call: dict[str, Any]) -> Any:
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
