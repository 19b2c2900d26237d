"""LangChain: a durable agent that can be watched.

    agent = create_agent(model, tools, middleware=[TopicMiddleware(client, topic=lambda run: run.context["topic"])])

`TopicMiddleware` is `restate.ext.langchain.RestateMiddleware` and more: leave that one out. A model streams by itself
as soon as somebody listens, so the answer is heard inside of the durable step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired
from uuid import UUID

from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse, PrivateStateAttr
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, ToolMessage
from restate import RunOptions, TerminalError
from restate.exceptions import SdkInternalBaseException
from restate.ext import langchain as sdk
from restate.server_context import get_extension_data, set_extension_data

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.ext import events
from restate_pubsub.ext.chosen import Chosen, chosen
from restate_pubsub.ext.encoders import Encoder, plain
from restate_pubsub.ext.jsonable import jsonable
from restate_pubsub.ext.run import Run, Speech, Target, begin, working_for


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of a run when it begins: the framework's `context` and the agent's `state`."""

    context: Any
    state: Any


class TopicState(AgentState[Any]):
    """The agent's state, with the run that it belongs to."""

    restate_pubsub: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class TopicMiddleware(sdk.RestateMiddleware):
    """Make an agent durable, and write into a topic what it says and does.

    Args:
        client: from `create_pubsub_client`.
        topic: the topic, or a function of the run's `context` and `state`.
        encode: what is published for each event (`ext.encoders`).
        name: names the run for its readers, like `topic`; the default is the invocation's id with a number.
        agent: what the agent is called in the events.
        run_options: as for the SDK's middleware.

    """

    state_schema = TopicState

    def __init__(
        self,
        client: PubsubClient,
        *,
        topic: Chosen[Started],
        encode: Encoder = plain,
        name: Chosen[Started] | None = None,
        agent: str | None = None,
        run_options: RunOptions[Any] | None = None,
    ) -> None:
        super().__init__(run_options)
        self._target = Target(client, encode)
        self._topic = topic
        self._run_name = name
        self._agent = agent

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Begin a run."""
        started = Started(runtime.context, state)
        name = self._run_name and chosen(self._run_name, started)
        run = begin(sdk.restate_context(), self._target, chosen(self._topic, started), agent=self._agent, name=name)
        await self._ending(run, run.say("started", events.RunStarted))
        return {"restate_pubsub": {"topic": run.topic, "key": run.key, "name": run.name, "nested": run.nested}}

    async def aafter_agent(self, state: Any, runtime: Any) -> None:  # noqa: ARG002 - the framework's signature
        """Tell readers that the run is complete."""
        last = next((said for said in reversed(state["messages"]) if isinstance(said, AIMessage)), None)
        output = state.get("structured_response") or (last.text if last else None)
        run = self._run(state)
        await self._ending(run, run.say("finished", events.RunFinished, output=jsonable(output)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Take the step's number, and call the model in a durable step of the SDK's."""
        run = self._run(request.state)
        step = run.step(sdk.restate_context())

        async def speak(asked: ModelRequest[Any]) -> ModelResponse[Any]:
            async with step.speaking() as speech:
                hearing = _Hearing(speech)
                model = asked.model.model_copy(update={"callbacks": [*(asked.model.callbacks or []), hearing]})
                response = await handler(asked.override(model=model))
                for message in response.result:
                    if not hearing.heard:  # a model that does not stream says all of it at once
                        await hearing.say(message.content)
                    for call in getattr(message, "tool_calls", ()):
                        await speech.tool(call["id"], call["name"], jsonable(call["args"]))
            return response

        return await self._ending(run, super().awrap_model_call(request, speak))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run a tool when it is its turn, and publish what it returns."""
        run = self._run(request.state)
        ctx, ended = sdk.restate_context(), f"restate_pubsub_ended_{run.key}"
        try:
            with working_for(run):
                result = await super().awrap_tool_call(request, handler)
        except TerminalError as error:
            set_extension_data(ctx, ended, error)
            await run.failed(error)
            raise
        except SdkInternalBaseException:  # in the tools whose turn does not come any more; the attempt would never end
            if (refused := get_extension_data(ctx, ended)) is None:
                raise
            raise refused from None
        if isinstance(result, ToolMessage):
            await self._ending(run, _tool_returned(run, _steps(request.state["messages"]), result))
        return result

    def _run(self, state: Any) -> Run:
        return Run(self._target, agent=self._agent, **state["restate_pubsub"])

    async def _ending(self, run: Run, call: Awaitable[Any]) -> Any:
        """Tell readers of what ends the run: no hook of the framework's is called then."""
        try:
            return await call
        except TerminalError as error:
            await run.failed(error)
            raise


def _steps(said: list[Any]) -> int:
    return sum(isinstance(message, AIMessage) for message in said)


async def _tool_returned(run: Run, step: int, result: ToolMessage) -> None:
    call, tool = result.tool_call_id, result.name or ""
    if result.status == "error":
        await run.tool_ended(step, events.ToolFailed, call, tool=tool, error=str(result.text))
    else:
        content = jsonable(result.content)
        await run.tool_ended(step, events.ToolReturned, call, tool=tool, result=content)


class _Hearing(AsyncCallbackHandler):
    """Writes what a model says as it comes. The two methods at its end are what makes a model stream."""

    raise_error = True  # LangChain swallows a callback's errors otherwise, and the step would go on for nobody

    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self.heard = False

    async def on_llm_new_token(self, token: str, *, chunk: Any = None, **_: Any) -> None:
        """Write a token, or the blocks that came with it."""
        self.heard = True
        await self.say(getattr(getattr(chunk, "message", None), "content", token))

    async def say(self, content: Any) -> None:
        """Write a text, or the blocks of one."""
        for block in [content] if isinstance(content, str) else content:
            if isinstance(block, str):
                await self._speech.text(block)
            elif block.get("type") == "text":
                await self._speech.text(block.get("text", ""))
            elif block.get("type") in {"reasoning", "thinking"}:
                await self._speech.reasoning(block.get("reasoning") or block.get("thinking") or "")

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:  # noqa: ARG002
        """Pass on."""
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:  # noqa: ARG002
        """Pass on."""
        return output
