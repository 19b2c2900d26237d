"""A topic, the replicas that run its handlers, and those who write and read: everything that can go wrong, on demand.

The handlers are the real ones, on a journal in memory. `World` decides when each goes on, where it is stopped, and who
runs it again. What must hold at every moment, and once everything has come to rest, is in `guarantee`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from restate_pubsub.errors import PubsubError, PullTimeout
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.messages import Batch, Message, Place, stop_message
from restate_pubsub.protocol.peers import Subscriber
from restate_pubsub.topic.handlers import CONFIRM_SECONDS, Handlers
from restate_pubsub.topic.memory import Call, Command, MemoryTopic, Run, Stopped
from restate_pubsub.topic.policy import Policy
from restate_pubsub.topic.steps import TopicOptions

GONE = re.compile(r"Offset \d+ is lower than the head (\d+)")
FULL = os.environ.get("SIMULATION") == "full"
"""Otherwise it takes some minutes less, beside all other tests."""
HISTORIES = 120
"""So many random histories find each fault that `test_finds_faults` puts back."""
UNKNOWN = -1
"""Where a feed is before anybody has told it."""
FAR = 10_000
"""More commands than any call here gives."""


class Replica:
    """A process that runs handlers, its feed of the topic if somebody reads there, and its peers."""

    def __init__(self, world: World, name: str, options: TopicOptions) -> None:
        self.world = world
        self.replica = name
        here = Subscriber(name, f"http://{name}:9080", "key")
        self.subscriber, self.mark = str(here), here.mark
        self.handlers = Handlers(replace(options, readers=self))
        self.feed: Feed | None = None
        self.readings: dict[str, Batch] = {}

    def meet(self, _subscriber: str) -> None:
        pass

    def opened(self, _topic: str, subscriber: str, opening: str, place: Place) -> bool:
        return subscriber == self.subscriber and self.feed is not None and self.feed.opened(opening, place)

    def read(self, subscriber: str, reading: str, batch: Batch) -> bool:
        if subscriber == self.subscriber:
            self.readings[reading] = batch
        return subscriber == self.subscriber

    def takers(self, _topic: str, waiting: Iterable[str], _news: Batch) -> list[str]:
        linked = [peer.mark for peer in map(Subscriber.read, waiting) if (self.replica, peer.name) in self.world.links]
        return [self.mark, *linked] if self.feed is not None else linked

    def deliver(self, _topic: str, news: Batch, takers: Collection[str], waiting: Iterable[str]) -> None:
        if self.mark in takers:
            self.take(news)
        self.hand_over(news, takers, waiting)

    def hand_over(self, news: Batch | None, takers: Collection[str], waiting: Iterable[str]) -> None:
        """Send news, or a doubt, to whom there is a connection."""
        for peer in map(Subscriber.read, waiting):
            if peer.mark in takers and (self.replica, peer.name) in self.world.links:
                self.world.handed.append(Handed(self.replica, peer.name, news))

    def take(self, news: Batch | None) -> None:
        """Give the feed news, or a doubt."""
        if self.feed is not None and news is not None:
            self.feed.deliver(news)
        elif self.feed is not None:
            self.feed.uncertain = True

    def expect_tail(self, _topic: str, tail: int) -> None:
        if self.feed is not None:
            self.feed.expected = max(self.feed.expected, tail)

    def delivery_uncertain(self, _topic: str, takers: Collection[str], waiting: Iterable[str]) -> None:
        self.take(None)
        self.hand_over(None, takers, waiting)


class Handed(NamedTuple):
    """News, or a doubt, on the way from one replica to another."""

    sender: str
    receiver: str
    news: Batch | None


class Reader:
    """Follows the topic by pulls from `offset` on, and notes what it was given.

    Without a name it is the client's `pull`. `seen` has every message with its offset, `skipped` the ranges that it
    was told are gone.
    """

    def __init__(self, world: World, offset: int = 0, *, name: str | None = None) -> None:
        self.world = world
        self.at = self.began = offset
        self.name = name
        self.seen: list[tuple[int, Message]] = []
        self.skipped: list[range] = []
        self.ended = False
        self.pulling: Call | None = None
        world.readers.append(self)

    def pull(self) -> None:
        """Ask for what is next, unless a question is open."""
        if self.pulling is None and not self.ended:
            request: dict[str, object] = {"offset": self.at, "timeout": 600}
            if self.name is not None:
                request["subscriber"] = self.name
            self.pulling = self.world.send_shared("pull", msgspec.json.encode(request))

    def look(self) -> bool:
        """Take the answer, if it has come; return whether it had."""
        call = self.pulling
        if call is None or not call.done:
            return False
        self.pulling = None
        if isinstance(call.outcome, PubsubError) and (gone := GONE.fullmatch(call.outcome.message)):
            self.gone(int(gone[1]))
        elif isinstance(call.outcome, bytes):
            self.take(calls.decode_pull_response(call.outcome, self.at))
        elif isinstance(call.outcome, PubsubError) and not isinstance(call.outcome, PullTimeout):
            raise call.outcome
        return True

    def gone(self, head: int) -> None:
        """Note what is gone, and go on at the head."""
        assert head > self.at
        self.skipped.append(range(self.at, head))
        self.at = head

    def take(self, batch: Batch) -> None:
        """Note messages, which must begin where it is."""
        assert batch.offset == self.at, f"asked for {self.at}, was given {batch.offset}"
        self.note(batch.offset, batch.messages)
        assert batch.next_offset == self.at
        self.ended = batch.closed

    def note(self, offset: int, messages: Sequence[Message]) -> None:
        """Note messages from `offset` on."""
        self.seen += enumerate(messages, offset)
        self.at = offset + len(messages)


class Feed(Reader):
    """The reader of a replica: its pulls have the replica's name, and writes that run there are handed to it.

    Without an offset it opens the topic: its first pull says where that is.
    """

    def __init__(self, world: World, replica: Replica, offset: int | None = 0) -> None:
        self.expected = 0
        self.uncertain = False
        self.on = replica
        self.opening = ""
        super().__init__(world, UNKNOWN if offset is None else offset, name=replica.subscriber)
        replica.feed = self

    @property
    def located(self) -> bool:
        """Whether it knows where the topic is."""
        return self.at != UNKNOWN

    def pull(self) -> None:
        """Ask for what is next, and first of all for where that is."""
        if self.located or self.pulling is not None:
            super().pull()
        else:
            self.opening = self.world.word()
            request = {"timeout": 600, "subscriber": self.name, "opening": self.opening}
            self.pulling = self.world.send_shared("pull", msgspec.json.encode(request))

    def opened(self, word: str, place: Place) -> bool:
        """Take the topic's position; return whether the pull that has read it is to wait from the tail."""
        if word != self.opening or self.pulling is None:
            return False
        if not self.located:
            self.at = self.began = place.tail
        else:
            self.gone(place.head)
        return self.at >= place.tail

    def gone(self, head: int) -> None:
        """Go on at the head, unless it was told of it meanwhile."""
        if head > self.at:
            super().gone(head)

    def deliver(self, batch: Batch) -> None:
        """Take what is new; ask where something is missing."""
        if not self.located:
            return  # the position that comes first is read after this
        if batch.offset <= self.at:
            self.take(batch)
        else:
            self.uncertain = True

    def take(self, batch: Batch) -> None:
        """Take news in offset order: what is known is passed over."""
        if not self.located:
            self.at = self.began = batch.offset
        if batch.head is not None:
            self.gone(batch.head)
        if batch.offset > self.at:
            self.uncertain = True
        elif batch.next_offset >= self.at:
            new = batch.messages[self.at - batch.offset :]
            self.note(self.at, new)
            assert batch.next_offset == self.at
            self.ended = batch.closed

    def look(self) -> bool:
        """Take the answer; ask again at once where a write may have happened that nobody delivered."""
        looked = super().look()
        if looked:
            self.opening = ""
        if not self.located:
            self.uncertain, self.expected = False, 0
        if self.uncertain or self.expected > self.at:
            self.uncertain, self.expected = False, 0
            self.pulling, self.opening = None, ""
            self.pull()
            return True
        return looked


@dataclass
class Written:
    """What a write was, and what became of it."""

    call: Call
    messages: Sequence[Message]
    stream: calls.StreamRef | None = None
    killed: bool = False


@dataclass
class World:
    """One topic and everybody around it."""

    topic: MemoryTopic = field(default_factory=MemoryTopic)
    replicas: list[Replica] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    writes: list[Written] = field(default_factory=list)
    log: dict[int, Message] = field(default_factory=dict)
    """Every message that was counted since somebody watches, by offset."""
    tail: int = 0
    ends: set[int] = field(default_factory=set)
    """Where the topic was closed."""
    shared: list[Call] = field(default_factory=list)
    exclusive: Call | None = None
    runs: dict[int, tuple[Replica, Run]] = field(default_factory=dict)
    links: set[tuple[str, str]] = field(default_factory=set)
    """Which replica can hand its news to which."""
    handed: list[Handed] = field(default_factory=list)
    """What is on its way."""
    after: Callable[[str], None] = lambda _key: None
    """Called after a state key was set or cleared."""
    checks: int = 0
    """How often the log was read to be compared."""
    _names: Iterator[int] = field(default_factory=itertools.count)
    _words: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Watch every command."""
        self.topic.before = self._before
        self.stop_before: dict[int, int] = {}
        self.commands: dict[int, list[Command]] = {}
        self._changed: str | None = None

    def replica(self, policy: Policy | None = None, **options: Any) -> Replica:
        """Add a replica; `options` are those of its topics."""
        known = TopicOptions(policy=policy or Policy(), sent_along=lambda: self.topic.state, **options)
        replica = Replica(self, f"replica-{next(self._names)}", known)
        self.replicas.append(replica)
        return replica

    # --- replicas hand over their news -------------------------------------------------------------------------

    def arrive(self, sender: str, receiver: str) -> None:
        """Let the oldest of what is on its way between two replicas arrive."""
        handed = next(one for one in self.handed if (one.sender, one.receiver) == (sender, receiver))
        self.handed.remove(handed)
        next(replica for replica in self.replicas if replica.replica == receiver).take(handed.news)

    def cut(self, sender: str, receiver: str, *, noticed: bool) -> None:
        """Break a connection, and lose what is on its way; whether the receiver notices that it is broken."""
        self.links.discard((sender, receiver))
        self.handed = [one for one in self.handed if (one.sender, one.receiver) != (sender, receiver)]
        if noticed:
            next(replica for replica in self.replicas if replica.replica == receiver).take(None)

    def word(self) -> str:
        """Return a word that no other opening has."""
        return f"opening-{next(self._words)}"

    # --- calls -------------------------------------------------------------------------------------------------

    def send(self, handler: str, argument: bytes | None = None) -> Call:
        """Send an exclusive call; it runs when it is its turn."""
        call = self.topic.call(handler, argument)
        self.topic.inbox.append(call)
        return call

    def send_shared(self, handler: str, argument: bytes) -> Call:
        """Send a shared call."""
        call = self.topic.call(handler, argument, exclusive=False)
        self.shared.append(call)
        return call

    def append(
        self,
        *data: str,
        close: bool = False,
        stream: calls.StreamRef | None = None,
        event: str | None = None,
        join: bool = False,
    ) -> Call:
        """Send an append of strings; `join`: of objects whose texts they are, and which continue one another."""
        messages = [Message(msgspec.json.encode({"text": text} if join else text), event) for text in data]
        body = calls.encode_append(messages, close=close, stream=stream, join="text" if join else None)
        call = self.send("append", body)
        self.writes.append(Written(call, messages, stream))
        return call

    def writer(self, message: Message) -> tuple[str, str | None] | None:
        """Return the stream and attempt that wrote a message; None where it has none. Texts of streams are unique."""
        streams = (write.stream for write in self.writes if message in write.messages)
        ref = next((one for one in streams if one is not None), None)
        return None if ref is None else (ref.id, ref.attempt)

    def stop(self, stream: str | None = None, reason: str | None = None, *, cancel: bool = False) -> Call:
        """Send a stop of a stream, or of all."""
        call = self.send("stop", msgspec.json.encode(calls.StopRequest(stream, reason, cancel)))
        self.writes.append(Written(call, [stop_message(stream, reason)], calls.StreamRef(stream or "")))
        return call

    def stop_at(self, call: Call, command: int) -> None:
        """Let a call be stopped before its next so many-th command (0: the very next)."""
        self.stop_before[call.id] = len(self.commands.get(call.id, ())) + command

    def _before(self, call: Call, command: Command) -> None:
        self.look()
        given = self.commands.setdefault(call.id, [])
        if len(given) == self.stop_before.get(call.id, FAR):
            raise Stopped
        given.append(command)
        if command.name in ("set", "clear"):
            self._changed = command.arguments[0]

    def look(self) -> None:
        """Check what must hold at every moment, if a state key has changed."""
        key, self._changed = self._changed, None
        if key is not None:
            self.after(key)

    def step(self, call: Call, replica: Replica) -> bool:
        """Take a call to its next command that is awaited, on `replica` if it runs nowhere; False if it was stopped."""
        if call.id not in self.runs:
            self.runs[call.id] = (replica, self.topic.start(replica.handlers, call))
        _, run = self.runs[call.id]
        try:
            run.step()
        except Stopped:
            self.stop_before.pop(call.id, None)
            del self.runs[call.id]
            return False
        self.look()
        if call.done:
            del self.runs[call.id]
            if self.exclusive is call:
                self.exclusive = None
        return True

    def crash(self, call: Call) -> None:
        """End the run of a call: its process is gone. It will be run again."""
        _, run = self.runs.pop(call.id)
        run.stop()

    def kill(self, call: Call) -> None:
        """End a call for good, as an operator does."""
        if call.id in self.runs:
            self.crash(call)
        call.done = True
        for write in self.writes:
            write.killed = write.killed or write.call is call
        if self.exclusive is call:
            self.exclusive = None
        if call in self.shared:
            self.shared.remove(call)

    def next_exclusive(self) -> Call | None:
        """Return the exclusive call that runs, or begins to."""
        if self.exclusive is None and self.topic.inbox:
            self.exclusive = self.topic.inbox.pop(0)
        return self.exclusive

    def waiting(self, call: Call) -> bool:
        """Whether a call waits for an awakeable that is not complete."""
        return call.waits_for is not None and call.waits_for not in self.topic.awakeables and not call.late

    def settle(self, replica: Replica | None = None, *, fire: bool = True) -> None:
        """Let everything happen that still does: calls, delayed ones too, and readers, until nothing moves."""
        on = replica or self.replicas[0]
        for _ in range(FAR):
            if not self._moves(on, fire=fire):
                return
        msg = "it does not come to rest"
        raise AssertionError(msg)

    def _moves(self, on: Replica, *, fire: bool) -> bool:
        self.shared = [call for call in self.shared if not call.done]
        if self.handed:
            self.arrive(self.handed[0].sender, self.handed[0].receiver)
            return True
        if (call := self.next_exclusive()) is None:
            call = next((call for call in self.shared if not self.waiting(call)), None)
        if call is not None:
            self.step(call, on)
            return True
        for reader in self.readers:
            reader.pull()
            if reader.look():
                return True
        if any(not self.waiting(call) for call in self.shared):
            return True
        return fire and self._time_passes()

    def _time_passes(self) -> bool:
        """Let a delayed call begin, or a pull look whether it is among those who wait."""
        if self.topic.delayed:
            self.topic.inbox.append(self.topic.delayed.pop(0))
            return True
        late = [call for call in self.shared if self.waiting(call) and call.waits <= CONFIRM_SECONDS]
        for call in late[:1]:
            call.late = True
        return bool(late)
