"""What an agent does, in the words of no framework. An encoder turns each into a message, or leaves it out.

`run` names the run: it is the same for a whole turn, also in the agents that this one calls. `agent` is the name of
the agent that acts. `step` names one call of a model, and is the id of its token stream: a `restart` of the topic
names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEvent:
    """What all events tell. `nested` says that another agent called this one."""

    run: str
    agent: str | None = None
    nested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(AgentEvent):
    """A run begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(AgentEvent):
    """Something that belongs to one call of a model."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(StepEvent):
    """A model is called; published before the step's stream begins, so that no `restart` takes it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStarted(StepEvent):
    """A piece of text begins; `part` names it within the topic."""

    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(StepEvent):
    """More of a piece of text."""

    part: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEnded(StepEvent):
    """A piece of text is complete."""

    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningStarted(StepEvent):
    """The model begins to think aloud."""

    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta(StepEvent):
    """More of what it thinks."""

    part: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningEnded(StepEvent):
    """The thought is complete."""

    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(StepEvent):
    """The model asks for a tool; `arguments` are any JSON."""

    call: str
    tool: str
    arguments: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded(StepEvent):
    """The model has said all of this call; the last message of the step's stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReturned(AgentEvent):
    """A tool has returned; `result` is any JSON."""

    call: str
    tool: str
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailed(AgentEvent):
    """A tool has failed, or refused what the model asked; the model is told so."""

    call: str
    tool: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOff(AgentEvent):
    """One agent hands over to another."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(AgentEvent):
    """The run is complete; `output` is any JSON, of an agent that talks its answer."""

    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(AgentEvent):
    """The run has ended without an answer, and will not be tried again."""

    error: str
    stopped: bool = False


class Part(NamedTuple):
    """The three events of one kind of text."""

    started: type[StepEvent]
    delta: type[StepEvent]
    ended: type[StepEvent]


TEXT = Part(TextStarted, TextDelta, TextEnded)
REASONING = Part(ReasoningStarted, ReasoningDelta, ReasoningEnded)
