"""Random histories: operations, stops, kills, crashes, late and early sends, readers that come, from one seed."""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations

import msgspec

from restate_pubsub.protocol.calls import Stopped, StreamRef, Subscription
from restate_pubsub.protocol.digest import digest
from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic.memory import Call
from restate_pubsub.topic.policy import Policy, Retention
from restate_pubsub.topic.state import REPEATED_AFTER
from simulation import guarantee
from simulation.world import Feed, Reader, World

STEPS = 120
TOKEN = re.compile(r"<a[0-9]+:[0-9a-f]+>")
SIZES = (1, 1, 1, 2, 5, 20, 70)


@dataclass
class Attempt:
    """A writer of a token stream: it waits for each answer, and stops at its first refusal."""

    name: str
    text: str = ""
    written: str = ""
    call: Call | None = None
    finished: bool = False
    refused: bool = False


@dataclass
class Keyed:
    """A request that is repeated under its key until it has an answer, cut anew each time."""

    key: str
    body: list[str]
    join: bool
    sent: int = 0
    call: Call | None = None
    done: bool = False


@dataclass
class History:
    """One history. `steps` says what happened; leave some out with `without`, and the rest happens as before."""

    seed: int
    without: frozenset[int] = frozenset()
    steps: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Let it happen, and check what must hold; raises what was violated."""
        self.random = random.Random(self.seed)
        self.world = World()
        self.attempts: list[Attempt] = []
        self.keyed: list[Keyed] = []
        self._forgets = False
        self._healer_killed = False
        self._killed: Counter[str] = Counter()  # subscriptions, by the awakeable that they name
        for _ in range(self.random.randint(1, 3)):
            self.world.replica(self._policy())
        names = [replica.replica for replica in self.world.replicas]
        self.world.links |= {link for link in permutations(names, 2) if self.random.random() < 0.7}
        guarantee.watch(self.world)
        for number in range(STEPS):
            # Each step has a randomness of its own: leaving one out does not change the others.
            self.random = random.Random(f"{self.seed}-{number}")
            if number not in self.without:
                self._step()
        self.world.stop_before.clear()
        self.world.settle(self.world.replicas[-1])
        if not self._healer_killed:
            guarantee.at_rest(self.world)
        # After so many messages even what a sweep would have mended, had it not been killed itself, is mended.
        self.world.append(*(f"last {at}" for at in range(REPEATED_AFTER)))
        self.world.settle(self.world.replicas[-1])
        self.world.append("the very last")
        self.world.settle(self.world.replicas[-1])
        self._let_forgotten_pulls_time_out()
        guarantee.at_rest(self.world)
        self._streams_are_whole()
        self._stopped_streams_say_no_more()

    def _let_forgotten_pulls_time_out(self) -> None:
        """Let the time pass of pulls without a name whose subscription was killed, and killed again when they looked.

        Nobody knows of them. They wait for as long as they asked for, fifteen seconds from a client, and ask again.
        """
        for call in self.world.shared:
            if self.world.waiting(call) and self._killed[call.waits_for or ""] > 1:
                call.late = True
        self.world.settle(self.world.replicas[-1])

    def _policy(self) -> Policy:
        kept = self.random.choice(
            [Retention(), Retention(), Retention(messages=self.random.choice([1, 10, 100])), Retention(size=5000)]
        )
        return Policy(retention=kept, pages=self.random.random() < 0.8)

    def _step(self) -> None:
        act = self.random.choices(
            [
                self._write, self._go_on, self._stop, self._kill, self._crash, self._fire, self._attempt, self._tokens,
                self._key, self._operate, self._read, self._time_out, self._die, self._halt, self._link, self._cut,
                self._arrive,
            ],
            [10, 40, 6, 4, 4, 6, 2, 8, 4, 2, 2, 2, 1, 1, 3, 1, 8],
        )[0]  # fmt: skip
        self.steps.append(act.__name__.lstrip("_"))
        act()

    def _texts(self) -> list[str]:
        size = self.random.choice(SIZES)
        filler = "x" * self.random.choice([0, 0, 0, 20, 5000])
        return [f"{self.random.getrandbits(32):x}{filler}" for _ in range(size)]

    def _write(self) -> None:
        self.world.append(*self._texts(), join=self._joins())

    def _joins(self) -> bool:
        # With a randomness of its own: what else happens is the same with and without.
        return random.Random(f"join {self.seed} {len(self.steps)}").random() < 0.5

    def _operate(self) -> None:
        operations: list[Callable[[], object]] = [
            lambda: self.world.send("truncate", b"%d" % self.random.choice([1, 10, 100])),
            self._delete,
            lambda: self.world.send("sweep", b"{}"),
        ]
        self.random.choice(operations)()

    def _delete(self) -> None:
        self._forgets = True  # then keys and streams are forgotten
        self.world.send("delete")

    def _replica(self) -> int:
        return self.random.randrange(len(self.world.replicas))

    def _runnable(self) -> list[Call]:
        exclusive = self.world.next_exclusive()
        shared = [call for call in self.world.shared if not call.done and not self.world.waiting(call)]
        return shared if exclusive is None else [exclusive, exclusive, *shared]

    def _go_on(self) -> None:
        for _ in range(self.random.randint(1, 30)):
            if not (calls := self._runnable()):
                break
            self.world.step(self.random.choice(calls), self.world.replicas[self._replica()])
        for reader in self.world.readers:
            if self.random.random() < 0.7:
                reader.look()
                reader.pull()

    def _stop(self) -> None:
        if calls := self._runnable():
            self.world.stop_at(self.random.choice(calls), self.random.randint(0, 12))

    def _kill(self) -> None:
        call = self.world.next_exclusive()
        if call is not None and call.handler in ("append", "truncate", "delete", "close", "sweep", "subscribe", "stop"):
            self._healer_killed = self._healer_killed or call.handler in ("sweep", "subscribe")
            if call.handler == "subscribe":
                self._killed[msgspec.json.decode(call.argument or b"", type=Subscription).id] += 1
            self.world.kill(call)

    def _crash(self) -> None:
        if self.world.runs:
            running = [run.call for _, run in self.world.runs.values()]
            self.world.crash(self.random.choice(running))

    def _fire(self) -> None:
        delayed = self.world.topic.delayed
        if delayed:
            at = self.random.randrange(len(delayed))
            self._forgets = self._forgets or delayed[at].handler == "forget"
            self.world.topic.inbox.append(delayed[at])
            if self.random.random() < 0.8:
                del delayed[at]
            else:  # it comes twice
                twin = self.world.topic.call(delayed[at].handler, delayed[at].argument)
                delayed[at] = twin

    def _attempt(self) -> None:
        attempt = Attempt(f"a{len(self.attempts)}")
        attempt.call = self.world.append(stream=StreamRef("s", attempt.name, first=True))
        self.attempts.append(attempt)

    def _tokens(self) -> None:
        for attempt in self.attempts:
            if attempt.call is not None and attempt.call.done and not attempt.refused and not attempt.finished:
                if not isinstance(attempt.call.outcome, bytes):
                    attempt.refused = True  # refused, or killed: its writer cannot know and gives up
                    continue
                attempt.written += attempt.text
                attempt.text = f"<{attempt.name}:{self.random.getrandbits(16):x}>"
                joins = self._joins()
                attempt.call = self.world.append(attempt.text, stream=StreamRef("s", attempt.name), join=joins)
                attempt.finished = self.random.random() < 0.2

    def _halt(self) -> None:
        """Somebody presses stop: for one stream, or for all."""
        self.world.stop(self.random.choice(["s", None]))

    def _key(self) -> None:
        pending = [one for one in self.keyed if not one.done]
        if not pending or self.random.random() < 0.3:
            body = [f"{len(self.keyed)}.{at}" for at in range(self.random.choice([1, 2, 6]))]
            pending = [Keyed(f"k{len(self.keyed)}", body, self._joins())]
            self.keyed += pending
        one = self.random.choice(pending)
        if one.call is not None and one.call.done and isinstance(one.call.outcome, bytes):
            if one.sent >= len(one.body):
                one.done = True
                return
        elif one.call is not None:
            one.sent = 0  # no answer, or a killed one: from the beginning
        count = self.random.randint(1, len(one.body))
        batch = one.body[one.sent : one.sent + count]
        texts = ({"text": text} if one.join else text for text in one.body[: one.sent])
        before = [Message(msgspec.json.encode(text)) for text in texts]
        last = one.sent + count >= len(one.body)
        ref = StreamRef(one.key, start=one.sent, digest=digest("", before), last=last)
        one.call = self.world.append(*batch, stream=ref, join=one.join)
        one.sent += len(batch)

    def _read(self) -> None:
        if len(self.world.readers) < 6:
            replica = self.world.replicas[self._replica()]
            if replica.feed is None and self.random.random() < 0.7:
                Feed(self.world, replica, self.random.choice([0, None]))
            else:
                Reader(self.world)

    def _time_out(self) -> None:
        waiting = [call for call in self.world.shared if self.world.waiting(call)]
        if waiting:
            self.random.choice(waiting).late = True

    def _link(self) -> None:
        """One replica finds that it can hand its news to another."""
        if len(self.world.replicas) > 1:
            sender, receiver = self.random.sample(self.world.replicas, 2)
            self.world.links.add((sender.replica, receiver.replica))

    def _cut(self) -> None:
        """A connection between replicas breaks, with what is on its way; perhaps nobody notices."""
        if self.world.links:
            link = self.random.choice(sorted(self.world.links))
            self.world.cut(*link, noticed=self.random.random() < 0.5)

    def _arrive(self) -> None:
        """What was handed over arrives, in order on each connection, and in any between two."""
        for _ in range(self.random.randint(1, 3)):
            if self.world.handed:
                handed = self.random.choice(self.world.handed)
                self.world.arrive(handed.sender, handed.receiver)

    def _die(self) -> None:
        """A replica dies with all that it runs, and its readers come back to another one."""
        replica = self.world.replicas[self._replica()]
        for link in [link for link in sorted(self.world.links) if replica.replica in link]:
            self.world.cut(*link, noticed=False)
        for running, run in list(self.world.runs.values()):
            if running is replica:
                self.world.crash(run.call)
        if replica.feed is not None and len(self.world.replicas) > 1:
            gone, replica.feed = replica.feed, None
            others = [other for other in self.world.replicas if other.feed is None and other is not replica]
            self.world.readers.remove(gone)
            if others:
                feed = Feed(self.world, others[0], gone.at if gone.located else None)
                feed.began, feed.seen, feed.skipped = gone.began, gone.seen, gone.skipped

    def _streams_are_whole(self) -> None:
        """Each request under a key is there at most once, in its order; of attempts only the latest is shown."""
        texts = [
            (at, guarantee.text_of(message)) for at, message in sorted(self.world.log.items()) if message.event is None
        ]
        for one in self.keyed:
            places = [(at, text) for at, text in texts if text in one.body]
            found = [text for _, text in places]
            if not self._forgets:
                assert len(found) == len(set(found)), f"{one.key} is there twice: {places}"
        # Retention may have dropped a `restart` before anybody saw it, and a killed opening may count or not.
        attempts = {attempt.name for attempt in self.attempts}
        opened = [write for write in self.world.writes if write.stream is not None and write.stream.first]
        if len(self.world.log) < self.world.tail or self._forgets or any(write.killed for write in opened):
            return
        parts = TOKEN.findall(guarantee.streams(self.world, "s"))
        tags = {part.partition(":")[0].lstrip("<") for part in parts} & attempts
        assert len(tags) <= 1, f"attempts are mixed: {tags}"
        for attempt in reversed(self.attempts):
            if attempt.name in tags:  # perhaps by a write that was killed once it was there
                acknowledged = self._acknowledged(attempt)
                assert [part for part in parts if part in acknowledged] == acknowledged
                return
            acknowledged = self._acknowledged(attempt)
            if acknowledged:
                assert [part for part in parts if part in acknowledged] == acknowledged, f"{attempt.name} is not shown"
                return

    def _stopped_streams_say_no_more(self) -> None:
        """Nothing of a stopped stream stands behind the event, whichever attempt wrote it."""
        if self._forgets:
            return
        texts = [(at, str(guarantee.text_of(message))) for at, message in self.world.log.items()]
        for write in self.world.writes:
            if write.call.handler == "stop" and isinstance(write.call.outcome, bytes):
                done = msgspec.json.decode(write.call.outcome, type=Stopped)
                if "s" in done.stopped:
                    later = [(at, text) for at, text in texts if at > done.offset and TOKEN.search(text)]
                    assert not later, f"the stream was stopped at {done.offset}, and went on: {later}"

    def _acknowledged(self, attempt: Attempt) -> list[str]:
        return [
            str(guarantee.text_of(message))
            for write in self.world.writes
            if write.stream is not None and write.stream.attempt == attempt.name and not write.killed
            for message in write.messages
            if isinstance(write.call.outcome, bytes)
        ]


def shrink(seed: int) -> History:
    """Return the history of a seed that fails, with as few steps as still fail."""
    without: frozenset[int] = frozenset()
    for number in range(STEPS):
        history = History(seed, without | {number})
        try:
            history.run()
        except Exception:  # noqa: BLE001 - whatever it was that failed
            without = history.without
    history = History(seed, without)
    with contextlib.suppress(Exception):
        history.run()
    return history
