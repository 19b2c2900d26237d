"""An agent of Pydantic AI, with a fake model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import restate
import script
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from restate.ext.pydantic import restate_context

from restate_pubsub import create_pubsub_client
from restate_pubsub.ext.pydantic_ai import RestateAgent

client = create_pubsub_client(script.INGRESS)
service = restate.Service("agent")


async def model(asked: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    task = str(asked[0].parts[-1].content)
    number = 1 + sum(isinstance(message, ModelResponse) for message in asked)
    async for token in script.say(task, number):
        yield token
    if not script.TURNS[task][number - 1].tokens:
        yield ""
    for at, call in enumerate(script.TURNS[task][number - 1].calls):
        yield {at: DeltaToolCall(name=call.tool, json_args=json.dumps(call.arguments), tool_call_id=call.id)}


Deps = dict[str, str]
talker: Agent[Deps, str] = Agent(FunctionModel(stream_function=model), name="talker", deps_type=dict)
sub: Agent[Deps, str] = Agent(FunctionModel(stream_function=model), name="sub", deps_type=dict)
to = {"topic": lambda run: run.deps["topic"], "name": lambda run: run.deps["turn"], "encode": script.ENCODE}
durable = RestateAgent(talker, client=client, **to)
durable_sub = RestateAgent(sub, client=client, **to)


@talker.tool
async def look_up(ctx: RunContext[Deps], what: str) -> str:
    return await restate_context().run_typed("look up", script.look_up, what=what)


@talker.tool
async def delegate(ctx: RunContext[Deps], task: str) -> str:
    return str((await durable_sub.run(task, deps=ctx.deps)).output)


@service.handler()
async def run(ctx: restate.Context, job: dict[str, str]) -> str:
    result = await durable.run(job["task"], deps=job)
    return str(result.output)


if __name__ == "__main__":
    script.run(service)
