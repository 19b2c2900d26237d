"""From what an agent does to the messages of a topic: `plain`, `ai_sdk` and `ag_ui`.

An encoder is called with each event and returns `(data, name)`, or None for what its readers need not see. Its
attribute `join`, if it has one, is the field in which its text deltas continue one another.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from restate_pubsub.ext import events

Encoded = tuple[Any, str | None]


class Encoder(Protocol):
    """What turns events into messages; a plain function will do."""

    def __call__(self, event: events.AgentEvent) -> Encoded | None:
        """Return the message's data and the name of its event (None: without a name); None publishes nothing."""


class Plain:
    """The form of the example chat: tokens are `{"turn", "step", "text"}`, named `token`.

    `turn` is the run's name. A page that sees `restart` drops what carries its `id` as `step`. Agents that others call
    add their name as `agent`.
    """

    join = "text"

    def __call__(self, event: events.AgentEvent) -> Encoded | None:  # noqa: PLR0911 - one return for each event
        """Return the message."""
        data: dict[str, Any] = {"turn": event.run}
        if event.nested:
            data["agent"] = event.agent
        match event:
            case events.TextDelta():
                return {**data, "step": event.step, "text": event.text}, "token"
            case events.ReasoningDelta():
                return {**data, "step": event.step, "text": event.text}, "thinking"
            case events.ToolCalled():
                called = {"call": event.tool, "id": event.call, "arguments": event.arguments}
                return {**data, "step": event.step, "role": "tool", **called}, None
            case events.ToolReturned():
                return {**data, "role": "tool", "id": event.call, "result": event.result}, None
            case events.ToolFailed():
                return {**data, "role": "tool", "id": event.call, "error": event.error}, None
            case events.HandedOff():
                return {**data, "role": "handoff", "agent": event.agent, "to": event.to}, None
            case events.RunFinished(nested=False):
                return {**data, "output": event.output}, "done"
            case events.RunFailed(nested=False):
                return {**data, "error": event.error}, "failed"
        return None


class AiSdk:
    """The chunks of the Vercel AI SDK's UI message stream, which `useChat` reads through `?view=ai-sdk`.

    What an agent does that another one calls stays inside the one message of the turn. A run that was stopped has ended
    with the event `stop`: what its agent would say of it comes later, and would end the answer to the next prompt.
    """

    join = "delta"

    def __call__(self, event: events.AgentEvent) -> Encoded | None:
        """Return the chunk, without a name."""
        chunk = self._chunk(event)
        return None if chunk is None else (chunk, None)

    def _chunk(self, event: events.AgentEvent) -> dict[str, Any] | None:  # noqa: C901, PLR0911, PLR0912
        match event:
            case events.RunStarted(nested=False):
                return {"type": "start", "messageId": event.run}
            case events.StepStarted():
                return {"type": "start-step"}
            case events.TextStarted():
                return {"type": "text-start", "id": event.part}
            case events.TextDelta():
                return {"type": "text-delta", "id": event.part, "delta": event.text}
            case events.TextEnded():
                return {"type": "text-end", "id": event.part}
            case events.ReasoningStarted():
                return {"type": "reasoning-start", "id": event.part}
            case events.ReasoningDelta():
                return {"type": "reasoning-delta", "id": event.part, "delta": event.text}
            case events.ReasoningEnded():
                return {"type": "reasoning-end", "id": event.part}
            case events.ToolCalled():
                named = {"toolCallId": event.call, "toolName": event.tool}
                return {"type": "tool-input-available", **named, "input": event.arguments}
            case events.StepEnded():
                return {"type": "finish-step"}
            case events.ToolReturned():
                return {"type": "tool-output-available", "toolCallId": event.call, "output": event.result}
            case events.ToolFailed():
                return {"type": "tool-output-error", "toolCallId": event.call, "errorText": event.error}
            case events.RunFinished(nested=False):
                return {"type": "finish"}
            case events.RunFailed(nested=False, stopped=False):
                return {"type": "error", "errorText": event.error}
        return None


class AgUi:
    """The events of AG-UI, which its clients read through `?view=ag-ui`. `thread` names the conversation.

    A run that was stopped has ended with the event `stop`, as with `AiSdk`.
    """

    join = "delta"

    def __init__(self, thread: str) -> None:
        self._thread = thread

    def __call__(self, event: events.AgentEvent) -> Encoded | None:
        """Return the event, without a name."""
        encoded = self._event(event)
        return None if encoded is None else (encoded, None)

    def _event(self, event: events.AgentEvent) -> dict[str, Any] | None:  # noqa: C901, PLR0911, PLR0912
        run = {"threadId": self._thread, "runId": event.run}
        match event:
            case events.RunStarted(nested=False):
                return {"type": "RUN_STARTED", **run}
            case events.StepStarted():
                return {"type": "STEP_STARTED", "stepName": event.step}
            case events.TextStarted():
                return {"type": "TEXT_MESSAGE_START", "messageId": event.part, "role": "assistant"}
            case events.TextDelta():
                return {"type": "TEXT_MESSAGE_CONTENT", "messageId": event.part, "delta": event.text}
            case events.TextEnded():
                return {"type": "TEXT_MESSAGE_END", "messageId": event.part}
            case events.ReasoningStarted():
                return {"type": "REASONING_MESSAGE_START", "messageId": event.part, "role": "reasoning"}
            case events.ReasoningDelta():
                return {"type": "REASONING_MESSAGE_CONTENT", "messageId": event.part, "delta": event.text}
            case events.ReasoningEnded():
                return {"type": "REASONING_MESSAGE_END", "messageId": event.part}
            case events.ToolCalled():
                named = {"toolCallId": event.call, "toolCallName": event.tool}
                return {"type": "TOOL_CALL_CHUNK", **named, "delta": _text(event.arguments)}
            case events.StepEnded():
                return {"type": "STEP_FINISHED", "stepName": event.step}
            case events.ToolReturned():
                return self._result(event.call, _text(event.result))
            case events.ToolFailed():
                return self._result(event.call, event.error)
            case events.RunFinished(nested=False):
                return {"type": "RUN_FINISHED", **run}
            case events.RunFailed(nested=False, stopped=False):
                return {"type": "RUN_ERROR", "message": event.error, "code": "failed"}
        return None

    @staticmethod
    def _result(call: str, content: str) -> dict[str, Any]:
        named = {"messageId": f"{call}/result", "toolCallId": call, "role": "tool"}
        return {"type": "TOOL_CALL_RESULT", **named, "content": content}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


plain = Plain()
ai_sdk = AiSdk()
