"""An agent of LangChain, for the example chat's page."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import restate
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from restate.ext.langchain import restate_context

import form
import scripted
import tools
from restate_pubsub import create_pubsub_client, create_pubsub_publisher
from restate_pubsub.ext.langchain import TopicMiddleware
from serving import serve

client = create_pubsub_client(os.environ["RESTATE_INGRESS_URL"])
publish = create_pubsub_publisher()
service = restate.Service("agent")


class Fake(BaseChatModel):
    """Says what the script says; the framework's own models for tests take no tools."""

    _llm_type = "fake"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        prompt = next(str(message.content) for message in messages if message.type == "human")
        returned = [message.content for message in messages if message.type == "tool"]
        if call := await scripted.choose(prompt, returned):
            asked = tool_call_chunk(name=call.tool, args=json.dumps(call.arguments), id="call-1", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[asked]))
            return
        async for words in scripted.answer(prompt, returned):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=words))
            if run_manager:
                await run_manager.on_llm_new_token(words, chunk=chunk)
            yield chunk


@tool
async def travel_days(km: float, km_per_hour: float) -> float:
    """Return how many days a journey takes."""
    return await restate_context().run_typed("travel days", tools.travel_days, km=km, km_per_hour=km_per_hour)


@tool
async def look_at_topic(runtime: ToolRuntime) -> str:
    """Return where the log of this conversation begins and ends, and how many bytes it has."""
    topic = runtime.context["topic"]
    return await restate_context().run_typed("look at topic", tools.look_at_topic, client=client, topic=topic)


agent = create_agent(
    ChatOpenAI(model="gpt-5-mini") if os.environ.get("OPENAI_API_KEY") else Fake(),
    [travel_days, look_at_topic],
    system_prompt="Answer in a few sentences.",
    middleware=[
        TopicMiddleware(
            client,
            topic=lambda run: run.context["topic"],
            name=lambda run: run.context["turn"],
            encode=form.encode,
        )
    ],
    context_schema=dict,
)


@service.handler()
async def run(ctx: restate.Context, asked: dict[str, str]) -> None:
    """Answer one prompt of the page."""
    topic, turn, prompt = f"chat/{asked['chat']}", asked["turn"], asked["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    await agent.ainvoke({"messages": [{"role": "user", "content": prompt}]}, context={"topic": topic, "turn": turn})


if __name__ == "__main__":
    asyncio.run(serve(restate.app([service]), os.environ["CHAT_AGENT_BIND"]))
