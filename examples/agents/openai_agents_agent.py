"""An agent of OpenAI Agents, for the example chat's page."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import restate
from agents import Agent, Model, RunContextWrapper, set_tracing_disabled
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)
from restate.ext.openai import durable_function_tool, restate_context

import form
import scripted
import tools
from restate_pubsub import create_pubsub_client, create_pubsub_publisher
from restate_pubsub.ext import openai_agents
from serving import serve

set_tracing_disabled(True)
client = create_pubsub_client(os.environ["RESTATE_INGRESS_URL"])
publish = create_pubsub_publisher()
service = restate.Service("agent")


class Fake(Model):
    """Says what the script says; the framework has no model for tests."""

    async def get_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream_response(self, *given: Any, **named: Any) -> AsyncIterator[Any]:
        asked = named["input"] if "input" in named else given[1]
        items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        returned = [item["output"] for item in items if item.get("type") == "function_call_output"]
        prompt, said = items[0]["content"], ""
        if call := await scripted.choose(prompt, returned):
            arguments = json.dumps(call.arguments)
            yield completed(
                ResponseFunctionToolCall(type="function_call", call_id="call-1", name=call.tool, arguments=arguments)
            )
            return
        where = {"item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 0, "logprobs": []}
        async for words in scripted.answer(prompt, returned):
            said += words
            yield ResponseTextDeltaEvent(type="response.output_text.delta", delta=words, **where)
        text = ResponseOutputText(type="output_text", text=said, annotations=[])
        yield completed(
            ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        )


def completed(item: Any) -> ResponseCompletedEvent:
    """Return the end of an answer that consists of one item."""
    how: dict[str, Any] = {"tool_choice": "auto", "tools": [], "parallel_tool_calls": True}
    response = Response(id="r", created_at=0, model="fake", object="response", output=[item], **how)
    return ResponseCompletedEvent(type="response.completed", response=response, sequence_number=1)


@durable_function_tool
async def travel_days(km: float, km_per_hour: float) -> float:
    """Return how many days a journey takes."""
    return await restate_context().run_typed("travel days", tools.travel_days, km=km, km_per_hour=km_per_hour)


@durable_function_tool
async def look_at_topic(run: RunContextWrapper[str]) -> str:
    """Return where the log of this conversation begins and ends, and how many bytes it has."""
    return await restate_context().run_typed("look at topic", tools.look_at_topic, client=client, topic=run.context)


agent = Agent(
    name="talker",
    instructions="Answer in a few sentences.",
    model="gpt-5-mini" if os.environ.get("OPENAI_API_KEY") else Fake(),
    tools=[travel_days, look_at_topic],
)


@service.handler()
async def run(ctx: restate.Context, asked: dict[str, str]) -> None:
    """Answer one prompt of the page."""
    topic, turn, prompt = f"chat/{asked['chat']}", asked["turn"], asked["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    how = {"client": client, "topic": topic, "name": turn, "encode": form.encode}
    await openai_agents.run(agent, prompt, context=topic, **how)


if __name__ == "__main__":
    asyncio.run(serve(restate.app([service]), os.environ["CHAT_AGENT_BIND"]))
