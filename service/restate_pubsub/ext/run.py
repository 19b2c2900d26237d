"""One run of an agent, and the calls of its models: what is said in a durable step, and what is published once.

A model's call is a step of the invocation. Its text and the tools that it asks for go to the topic in a token stream
of that step's name: a step that runs again opens the stream again, and readers drop what the earlier attempt said.
Everything else is published under a key that is the same in every attempt, outside of the journal: tools that run side
by side end in another order each time, and a replay must not mind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import restate

from restate_pubsub.client.numbering import next_step
from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import PubsubError, StreamStopped
from restate_pubsub.ext import events
from restate_pubsub.ext.encoders import Encoded, Encoder, plain

log = logging.getLogger(__name__)
_current: ContextVar[Run | None] = ContextVar("restate_pubsub_run", default=None)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Let a refusal end the invocation: the same again would be refused again, and the model paid again.

    Raises:
        restate.TerminalError: in place of an error of this library that is final.

    """
    try:
        yield
    except PubsubError as error:
        if not error.final:
            raise
        raise restate.TerminalError(error.message, error.status, error.metadata) from error


@contextlib.asynccontextmanager
async def until_stopped(stream: TokenStream) -> AsyncIterator[None]:
    """Interrupt the block when somebody stops the stream: its model may be silent, and write nothing for minutes.

    Raises:
        StreamStopped: it was stopped.

    """
    reason: list[StreamStopped] = []
    limit = asyncio.timeout(None)

    def interrupt(done: asyncio.Future[StreamStopped | None]) -> None:
        if not done.cancelled() and (stopped := done.result()) is not None:
            reason.append(stopped)
            limit.reschedule(0.0)

    stopped = stream.stopped
    try:
        async with limit:
            stopped.add_done_callback(interrupt)
            try:
                yield
            finally:
                stopped.remove_done_callback(interrupt)
    except TimeoutError:
        if not reason:
            raise
        raise reason[0] from None


@dataclass(frozen=True, slots=True)
class Target:
    """Where runs go: the topic's client and what is published for each event."""

    client: PubsubClient
    encode: Encoder = plain

    def open(self, topic: str, name: str) -> TokenStream:
        """Return the token stream of a step; its text reaches who comes late in one piece."""
        return self.client.stream(topic, id=name, join=getattr(self.encode, "join", None))

    def encoded(self, event: events.AgentEvent) -> Encoded | None:
        """Return what is published for an event.

        An encoder that raises would raise again at the next try of the invocation: Restate would try for ever, and a
        model whose step was cut off would be paid each time. To leave the event out would show an answer with holes as
        a whole one. So the run ends, and readers are told why.

        Raises:
            restate.TerminalError: the encoder raised, or returned something else than `(data, name)` or None.

        """
        try:
            encoded = self.encode(event)
            if encoded is None:
                return None
            data, name = encoded
        except Exception as error:
            log.exception("the encoder failed at %s", type(event).__name__)
            msg = f"The encoder failed at {type(event).__name__}: {type(error).__name__}: {error}"
            raise restate.TerminalError(msg) from error
        return data, name

    async def publish(self, topic: str, event: events.AgentEvent, once: str) -> None:
        """Publish an event for good: it is there once, however often this is said under the key `once`."""
        encoded = self.encoded(event)
        if encoded is not None:
            data, name = encoded
            with refusals():
                await self.client.publish(topic, data, event=name, once=once)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an agent: where it goes, its name, and the key that its events share.

    `key` is the run's own in its invocation; `name` is what readers are told, for the agents that this one calls, too.
    `outer` is the run whose tool began this one, where that is known.
    """

    target: Target
    topic: str
    key: str
    name: str
    agent: str | None = None
    nested: bool = False
    outer: Run | None = None

    def event(self, kind: type[events.AgentEvent], **what: Any) -> events.AgentEvent:
        """Return an event of this run."""
        return kind(run=self.name, agent=self.agent, nested=self.nested, **what)

    async def say(self, key: str, kind: type[events.AgentEvent], **what: Any) -> None:
        """Publish an event once, under a key within this run."""
        await self.target.publish(self.topic, self.event(kind, **what), f"{self.key}/{key}")

    async def tool_ended(self, step: int, kind: type[events.ToolEnded], call: str, **what: Any) -> None:
        """Publish once what became of a tool that the run's model asked for in its `step`th call.

        The call's id alone is not enough: some providers count from 0 in each answer. And it may be long, as some keep
        a thought's signature in it.
        """
        named = sha256(call.encode(errors="backslashreplace")).hexdigest()[:16]
        await self.say(f"tool/{step}/{named}", kind, call=call, **what)

    async def failed(self, error: restate.TerminalError) -> None:
        """Tell readers why the run has ended."""
        with contextlib.suppress(PubsubError, restate.TerminalError):  # the topic or the encoder may be what refuses
            # The cause is lost where a journaled step is replayed; its code is not.
            stopped = (error.metadata or {}).get("code") == StreamStopped.code
            await self.say("failed", events.RunFailed, error=error.message, stopped=stopped)

    def step(self, ctx: restate.Context) -> Step:
        """Return the next call of a model. Ask before the durable step begins, and write inside of it."""
        return Step(self, next_step(ctx))

    def of(self, agent: str | None) -> Run:
        """Return the run as another agent goes on with it."""
        return replace(self, agent=agent)


def current_run() -> Run | None:
    """Return the run that this task works for."""
    return _current.get()


def begin(
    ctx: restate.Context, target: Target, topic: str, *, agent: str | None = None, name: str | None = None
) -> Run:
    """Return a new run of this invocation; one that another run's tool begins carries on that one's name."""
    outer = current_run()
    key = next_step(ctx)
    return Run(target, topic, key, outer.name if outer else name or key, agent, nested=outer is not None, outer=outer)


def work_for(run: Run | None) -> None:
    """Let what this task begins from now on belong to a run; for frameworks that only tell when a tool begins."""
    _current.set(run)


@contextlib.contextmanager
def working_for(run: Run) -> Iterator[None]:
    """Let what this task begins, and the tasks that it starts, belong to a run."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.asynccontextmanager
async def running(
    ctx: restate.Context, target: Target, topic: str, *, agent: str | None = None, name: str | None = None
) -> AsyncIterator[Ended]:
    """Begin a run and tell the topic how it ends.

    An error that Restate will try again says nothing to readers: the run goes on.
    """
    run = begin(ctx, target, topic, agent=agent, name=name)
    ended = Ended(run)
    with working_for(run):
        try:
            await run.say("started", events.RunStarted)
            yield ended
            await run.say("finished", events.RunFinished, output=ended.output)
        except restate.TerminalError as error:
            await run.failed(error)
            raise


@dataclass(slots=True)
class Ended:
    """A run, and what comes out of it, which its caller puts here."""

    run: Run
    output: Any = None


class Step:
    """One call of a model: its number is taken now, and what it says is written inside the durable step."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name

    @contextlib.asynccontextmanager
    async def speaking(self) -> AsyncIterator[Speech]:
        """Open the step's stream for what the model says; at the end all of it is acknowledged.

        Raises:
            restate.TerminalError: the topic refused for good.

        """
        run = self.run
        with refusals():
            await run.target.publish(run.topic, run.event(events.StepStarted, step=self.name), f"{self.name}/started")
            async with run.target.open(run.topic, self.name) as stream, until_stopped(stream):
                speech = Speech(self, stream)
                yield speech
                await speech.end()


class Speech:
    """What a model says in one call, in the order in which it says it."""

    def __init__(self, step: Step, stream: TokenStream) -> None:
        self._step = step
        self._stream = stream
        self._parts = 0
        self._part: tuple[events.Part, str] | None = None

    async def text(self, text: str) -> None:
        """Say more of the answer."""
        await self._more(events.TEXT, text)

    async def reasoning(self, text: str) -> None:
        """Say more of what the model thinks aloud."""
        await self._more(events.REASONING, text)

    async def tool(self, call: str, tool: str, arguments: Any) -> None:
        """Say that the model asks for a tool."""
        await self.end_part()
        await self._write(events.ToolCalled, call=call, tool=tool, arguments=arguments)

    async def end_part(self) -> None:
        """End the piece of text or thought that is open; the next one is another."""
        if self._part is not None:
            (part, name), self._part = self._part, None
            await self._write(part.ended, part=name)

    async def end(self) -> None:
        """End what is open, and the step."""
        await self.end_part()
        await self._write(events.StepEnded)

    async def _more(self, part: events.Part, text: str) -> None:
        if not text:
            return
        if self._part is None or self._part[0] is not part:
            await self.end_part()
            self._parts += 1
            self._part = part, f"{self._step.name}/{self._parts}"
            await self._write(part.started, part=self._part[1])
        await self._write(part.delta, part=self._part[1], text=text)

    async def _write(self, kind: type[events.StepEvent], **what: Any) -> None:
        run = self._step.run
        encoded = run.target.encoded(run.event(kind, step=self._step.name, **what))
        if encoded is not None:
            data, name = encoded
            await self._stream.write(data, event=name)
