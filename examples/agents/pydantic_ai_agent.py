"""An agent of Pydantic AI, for the example chat's page."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import restate
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from restate.ext.pydantic import restate_context

import form
import scripted
import tools
from restate_pubsub import create_pubsub_client, create_pubsub_publisher
from restate_pubsub.ext.pydantic_ai import RestateAgent
from serving import serve

client = create_pubsub_client(os.environ["RESTATE_INGRESS_URL"])
publish = create_pubsub_publisher()
service = restate.Service("agent")


async def fake(asked: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """Say what the script says: the framework's own model for tests."""
    parts = [part for message in asked for part in message.parts]
    prompt = next(str(part.content) for part in parts if isinstance(part, UserPromptPart))
    returned = [part.content for part in parts if isinstance(part, ToolReturnPart)]
    if call := await scripted.choose(prompt, returned):
        yield {0: DeltaToolCall(name=call.tool, json_args=json.dumps(call.arguments), tool_call_id="call-1")}
        return
    async for words in scripted.answer(prompt, returned):
        yield words


Turn = dict[str, str]
model = "openai:gpt-5-mini" if os.environ.get("OPENAI_API_KEY") else FunctionModel(stream_function=fake)
talker: Agent[Turn, str] = Agent(model, name="talker", deps_type=dict, instructions="Answer in a few sentences.")
agent = RestateAgent(
    talker,
    client=client,
    topic=lambda run: run.deps["topic"],
    name=lambda run: run.deps["turn"],
    encode=form.encode,
)


@talker.tool_plain
async def travel_days(km: float, km_per_hour: float) -> float:
    """Return how many days a journey takes."""
    return await restate_context().run_typed("travel days", tools.travel_days, km=km, km_per_hour=km_per_hour)


@talker.tool
async def look_at_topic(run: RunContext[Turn]) -> str:
    """Return where the log of this conversation begins and ends, and how many bytes it has."""
    return await restate_context().run_typed(
        "look at topic", tools.look_at_topic, client=client, topic=run.deps["topic"]
    )


@service.handler()
async def run(ctx: restate.Context, asked: dict[str, str]) -> None:
    """Answer one prompt of the page."""
    topic, turn, prompt = f"chat/{asked['chat']}", asked["turn"], asked["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    await agent.run(prompt, deps={"topic": topic, "turn": turn})


if __name__ == "__main__":
    asyncio.run(serve(restate.app([service]), os.environ["CHAT_AGENT_BIND"]))
