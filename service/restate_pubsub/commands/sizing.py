"""What a load costs: pure arithmetic over costs that were measured. `size` prints it, `make bench-sizing` checks it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.sse import message_frame

MEASURED_BY: Final = "make bench-sizing"
"""The command that measured every cost that does not name another one, and prints them all anew."""

PARTITIONS: Final = 24
"""What Restate starts with (`default-num-partitions`). One partition takes its calls one after the other, so it can
keep one core busy at most."""

MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in milliseconds of one core, memory in bytes."""

    write: float
    """The service, for a call that writes, whatever is in it."""
    delivery: float
    """The service, for what one call brings to one reader, but for each of its messages."""
    event: float
    """The service, for one message to one reader."""
    handover: float
    """The service, for a write that one other replica is told of: both of them together."""
    stream: float
    """The service, in a second, for an open stream in which nothing happens."""
    topic: float
    """The service, in a second, for a topic that a replica reads and in which nothing happens."""
    restate_write: float
    """Restate, for a call that writes."""
    restate_handover: float
    """Restate, for a write that one other replica is told of, above what a write costs anyway."""
    restate_topic: float
    """Restate, in a second, for a topic that a replica reads and in which nothing happens."""
    restate_rest: float
    """Restate, in a second, at rest."""
    process_bytes: float
    """A replica that has served something, with one stream."""
    stream_bytes: float
    """An open stream."""
    topic_bytes: float
    """A topic that a replica reads, above its one stream."""


@dataclass(frozen=True, slots=True)
class Load:
    """Who reads, and what is written."""

    streams: float
    """Open streams."""
    readers: float
    """Streams of each topic that is read."""
    answers_per_second: float
    """Answers that begin in a second."""
    answer_tokens: float
    """Tokens of an answer."""
    tokens_per_second: float
    """The pace of one answer."""
    linger: float
    """What the writer's `linger` is, in seconds."""

    @property
    def topics(self) -> float:
        """Topics that somebody reads."""
        return self.streams / self.readers

    @property
    def tokens(self) -> float:
        """Tokens written in a second."""
        return self.answers_per_second * self.answer_tokens

    @property
    def talking(self) -> float:
        """Answers that are being written at one time."""
        return self.tokens / self.tokens_per_second

    @property
    def writes(self) -> float:
        """Calls that write, in a second. It is the most: where calls are slow, more tokens share one."""
        each = self.tokens_per_second
        return self.talking * (min(each, 1 / self.linger) if self.linger else each)

    @property
    def deliveries(self) -> float:
        """What calls bring to readers, in a second."""
        return self.writes * self.readers

    @property
    def events(self) -> float:
        """Messages that reach readers, in a second."""
        return self.tokens * self.readers


@dataclass(frozen=True, slots=True)
class Use:
    """What a load takes, of all replicas together; CPU in cores."""

    service: float
    restate: float
    memory: float


def read_at(load: Load, replicas: int) -> float:
    """Return at how many replicas a topic is read, on average, when streams fall on them at random."""
    return replicas * (1 - math.pow(1 - 1 / replicas, load.readers))


def told(load: Load, replicas: int) -> float:
    """Return how many other replicas a write tells, on average, when calls fall on replicas at random."""
    return read_at(load, replicas) * (replicas - 1) / replicas


def use(load: Load, costs: Costs, replicas: int) -> Use:
    """Return what a load takes on so many replicas."""
    feeds = load.topics * read_at(load, replicas)
    handovers = load.writes * told(load, replicas)
    service = (
        load.writes * costs.write
        + load.deliveries * costs.delivery
        + load.events * costs.event
        + handovers * costs.handover
        + load.streams * costs.stream
        + feeds * costs.topic
    )
    restate = (
        load.writes * costs.restate_write
        + handovers * costs.restate_handover
        + feeds * costs.restate_topic
        + costs.restate_rest
    )
    memory = replicas * costs.process_bytes + load.streams * costs.stream_bytes + feeds * costs.topic_bytes
    return Use(service / 1000, restate / 1000, memory)


@dataclass(frozen=True, slots=True)
class Room:
    """How full things may be."""

    share: float
    """Of a core, on average: above it, calls wait for one another and latency grows."""
    streams: int
    """Open streams of one replica: as many connect again at once when it goes."""
    node_cores: float
    """Cores of one Restate node."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to install."""

    replicas: int
    """Replicas that carry the load; the one that may be away is not among them."""
    use: Use
    cpu: float
    """The CPU request of a replica, in cores."""
    memory: float
    """The memory request of a replica, in bytes."""
    restate_cores: float
    """The cores that Restate needs, at the share that may be used."""
    nodes: int
    """The Restate nodes that have them."""
    partitions: int
    """The least number of partitions that can use these cores."""


def event_bytes(message_bytes: float) -> float:
    """Return the bytes in a stream of a message of that size: its `id`, its `data`, the line ends."""
    return message_bytes + len(message_frame(999, Message(b"0"))) - 1


def carried(costs: Costs) -> dict[str, float]:
    """Return what one core that does nothing else carries, at 100 %."""
    return {
        "one replica: calls/s that write, one message and one reader each": 1000
        / (costs.write + costs.delivery + costs.event),
        "one replica: messages/s to readers, each by itself": 1000 / (costs.delivery + costs.event),
        "one replica: messages/s to readers, ten in a call": 10_000 / (costs.delivery + 10 * costs.event),
        "Restate: calls/s that write": 1000 / costs.restate_write,
        "Restate: topics that are read and in which nothing happens": 1000 / costs.restate_topic,
    }


MOST_REPLICAS: Final = 10_000


def plan(load: Load, costs: Costs, room: Room) -> Plan | None:
    """Return the smallest number of replicas that carry a load, and what they need; None where no number does.

    A replica is one process, so it has one core. What a write costs grows with the replicas that it tells, so there
    are loads that more replicas do not help.
    """
    least = max(1, math.ceil(load.streams / room.streams))
    for replicas in range(least, MOST_REPLICAS + 1):
        found = use(load, costs, replicas)
        if found.service / replicas <= room.share:
            break
    else:
        return None
    cores = found.restate / room.share
    nodes = max(1, math.ceil(cores / room.node_cores))
    return Plan(
        replicas=replicas,
        use=found,
        cpu=found.service / replicas / room.share,
        memory=found.memory / replicas,
        restate_cores=cores,
        nodes=nodes,
        partitions=max(1, math.ceil(cores)),
    )


MEASURED: Final = Costs(
    write=4.77,
    delivery=0.028,  # make bench, fan-out: 35,784 deliveries in a CPU second, one by one, with the writes
    event=0.00131,
    handover=0.302,
    stream=0.00016,  # make bench, idle: 0.08 % of a core for 5,000 streams
    topic=0.00178,
    restate_write=4.39,
    restate_handover=0,
    restate_topic=0.0049,  # make bench, idle-topics: 2.95 ms to open one
    restate_rest=29.3,
    process_bytes=86_370_000,
    stream_bytes=21_060,
    topic_bytes=10_250,
)

CHECKED: Final = Load(
    streams=600, readers=3, answers_per_second=0.5, answer_tokens=500, tokens_per_second=25, linger=0.1
)
"""What the plan is checked with, which no cost was measured with: 200 topics of three readers, ten of them written."""
