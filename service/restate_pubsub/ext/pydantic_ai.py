"""Pydantic AI: an agent on Restate whose answers can be watched.

    agent = RestateAgent(my_agent, client=client, topic=lambda run: run.deps.topic)

It is `restate.ext.pydantic.RestateAgent`, and its `run` is used in the same way. Three things differ from giving that
one an `event_stream_handler` that publishes: a model's call gets its name before the step begins; what tools return is
published outside of the journal; and the turns of tools that run side by side are known after a streamed answer, too
(the SDK sets them only after one that was not streamed).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai import RunContext, messages
from pydantic_ai.agent import AbstractAgent, AgentRunResult
from pydantic_ai.exceptions import UnexpectedModelBehavior, UsageLimitExceeded
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from restate import RunOptions, TerminalError
from restate.ext import pydantic as sdk
from restate.ext.pydantic._utils import current_state
from restate.ext.turnstile import Turnstile

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.ext import events
from restate_pubsub.ext.chosen import Chosen, chosen
from restate_pubsub.ext.encoders import Encoder, plain
from restate_pubsub.ext.jsonable import jsonable
from restate_pubsub.ext.run import Run, Speech, Step, Target, current_run, running


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of a run when it begins: the dependencies and the prompt that it was given."""

    deps: Any
    prompt: Any


class RestateAgent(sdk.RestateAgent):
    """A durable agent that writes into a topic what it says and does.

    Args:
        wrapped: the agent.
        client: from `create_pubsub_client`.
        topic: the topic, or a function of the run's `deps` and `prompt`.
        encode: what is published for each event (`ext.encoders`).
        name: names the run for its readers, like `topic`; the default is the invocation's id with a number. Take
            what the page knows, such as the id of the turn. Agents that this one calls share it.
        auto_wrap_tools, run_options: as in the SDK's agent.

    """

    def __init__(
        self,
        wrapped: AbstractAgent[Any, Any],
        *,
        client: PubsubClient,
        topic: Chosen[Started],
        encode: Encoder = plain,
        name: Chosen[Started] | None = None,
        auto_wrap_tools: bool = False,
        run_options: RunOptions[Any] | None = None,
    ) -> None:
        super().__init__(
            wrapped, event_stream_handler=_tools_return, auto_wrap_tools=auto_wrap_tools, run_options=run_options
        )
        self._model = _SpeakingModel(wrapped.model, run_options or RunOptions())
        self._target = Target(client, encode)
        self._topic = topic
        self._run_name = name

    async def run(self, user_prompt: Any = None, **options: Any) -> AgentRunResult[Any]:
        """Run the agent, as the SDK's agent does; `event_stream_handler` is this library's."""
        started = Started(options.get("deps"), user_prompt)
        topic, name = chosen(self._topic, started), self._run_name and chosen(self._run_name, started)
        options["event_stream_handler"] = _tools_return
        async with running(sdk.restate_context(), self._target, topic, agent=self.name, name=name) as ended:
            try:
                result = await super().run(user_prompt, **options)
            except (UnexpectedModelBehavior, UsageLimitExceeded) as error:
                raise TerminalError(error.message) from error  # each try would find the same answers in the journal
            ended.output = jsonable(result.output)
            return result


class _SpeakingModel(sdk.RestateModelWrapper):
    """The SDK's durable model; its step writes what the model says."""

    def __init__(self, wrapped: Model, options: RunOptions[Any]) -> None:
        super().__init__(wrapped, options)
        self._run_options = options

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[messages.ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        """Take the step's number, and call the model in a durable step of the SDK's."""
        step = _run().step(sdk.restate_context())

        opened = _OpenedModel(self.wrapped, step)

        async def speak(_: RunContext[Any], response: AsyncIterable[Any]) -> None:
            await _speak(opened.speech, response)

        durable = sdk.RestateModelWrapper(opened, self._run_options, event_stream_handler=speak)
        asked = messages, model_settings, model_request_parameters, run_context
        async with durable.request_stream(*asked) as response:
            current_state().turnstile = Turnstile([call.tool_call_id for call in response.get().tool_calls])
            yield response


class _OpenedModel(WrapperModel):
    """A model that is asked once the step's stream is open: a step that is refused there costs nothing."""

    def __init__(self, wrapped: Model, step: Step) -> None:
        super().__init__(wrapped)
        self._step = step
        self.speech: Speech

    @asynccontextmanager
    async def request_stream(self, *asked: Any, **named: Any) -> AsyncIterator[StreamedResponse]:
        """Open the stream, and ask the model."""
        async with self._step.speaking() as self.speech, super().request_stream(*asked, **named) as response:
            yield response


def _run() -> Run:
    run = current_run()
    if run is None:
        msg = "no run: call RestateAgent.run within a Restate handler"
        raise RuntimeError(msg)
    return run


async def _speak(speech: Speech, response: AsyncIterable[Any]) -> None:
    """Write what a model says as it comes; tools, when their arguments are complete."""
    calls: dict[int, messages.ToolCallPart] = {}
    async for event in response:
        match event:
            case messages.PartStartEvent(part=messages.TextPart(content=text)):
                await speech.end_part()
                await speech.text(text)
            case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
                await speech.text(text)
            case messages.PartStartEvent(part=messages.ThinkingPart(content=text)):
                await speech.end_part()
                await speech.reasoning(text)
            case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=str(text))):
                await speech.reasoning(text)
            case messages.PartStartEvent(index=index, part=messages.ToolCallPart() as call):
                calls[index] = call
            case messages.PartDeltaEvent(index=index, delta=messages.ToolCallPartDelta() as delta) if index in calls:
                calls[index] = delta.apply(calls[index])
    for call in calls.values():
        await speech.tool(call.tool_call_id, call.tool_name, _arguments(call))


def _arguments(call: messages.ToolCallPart) -> Any:
    try:
        return call.args_as_dict()
    except (ValueError, AssertionError):  # the model wrote what is no JSON; the framework will tell it so
        return call.args


async def _tools_return(context: RunContext[Any], happened: AsyncIterable[Any]) -> None:
    """Publish what each tool returns, as it returns."""
    run = _run()
    async for event in happened:
        if isinstance(event, messages.FunctionToolResultEvent):
            await _tool_returned(run, context.run_step, event)


async def _tool_returned(run: Run, step: int, event: messages.FunctionToolResultEvent) -> None:
    part = getattr(event, "part", None) or event.result
    call, tool = part.tool_call_id, part.tool_name or ""
    if isinstance(part, messages.ToolReturnPart) and getattr(part, "outcome", "success") == "success":
        result = jsonable(part.content)
        await run.tool_ended(step, events.ToolReturned, call, tool=tool, result=result)
    else:
        error = part.content if isinstance(part.content, str) else part.model_response()
        await run.tool_ended(step, events.ToolFailed, call, tool=tool, error=error)
