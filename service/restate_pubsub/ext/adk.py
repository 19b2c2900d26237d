"""Google ADK: durable agents that can be watched.

    app = App(name=…, root_agent=agent, plugins=[TopicPlugin(client, topic=lambda run: run.session.id)])

`TopicPlugin` is `restate.ext.adk.RestatePlugin` and more: leave that one out. The SDK's plugin calls the model itself,
without streaming; here that call streams. ADK makes a `RuntimeError` of whatever a plugin raises, so that Restate would
try a refusal again for ever: what no retry can mend ends the run as ADK ends one, with an event whose `error_code` is
`terminal` (raise `restate.TerminalError` then, if the invocation shall fail).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from typing import Any

from google.adk.flows.llm_flows.functions import generate_client_function_call_id
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from restate import RunOptions, TerminalError
from restate.ext import adk as sdk
from restate.ext.adk.plugin import PluginState
from restate.server_context import clear_extension_data, get_extension_data, set_extension_data

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.ext import events
from restate_pubsub.ext.chosen import Chosen, chosen
from restate_pubsub.ext.encoders import Encoder, plain
from restate_pubsub.ext.jsonable import jsonable
from restate_pubsub.ext.run import Run, Speech, Step, Target, begin, work_for


class TopicPlugin(sdk.RestatePlugin):
    """Make the agents of an app durable, and write into a topic what they say and do.

    Args:
        client: from `create_pubsub_client`.
        topic: the topic, or a function of the framework's invocation context.
        encode: what is published for each event (`ext.encoders`).
        name: names the run for its readers, like `topic`; the default is Restate's invocation id with a number.
        run_options: as for the SDK's plugin.

    """

    def __init__(
        self,
        client: PubsubClient,
        *,
        topic: Chosen[Any],
        encode: Encoder = plain,
        name: Chosen[Any] | None = None,
        run_options: RunOptions[Any] | None = None,
    ) -> None:
        super().__init__(run_options=run_options)
        self._target = Target(client, encode)
        self._topic = topic
        self._run_name = name

    async def before_run_callback(self, *, invocation_context: Any) -> None:
        """Begin a run."""
        name = self._run_name and chosen(self._run_name, invocation_context)
        topic = chosen(self._topic, invocation_context)
        run = begin(sdk.restate_context(), self._target, topic, agent=invocation_context.agent.name, name=name)
        # Kept with the attempt, which the SDK clears at its end, however that comes.
        watched = _Watched(run)
        set_extension_data(sdk.restate_context(), _key(invocation_context), watched)
        await watched.say(run.say("started", events.RunStarted))

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """Tell readers that the run is complete, unless it has failed."""
        await super().after_run_callback(invocation_context=invocation_context)
        watched: _Watched | None = get_extension_data(sdk.restate_context(), _key(invocation_context))
        if watched is not None:
            clear_extension_data(sdk.restate_context(), _key(invocation_context))
            try:
                output = _last_words(invocation_context.session.events)
                await watched.run.say("finished", events.RunFinished, output=output)
            except TerminalError as error:  # ADK would hide it from Restate, and no step follows that ends the run
                await watched.run.failed(error)

    async def before_model_callback(self, *, callback_context: Any, llm_request: LlmRequest) -> LlmResponse | None:
        """Take the step's number, and let the SDK call the model in a durable step."""
        ctx = sdk.restate_context()
        watched = _watched(callback_context)
        watched.steps += 1
        run = watched.run.of(callback_context.agent_name)
        state = PluginState.from_context(callback_context.invocation_id, ctx)
        model = state.model
        state.model = _SpeakingLlm(model=model.model, inner=model, step=run.step(ctx), refused=watched.refused)
        try:
            return await super().before_model_callback(callback_context=callback_context, llm_request=llm_request)
        except TerminalError as error:
            await run.failed(error)
            clear_extension_data(ctx, _key(callback_context))
            return LlmResponse(error_code="terminal", error_message=error.message)
        finally:
            state.model = model

    async def before_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Wait for the tool's turn; a run that it begins belongs to this one."""
        work_for(_watched(tool_context).run)
        return await super().before_tool_callback(tool=tool, tool_args=tool_args, tool_context=tool_context)

    async def after_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, result: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Publish what a tool returns."""
        watched = _watched(tool_context)
        work_for(watched.run.outer)
        await watched.say(watched.tool_ended(events.ToolReturned, tool_context, tool, result=jsonable(result)))
        return await super().after_tool_callback(
            tool=tool, tool_args=tool_args, tool_context=tool_context, result=result
        )

    async def on_tool_error_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any, error: Exception
    ) -> dict[str, Any] | None:
        """Publish that a tool has failed for good, and the run with it; another error is tried again by Restate."""
        watched = _watched(tool_context)
        work_for(watched.run.outer)
        if isinstance(error, TerminalError):
            await watched.say(watched.tool_ended(events.ToolFailed, tool_context, tool, error=error.message))
            await watched.run.failed(error)
        return await super().on_tool_error_callback(
            tool=tool, tool_args=tool_args, tool_context=tool_context, error=error
        )


@dataclass(slots=True)
class _Watched:
    """A run in this attempt: how often its models were called, and what the topic has refused for good."""

    run: Run
    steps: int = 0
    refused: TerminalError | None = None

    async def say(self, saying: Awaitable[None]) -> None:
        """Publish, and keep a refusal for the next step, which ends the run: ADK would hide it from Restate here."""
        try:
            await saying
        except TerminalError as error:
            self.refused = error

    async def tool_ended(self, kind: type[events.ToolEnded], context: Any, tool: Any, **what: Any) -> None:
        """Publish what became of a tool."""
        await self.run.tool_ended(self.steps, kind, context.function_call_id, tool=tool.name, **what)


def _watched(context: Any) -> _Watched:
    watched: _Watched = get_extension_data(sdk.restate_context(), _key(context))
    return watched


def _key(context: Any) -> str:
    return f"restate_pubsub_{context.invocation_id}"


class _SpeakingLlm(BaseLlm):
    """A model that streams into a step, and answers with the whole."""

    inner: BaseLlm
    step: Any
    refused: TerminalError | None

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - the SDK asks for none
    ) -> AsyncGenerator[LlmResponse, None]:
        """Yield the whole answer, once what was said is acknowledged."""
        if self.refused is not None:  # within the step, so that a replay sees what the first attempt saw
            raise self.refused
        step: Step = self.step
        async with step.speaking() as speech:
            whole = await _spoken(speech, self.inner.generate_content_async(llm_request, stream=True))
        yield whole


async def _spoken(speech: Speech, stream: AsyncGenerator[LlmResponse, None]) -> LlmResponse:
    whole: LlmResponse | None = None
    heard = False
    async for response in stream:
        parts = (response.content and response.content.parts) or []
        if response.partial or not heard:  # a model that does not stream says all of it at once
            for part in parts:
                await (speech.reasoning if part.thought else speech.text)(part.text or "")
        heard = heard or bool(response.partial)
        if not response.partial:
            whole = response
    if whole is None:
        msg = "the model's answer broke off before its end"
        raise RuntimeError(msg)
    for part in (whole.content and whole.content.parts) or []:
        if (call := part.function_call) is not None:
            call.id = call.id or generate_client_function_call_id()
            await speech.tool(call.id, call.name or "", jsonable(call.args))
    return whole


def _last_words(said: list[Any]) -> str | None:
    for event in reversed(said):
        if event.author != "user" and event.content and event.content.parts:
            return "".join(part.text or "" for part in event.content.parts if not part.thought)
    return None
