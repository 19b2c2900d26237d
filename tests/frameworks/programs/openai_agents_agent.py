"""An agent of OpenAI Agents, with a fake model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import restate
import script
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

from restate_pubsub import create_pubsub_client
from restate_pubsub.ext import openai_agents

set_tracing_disabled(True)
client = create_pubsub_client(script.INGRESS)
service = restate.Service("agent")


class FakeModel(Model):
    """Says what the script says."""

    async def get_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def stream_response(self, *given: Any, **named: Any) -> AsyncIterator[Any]:
        asked = named["input"] if "input" in named else given[1]
        items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        task = items[0]["content"]
        number = 1 + sum(item.get("role") == "assistant" for item in items)
        said = ""
        async for token in script.say(task, number):
            said += token
            if task == "whole":
                continue
            yield ResponseTextDeltaEvent(
                type="response.output_text.delta",
                delta=token,
                content_index=0,
                item_id="m",
                output_index=0,
                sequence_number=0,
                logprobs=[],
            )
        text = ResponseOutputText(type="output_text", text=said, annotations=[])
        message = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        calls = [
            ResponseFunctionToolCall(
                type="function_call", call_id=call.id, name=call.tool, arguments=json.dumps(call.arguments)
            )
            for call in script.TURNS[task][number - 1].calls
        ]
        response = Response(
            id="r",
            created_at=0,
            model="fake",
            object="response",
            output=[message, *calls],
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=True,
        )
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=1)


@durable_function_tool
async def look_up(what: str) -> str:
    """Look something up."""
    return str(await restate_context().run_typed("look up", script.look_up, what=what))


@durable_function_tool
async def delegate(wrapper: RunContextWrapper[Any], task: str) -> str:
    """Ask another agent."""
    return await _run(sub, wrapper.context, task)


sub = Agent(name="sub", model=FakeModel())
talker = Agent(name="talker", model=FakeModel(), tools=[look_up, delegate])
sub.handoffs = [talker]
talker.handoffs = [sub]


async def _run(agent: Agent[Any], job: dict[str, str], task: str) -> str:
    to = {"client": client, "topic": job["topic"], "name": job["turn"], "encode": script.ENCODE}
    result = await openai_agents.run(agent, task, context=job, **to)
    return str(result.final_output)


@service.handler()
async def run(ctx: restate.Context, job: dict[str, str]) -> str:
    return await _run(talker, job, job["task"])


if __name__ == "__main__":
    script.run(service)
