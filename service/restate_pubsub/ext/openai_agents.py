"""OpenAI Agents: a durable run that can be watched.

    result = await run(agent, "What is new?", client=client, topic=topic)

It takes the place of `restate.ext.openai.DurableRunner.run`, which journals only calls that do not stream, and reaches
its models by their names alone. Here a model is called with `stream_response` inside the durable step, whether the
agent names it or carries it; agents may hand over to one another in circles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from agents import (
    Agent,
    AgentsException,
    FunctionTool,
    Handoff,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    Model,
    ModelBehaviorError,
    ModelResponse,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    RunResult,
    Usage,
    handoff,
)
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.models.interface import ModelProvider
from agents.tool_context import ToolContext
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from restate import RunOptions, TerminalError
from restate.exceptions import SdkInternalBaseException
from restate.ext.openai import restate_context
from restate.ext.openai.models import RestateModelResponse
from restate.ext.openai.session import RestateSession
from restate.ext.turnstile import Turnstile

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.ext import events
from restate_pubsub.ext.encoders import Encoder, plain
from restate_pubsub.ext.jsonable import jsonable
from restate_pubsub.ext.run import Run, Speech, Target, running

_FINAL = (MaxTurnsExceeded, ModelBehaviorError, InputGuardrailTripwireTriggered, OutputGuardrailTripwireTriggered)


async def run(
    agent: Agent[Any],
    input: str | list[TResponseInputItem],  # noqa: A002 - the framework's name
    *,
    client: PubsubClient,
    topic: str,
    encode: Encoder = plain,
    name: str | None = None,
    use_restate_session: bool = False,
    run_options: RunOptions[Any] | None = None,
    run_config: RunConfig | None = None,
    **options: Any,
) -> RunResult:
    """Run an agent durably, and write into a topic what it says and does.

    Args:
        agent: where the run starts.
        input: as for `Runner.run`.
        client: from `create_pubsub_client`.
        topic: where everything goes.
        encode: what is published for each event (`ext.encoders`).
        name: names the run for its readers; the default is the invocation's id with a number.
        use_restate_session: as for the SDK's `DurableRunner.run`.
        run_options: as for the SDK's `DurableRunner.run`.
        run_config: as for `Runner.run`.
        **options: as for `Runner.run`.

    Raises:
        restate.TerminalError: the topic, or the model's step, refused for good; or the framework ended the run, as
            too many turns or a guardrail do (`__cause__` is its own error).

    """
    config = run_config or RunConfig()
    session = options.pop("session", None)
    if use_restate_session:
        if session is not None:
            msg = "run: give either session or use_restate_session"
            raise TerminalError(msg)
        session = RestateSession()
    async with running(restate_context(), Target(client, encode), topic, agent=agent.name, name=name) as ended:
        prepared = _Prepared(ended.run, config.model_provider, config.model, run_options or RunOptions())
        config = dataclasses.replace(config, model=None)
        try:
            result = await Runner.run(prepared.agent(agent), input, run_config=config, session=session, **options)
        except _FINAL as error:  # each try would find the same answers in the journal
            raise TerminalError(str(error)) from error
        finally:
            if use_restate_session:
                session.flush()
        ended.output = jsonable(result.final_output)
        return result


class _Prepared:
    """The agents of a run, each with models and tools that are durable and tell what they do."""

    def __init__(self, run: Run, provider: ModelProvider, model: str | Model | None, options: RunOptions[Any]) -> None:
        self.turnstile = Turnstile([])
        self.steps = 0
        self._ended: _Ended | None = None
        self._run = run
        self._provider = provider
        self._model = model
        self._options = options
        self._agents: dict[int, Agent[Any]] = {}
        self._handoffs = 0

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the agent as this run uses it; those that it may hand over to are prepared with it."""
        if (known := self._agents.get(id(agent))) is not None:
            return known
        run = self._run.of(agent.name)
        tools = [self._tool(run, tool) if isinstance(tool, FunctionTool) else tool for tool in agent.tools]
        prepared = agent.clone(tools=tools, model=_SpeakingModel(self, run, self._model_of(agent), self._options))
        self._agents[id(agent)] = self._agents[id(prepared)] = prepared
        prepared.handoffs = [self._handoff(run, to) for to in agent.handoffs]
        return prepared

    def _model_of(self, agent: Agent[Any]) -> Model:
        model = self._model or agent.model
        return model if isinstance(model, Model) else self._provider.get_model(model)

    def _tool(self, run: Run, tool: FunctionTool) -> FunctionTool:
        async def invoke(context: ToolContext[Any], arguments: str) -> Any:
            turnstile, call = self.turnstile, context.tool_call_id
            with self._ending():
                await turnstile.wait_for(call)
                try:
                    result = await tool.on_invoke_tool(context, arguments)
                    told = {"tool": tool.name, "result": jsonable(result)}
                    await run.tool_ended(self.steps, events.ToolReturned, call, **told)
                except BaseException:
                    turnstile.cancel_all_after(call)
                    raise
                turnstile.allow_next_after(call)
                return result

        return dataclasses.replace(tool, on_invoke_tool=invoke)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Let a terminal error of a tool end the run.

        In the tools whose turn does not come any more, the SDK raises what says that the attempt is over. The framework
        would take that for the cause, and the attempt would never end.
        """
        try:
            yield
        except TerminalError as error:
            self._ended = _Ended(error)
            raise self._ended from error
        except SdkInternalBaseException:
            if self._ended is None:
                raise
            raise self._ended from None

    def _handoff(self, run: Run, to: Agent[Any] | Handoff[Any, Any]) -> Handoff[Any, Any]:
        hand_over = to if isinstance(to, Handoff) else handoff(to)
        original: Callable[..., Any] = hand_over.on_invoke_handoff

        async def invoke(*given: Any) -> Any:
            chosen = await original(*given)
            self._handoffs += 1
            await run.say(f"handoff/{self._handoffs}", events.HandedOff, to=chosen.name)
            return self.agent(chosen)

        return dataclasses.replace(hand_over, on_invoke_handoff=invoke)


class _Ended(AgentsException, TerminalError):
    """A terminal error in a tool: of one that is not its own, the framework makes another, which would be retried."""

    def __init__(self, error: TerminalError) -> None:
        TerminalError.__init__(self, error.message, error.status_code, error.metadata)


class _SpeakingModel(Model):
    """A model whose call is a durable step that writes what it says."""

    def __init__(self, prepared: _Prepared, run: Run, model: Model, options: RunOptions[Any]) -> None:
        self._prepared = prepared
        self._run = run
        self._model = model
        self._options = options

    async def get_response(self, *given: Any, **named: Any) -> ModelResponse:
        """Take the step's number, and call the model in a durable step."""
        ctx = restate_context()
        step = self._run.step(ctx)
        self._prepared.steps += 1

        async def call() -> RestateModelResponse:
            async with step.speaking() as speech:
                response = await _spoken(speech, self._model.stream_response(*given, **named))
            return RestateModelResponse(output=response.output, usage=_usage(response), response_id=response.id)

        result = await ctx.run_typed("call LLM", call, self._options)
        calls = [item.call_id for item in result.output if isinstance(item, ResponseFunctionToolCall)]
        self._prepared.turnstile = Turnstile(calls)
        return ModelResponse(output=result.output, usage=result.usage, response_id=result.response_id)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Refuse: the framework's own streaming is not journaled."""
        msg = "run_streamed is not durable: use ext.openai_agents.run, and read the topic"
        raise TerminalError(msg)


async def _spoken(speech: Speech, stream: AsyncIterator[TResponseStreamEvent]) -> Response:
    """Write what a model says as it comes, and return its whole answer."""
    done: list[Any] = []
    heard = False
    response: Response | None = None
    event: Any = None
    async for event in stream:
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                heard = True
                await speech.text(event.delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                await speech.reasoning(event.delta)
            case "response.output_item.done":
                done.append(event.item)
            case "response.completed":
                response = event.response
    if response is None:  # failed, incomplete, or cut off
        msg = f"the model's answer broke off before its end: {getattr(event, 'type', 'nothing came')}"
        raise RuntimeError(msg)
    response.output = response.output or done  # some providers leave the items out of the last event
    if not heard:  # a model that does not stream says all of it at once
        await speech.text(_text(response))
    for item in response.output:
        if isinstance(item, ResponseFunctionToolCall):
            await speech.tool(item.call_id, item.name, _arguments(item.arguments))
    return response


def _text(response: Response) -> str:
    parts = [part for item in response.output if isinstance(item, ResponseOutputMessage) for part in item.content]
    return "".join(part.text if isinstance(part, ResponseOutputText) else part.refusal for part in parts)


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:  # the framework will tell the model
        return text


def _usage(response: Response) -> Usage:
    used = response.usage
    if used is None:
        return Usage(requests=1)
    return Usage(
        requests=1,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
        input_tokens_details=used.input_tokens_details,
        output_tokens_details=used.output_tokens_details,
    )
