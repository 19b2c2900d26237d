"""Restate in memory: topics whose handlers run on a journal that a test controls.

It keeps what Restate guarantees and nothing more. Exclusive calls of a topic run one after the other, in the order in
which they were sent. A command is applied when it is given, and stays applied when its call is stopped. A call that is
run again is given its journal from the beginning and must give the same commands. There is no event loop: a call goes
on when the test says so, and can be stopped before any command.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from restate_pubsub.errors import PubsubError
from restate_pubsub.protocol.names import invocation_of
from restate_pubsub.topic.waiters import is_awakeable

Handler = Callable[..., Coroutine[Any, Any, bytes | None]]


class Stopped(BaseException):
    """The process of a call is gone: raised in a handler before a command. A handler must let it through."""


class Mismatch(AssertionError):
    """A call that was run again gave another command than its journal has: Restate would try it for ever."""


class Command(NamedTuple):
    """What a handler asked of Restate: its name, and what was given with it."""

    name: str
    arguments: tuple[Any, ...]


class Entry(NamedTuple):
    """A journaled command, and what Restate answered."""

    command: Command
    answer: Any


@dataclass
class Call:
    """An invocation. `delay` is None for one that may run at once; `outcome` is its answer, or its error.

    `waits_for` is the awakeable that it waits for, for at most `waits` seconds; a test that sets `late` lets them pass.
    """

    id: int
    handler: str
    argument: bytes | None
    exclusive: bool
    delay: float | None = None
    journal: list[Entry] = field(default_factory=list)
    outcome: bytes | PubsubError | None = None
    done: bool = False
    waits_for: str | None = None
    waits: float = 0.0
    late: bool = False


class _Ask:
    """Awaits the answer to a command; yields to whoever drives the handler."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def __await__(self) -> Generator[Command, Any, Any]:
        return (yield self.command)


class MemoryContext:
    """The port that one run of a call is given."""

    def __init__(self, topic: MemoryTopic, call: Call) -> None:
        """A run begins at the start of the call's journal."""
        self._topic = topic
        self._call = call
        self._at = 0

    @property
    def key(self) -> str:
        """The topic."""
        return self._topic.name

    def ended(self) -> None:
        """Check that the run has made all commands of the journal.

        Raises:
            Mismatch: an earlier run had made more.

        """
        if self._at < len(self._call.journal):
            msg = (
                f"{self._call.handler}: entry {self._at} was {self._call.journal[self._at].command}, now it is the end"
            )
            raise Mismatch(msg)

    def _replayed(self, command: Command) -> Entry | None:
        """Return the journal's next entry, which must be this command; None when the journal is at its end."""
        if self._at >= len(self._call.journal):
            return None
        entry = self._call.journal[self._at]
        if entry.command != command:
            msg = f"{self._call.handler}: entry {self._at} was {entry.command}, and is {command} now"
            raise Mismatch(msg)
        self._at += 1
        return entry

    def _journaled(self, command: Command, answer: Any) -> Any:
        self._call.journal.append(Entry(command, answer))
        self._at = len(self._call.journal)
        return answer

    def _do(self, command: Command, apply: Callable[[], None]) -> None:
        if self._replayed(command) is None:
            self._topic.before(self._call, command)
            apply()
            self._journaled(command, None)

    async def _ask(self, command: Command, answer: Callable[[], Any]) -> Any:
        entry = self._replayed(command)
        if entry is not None:
            return entry.answer
        self._topic.before(self._call, command)
        await _Ask(command)
        return self._journaled(command, answer())

    async def get(self, *keys: str) -> list[bytes | None]:
        """Read state keys. Other calls may run between any two of them."""
        return [await self._ask(Command("get", (key,)), partial(self._topic.state.get, key)) for key in keys]

    async def keys(self) -> list[str]:
        """Return the names of all state keys."""
        return list(await self._ask(Command("keys", ()), lambda: sorted(self._topic.state)))

    def set(self, key: str, value: bytes) -> None:
        """Write a state key."""
        self._do(Command("set", (key, value)), lambda: self._topic.state.__setitem__(key, value))

    def clear(self, key: str) -> None:
        """Remove a state key."""
        self._do(Command("clear", (key,)), partial(self._topic.cleared, key))

    async def run(self, name: str, value: Callable[[], bytes], late: Callable[[], None] | None = None) -> bytes:
        """Journal a value; a run that is stopped before the confirmation computes it again."""
        command = Command("run", (name,))
        entry = self._replayed(command)
        if entry is not None:
            return bytes(entry.answer)
        self._topic.before(self._call, command)
        proposed = value()
        if late is not None and self._topic.confirms_late():
            late()
        await _Ask(command)
        self._topic.before(self._call, Command("confirmed", (name,)))
        return bytes(self._journaled(command, proposed))

    async def note(self, name: str, value: Callable[[], bytes]) -> bytes:
        """Journal a value, and go on; what follows comes behind it in the journal."""
        command = Command("note", (name,))
        entry = self._replayed(command)
        if entry is None:
            self._topic.before(self._call, command)
            return bytes(self._journaled(command, value()))
        return bytes(entry.answer)

    def awakeable(self) -> str:
        """Make an awakeable."""
        command = Command("awakeable", ())
        entry = self._replayed(command)
        if entry is None:
            self._topic.before(self._call, command)
            return str(self._journaled(command, self._topic.new_awakeable()))
        return str(entry.answer)

    async def wait(self, awakeable: str, seconds: float) -> bytes | None:
        """Wait for an awakeable; the test completes it, or lets the time be over (`Call.late`)."""
        command = Command("wait", (awakeable, seconds))
        entry = self._replayed(command)
        if entry is None:
            self._call.waits_for, self._call.waits = awakeable, seconds
            while awakeable not in self._topic.awakeables and not self._call.late:
                await _Ask(command)
            value = self._topic.awakeables.get(awakeable)
            self._call.waits_for, self._call.late = None, False
            self._journaled(command, value)
            entry = self._call.journal[-1]
        if isinstance(entry.answer, PubsubError):
            raise entry.answer
        return None if entry.answer is None else bytes(entry.answer)

    def send(self, handler: str, argument: bytes, delay: float | None = None) -> None:
        """Send a call to this topic."""
        command = Command("send", (handler, argument, delay is not None))
        self._do(command, lambda: self._topic.sent(handler, argument, delay))

    def resolve(self, awakeable: str, value: bytes) -> None:
        """Complete an awakeable."""
        self._do(Command("resolve", (awakeable, value)), partial(self._topic.completed, awakeable, value))

    def cancel(self, invocation: str) -> None:
        """Cancel an invocation."""
        self._do(Command("cancel", (invocation,)), partial(self._topic.cancel, invocation))

    def reject(self, awakeable: str, message: str, status: int) -> None:
        """Complete an awakeable with an error."""
        error = PubsubError(message)
        error.status = status
        self._do(
            Command("reject", (awakeable, message, status)),
            partial(self._topic.completed, awakeable, error),
        )


class MemoryTopic:
    """One topic in memory: its state, its awakeables, and the calls that were sent to it.

    `before` is called before every command, with the call and the command; a test replaces it, to stop the call there
    by raising `Stopped`, or to let other calls run.
    """

    def __init__(self, name: str = "topic") -> None:
        """Start empty."""
        self.name = name
        self.state: dict[str, bytes] = {}
        self.awakeables: dict[str, Any] = {}
        self.inbox: list[Call] = []
        """Exclusive calls that wait for their turn, in the order in which they were sent."""
        self.delayed: list[Call] = []
        self.cancelled: list[str] = []
        self.before: Callable[[Call, Command], None] = lambda _call, _command: None
        self.confirms_late: Callable[[], bool] = lambda: False
        self._calls = 0
        self._awakeables = 0

    def new_awakeable(self) -> str:
        """Return the id of a new awakeable, of the form that Restate's have."""
        self._awakeables += 1
        return f"sign_1{self._awakeables:037d}A"

    def call(
        self, handler: str, argument: bytes | None = None, *, exclusive: bool = True, delay: float | None = None
    ) -> Call:
        """Return a new call."""
        self._calls += 1
        return Call(self._calls, handler, argument, exclusive, delay)

    def cleared(self, key: str) -> None:
        """Remove a state key."""
        self.state.pop(key, None)

    def completed(self, awakeable: str, value: Any) -> None:
        """Complete an awakeable; one that is complete stays as it is.

        Raises:
            Mismatch: it is no awakeable's id; Restate would try the call for ever (RT0012).

        """
        if not is_awakeable(awakeable):
            msg = f"{awakeable!r} is not the id of an awakeable (RT0012)"
            raise Mismatch(msg)
        self.awakeables.setdefault(awakeable, value)

    def cancel(self, invocation: str) -> None:
        """Note that an invocation was cancelled.

        Raises:
            Mismatch: it is no invocation's id; Restate would try the call for ever.

        """
        if invocation_of(invocation) != invocation:
            msg = f"{invocation!r} is not the id of an invocation"
            raise Mismatch(msg)
        self.cancelled.append(invocation)

    def sent(self, handler: str, argument: bytes, delay: float | None) -> None:
        """Take in a call that a handler has sent."""
        call = self.call(handler, argument, delay=delay)
        (self.inbox if delay is None else self.delayed).append(call)

    def start(self, handlers: object, call: Call) -> Run:
        """Begin to run a call, or to run it again after it was stopped."""
        context = MemoryContext(self, call)
        handler: Handler = getattr(handlers, call.handler)
        coroutine = handler(context) if call.argument is None else handler(context, call.argument)
        return Run(call, context, coroutine)


class Run:
    """One attempt to run a call. `step` takes it to its next command that is awaited."""

    def __init__(self, call: Call, context: MemoryContext, coroutine: Coroutine[Any, Any, bytes | None]) -> None:
        """Nothing runs before the first step."""
        self.call = call
        self._context = context
        self._coroutine = coroutine

    def step(self) -> bool:
        """Go on; return whether there is more to do. `Stopped` and `Mismatch` pass through."""
        try:
            self._coroutine.send(None)
        except StopIteration as done:
            self._done(done.value or b"")
        except PubsubError as error:
            self._done(error)
        return not self.call.done

    def to_end(self) -> None:
        """Go on until it is done, or waits for an awakeable that is not complete."""
        while self.step():
            if self.call.waits_for is not None:
                return

    def _done(self, outcome: bytes | PubsubError) -> None:
        self._context.ended()
        self.call.outcome, self.call.done = outcome, True

    def stop(self) -> None:
        """End the attempt: its process is gone."""
        self._coroutine.close()
