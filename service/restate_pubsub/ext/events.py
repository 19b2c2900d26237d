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


class RunStarted(AgentEvent):
    """A run begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent(AgentEvent):
    """Something that belongs to one call of a model."""

    step: str


class StepStarted(StepEvent):
    """A model is called; published before the step's stream begins, so that no `restart` takes it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEvent(StepEvent):
    """Something that belongs to one piece of what a model says; `part` names it within the topic."""

    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDelta(PartEvent):
    """More of a piece."""

    text: str


class TextStarted(PartEvent):
    """A piece of text begins."""


class TextDelta(PartDelta):
    """More of a piece of text."""


class TextEnded(PartEvent):
    """A piece of text is complete."""


class ReasoningStarted(PartEvent):
    """The model begins to think aloud."""


class ReasoningDelta(PartDelta):
    """More of what it thinks."""


class ReasoningEnded(PartEvent):
    """The thought is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(StepEvent):
    """The model asks for a tool; `arguments` are any JSON."""

    call: str
    tool: str
    arguments: Any


class StepEnded(StepEvent):
    """The model has said all of this call; the last message of the step's stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnded(AgentEvent):
    """A tool that was called as `call` has come to its end."""

    call: str
    tool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReturned(ToolEnded):
    """A tool has returned; `result` is any JSON."""

    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailed(ToolEnded):
    """A tool has failed, or refused what the model asked; the model is told so."""

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

    started: type[PartEvent]
    delta: type[PartDelta]
    ended: type[PartEvent]


TEXT = Part(TextStarted, TextDelta, TextEnded)
REASONING = Part(ReasoningStarted, ReasoningDelta, ReasoningEnded)
