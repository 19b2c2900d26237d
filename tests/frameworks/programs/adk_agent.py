"""An agent of Google ADK, with a fake model."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import restate
import script
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.tools import ToolContext
from google.genai import types
from restate.ext.adk import restate_context

from restate_pubsub import create_pubsub_client
from restate_pubsub.ext.adk import TopicPlugin

client = create_pubsub_client(script.INGRESS)
service = restate.Service("agent")


class FakeModel(BaseLlm):
    """Says what the script says."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        assert stream
        contents = llm_request.contents
        task = next(part.text for content in contents if content.role == "user" for part in content.parts if part.text)
        number = 1 + sum(content.role == "model" for content in contents)
        said = ""
        async for token in script.say(task, number):
            said += token
            if task == "whole":
                continue
            yield LlmResponse(partial=True, content=types.Content(role="model", parts=[types.Part(text=token)]))
        parts = [types.Part(text=said)]
        for call in script.TURNS[task][number - 1].calls:
            function = types.FunctionCall(id=call.id, name=call.tool, args=dict(call.arguments))
            parts.append(types.Part(function_call=function))
        yield LlmResponse(content=types.Content(role="model", parts=parts))


async def look_up(what: str) -> str:
    """Look something up."""
    return str(await restate_context().run_typed("look up", script.look_up, what=what))


async def delegate(task: str, tool_context: ToolContext) -> str:
    """Ask another agent."""
    return await _run(sub, dict(tool_context.state.to_dict()), task)


def app(agent: LlmAgent) -> App:
    plugin = TopicPlugin(
        client,
        topic=lambda run: run.session.state["topic"],
        name=lambda run: run.session.state["turn"],
        encode=script.ENCODE,
    )
    return App(name="watched", root_agent=agent, plugins=[plugin])


sub = app(LlmAgent(name="sub", model=FakeModel(model="fake")))
talker = app(LlmAgent(name="talker", model=FakeModel(model="fake"), tools=[look_up, delegate]))


async def _run(chosen: App, job: dict[str, str], task: str) -> str:
    sessions = InMemorySessionService()
    session = await sessions.create_session(app_name="watched", user_id="user", state=dict(job))
    runner = Runner(app=chosen, session_service=sessions)
    message = types.Content(role="user", parts=[types.Part(text=task)])
    text = ""
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=message):
        if event.error_code:
            raise restate.TerminalError(event.error_message or event.error_code, 400)
        if event.is_final_response() and event.content:
            text = "".join(part.text or "" for part in event.content.parts or [])
    return text


@service.handler()
async def run(ctx: restate.Context, job: dict[str, str]) -> str:
    return await _run(talker, job, job["task"])


if __name__ == "__main__":
    script.run(service)
