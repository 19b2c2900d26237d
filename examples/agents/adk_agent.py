"""An agent of Google ADK, for the example chat's page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

import restate
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

import form
import scripted
import tools
from restate_pubsub import create_pubsub_client, create_pubsub_publisher
from restate_pubsub.ext.adk import TopicPlugin
from serving import serve

client = create_pubsub_client(os.environ["RESTATE_INGRESS_URL"])
publish = create_pubsub_publisher()
service = restate.Service("agent")


class Fake(BaseLlm):
    """Says what the script says; the framework has no model for tests."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [part for content in llm_request.contents for part in content.parts]
        prompt, said = next(part.text for part in parts if part.text), ""
        returned = [part.function_response.response["result"] for part in parts if part.function_response]
        if call := await scripted.choose(prompt, returned):
            asked = types.FunctionCall(id="call-1", name=call.tool, args=call.arguments)
            yield LlmResponse(content=types.Content(role="model", parts=[types.Part(function_call=asked)]))
            return
        async for words in scripted.answer(prompt, returned):
            said += words
            yield LlmResponse(partial=True, content=types.Content(role="model", parts=[types.Part(text=words)]))
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=said)]))


async def travel_days(km: float, km_per_hour: float) -> float:
    """Return how many days a journey takes."""
    return await restate_context().run_typed("travel days", tools.travel_days, km=km, km_per_hour=km_per_hour)


async def look_at_topic(tool_context: ToolContext) -> str:
    """Return where the log of this conversation begins and ends, and how many bytes it has."""
    topic = tool_context.state["topic"]
    return await restate_context().run_typed("look at topic", tools.look_at_topic, client=client, topic=topic)


agent = LlmAgent(
    name="talker",
    instruction="Answer in a few sentences.",
    model="gemini-2.5-flash" if os.environ.get("GOOGLE_API_KEY") else Fake(model="fake"),
    tools=[travel_days, look_at_topic],
)
watched = TopicPlugin(
    client,
    topic=lambda run: run.session.state["topic"],
    name=lambda run: run.session.state["turn"],
    encode=form.encode,
)
app = App(name="talker", root_agent=agent, plugins=[watched])


@service.handler()
async def run(ctx: restate.Context, asked: dict[str, str]) -> None:
    """Answer one prompt of the page."""
    topic, turn, prompt = f"chat/{asked['chat']}", asked["turn"], asked["prompt"]
    publish(ctx, topic, {"turn": turn, "role": "user", "content": prompt})
    sessions = InMemorySessionService()
    session = await sessions.create_session(app_name="talker", user_id="user", state={"topic": topic, "turn": turn})
    runner = Runner(app=app, session_service=sessions)
    message = types.Content(role="user", parts=[types.Part(text=prompt)])
    async for event in runner.run_async(user_id="user", session_id=session.id, new_message=message):
        if event.error_code:
            raise restate.TerminalError(event.error_message or event.error_code)


if __name__ == "__main__":
    asyncio.run(serve(restate.app([service]), os.environ["CHAT_AGENT_BIND"]))
