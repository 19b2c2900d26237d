"""An agent of LangChain, with a fake model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import restate
import script
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from restate.ext.langchain import restate_context

from restate_pubsub import create_pubsub_client
from restate_pubsub.ext.langchain import TopicMiddleware

client = create_pubsub_client(script.INGRESS)
service = restate.Service("agent")


class FakeModel(BaseChatModel):
    """Says what the script says."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        said = [token async for token in script.say("whole", 1)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="".join(said)))])

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, run_manager: Any = None, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        task = next(str(message.content) for message in messages if message.type == "human")
        number = 1 + sum(isinstance(message, AIMessage) for message in messages)
        async for token in script.say(task, number):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
            if run_manager:
                await run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk
        if not script.TURNS[task][number - 1].tokens:
            yield ChatGenerationChunk(message=AIMessageChunk(content=""))
        for at, call in enumerate(script.TURNS[task][number - 1].calls):
            arguments = json.dumps(call.arguments)
            part = tool_call_chunk(name=call.tool, args=arguments, id=call.id, index=at)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[part]))


@tool
async def look_up(what: str) -> str:
    """Look something up."""
    return str(await restate_context().run_typed("look up", script.look_up, what=what))


@tool
async def delegate(task: str, runtime: ToolRuntime) -> str:
    """Ask another agent."""
    return await _run(sub, runtime.context, task)


def watched(name: str) -> TopicMiddleware:
    return TopicMiddleware(
        client,
        topic=lambda run: run.context["topic"],
        name=lambda run: run.context["turn"],
        encode=script.ENCODE,
        agent=name,
    )


whole = create_agent(FakeModel(disable_streaming=True), [], middleware=[watched("talker")], context_schema=dict)
sub = create_agent(FakeModel(), [], middleware=[watched("sub")], context_schema=dict)
talker = create_agent(FakeModel(), [look_up, delegate], middleware=[watched("talker")], context_schema=dict)


async def _run(agent: Any, job: dict[str, str], task: str) -> str:
    result = await agent.ainvoke({"messages": [{"role": "user", "content": task}]}, context=job)
    return str(result["messages"][-1].content)


@service.handler()
async def run(ctx: restate.Context, job: dict[str, str]) -> str:
    return await _run(whole if job["task"] == "whole" else talker, job, job["task"])


if __name__ == "__main__":
    script.run(service)
