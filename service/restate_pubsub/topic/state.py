"""What a topic stores: its state keys, and their JSON.

`messagesMetadata` and `m_<offset>` are the reference's, so that a topic it wrote is read and continued here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from restate_pubsub.errors import PubsubError
from restate_pubsub.protocol.answers import NO_ANSWER, Answer
from restate_pubsub.protocol.calls import StreamRef, Subscription, decode
from restate_pubsub.protocol.joined import Entry, Run, pieces, runs, span
from restate_pubsub.protocol.json_text import Mask
from restate_pubsub.protocol.messages import Batch, Message, event_names, join
from restate_pubsub.topic.log import PAGE, Bounds, Joining, Stretch, UnsealedPage, emptied
from restate_pubsub.topic.policy import Policy, StoredPolicy
from restate_pubsub.topic.streams import Halt, KnownStream

REPEATED_AFTER = 1024
"""A sweep or timer that does not come, as it was killed itself, is sent again after so many messages."""
METADATA_KEY = "messagesMetadata"
SUBSCRIPTION_KEY = "subscription"
UNFINISHED_KEY = "unfinished"
"""It is there while a call has keys to write or clear that nobody counts, and afterwards if that call was killed."""
INDEX_PREFIX = "i_"
STREAM_PREFIX = "s_"
OLD_STREAMS_KEY = "streams"
"""The streams of a topic in the version before: all in one key, the newest 64."""


def message_key(offset: int) -> str:
    """Return the state key of one message."""
    return f"m_{offset}"


def page_key(page: int) -> str:
    """Return the state key of a sealed page."""
    return f"p_{page}"


def unsealed_key(page: int) -> str:
    """Return the state key for what is known of a full page that is not sealed."""
    return f"e_{page}"


def stream_key(ref: StreamRef) -> str:
    """Return the state key of a stream; those with attempts and those that count have names of their own."""
    return f"{STREAM_PREFIX}{ref.id}" if ref.start is None else f"k_{ref.id}"


def index_key(number: int) -> str:
    """Return the state key that names the stream that was the topic's `number`-th."""
    return f"{INDEX_PREFIX}{number}"


@dataclass(frozen=True, slots=True)
class LastStream:
    """The stream that was written last, and its state key: counted in the same step as its messages."""

    key: str
    known: KnownStream


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic's metadata says.

    `policy` is None before the first write. `streams` numbers the streams that are remembered: their names are in
    the index from the first number up to the second; None if something else wrote here last. `sweep_due` is the tail at
    which a delayed sweep was sent, `sweeping` the one at which a sweep was sent at once, 0 for none. `timer` names the
    pending idle timer, 0 for none, `timer_at` is the tail at which it was started, and `timers` counts those that there
    were. `forgetting` is the tail at which a call was sent that forgets streams, 0 for none, `forgot` the head up to
    which it does, and `round` counts these calls. `life` counts how often the topic was deleted. `answer`
    is the last one, which a topic of the version before has only from its next sweep on. `halt` is the latest stop of
    all streams.
    """

    bounds: Bounds = field(default_factory=Bounds)
    policy: Policy | None = None
    last_stream: LastStream | None = None
    streams: tuple[int, int] | None = None
    sweep_due: int = 0
    sweeping: int = 0
    timer: int = 0
    timer_at: int = 0
    timers: int = 0
    forgetting: int = 0
    forgot: int = 0
    round: int = 0
    life: int = 0
    exists: bool = False
    answer: Answer = NO_ANSWER
    halt: Halt | None = None

    def is_late(self, sent_at: int) -> bool:
        """Whether a call that was sent at that tail should have come: it was killed, as so much was written since."""
        return self.bounds.tail >= sent_at + REPEATED_AFTER

    @property
    def empty(self) -> bool:
        """Whether there is nothing that could be deleted."""
        first, stop = self.streams or (0, 0)
        return self.bounds.head == self.bounds.tail and not self.bounds.closed and first == stop

    def deleted(self) -> Topic:
        """Return what is left of a deleted topic: its counters."""
        return Topic(
            emptied(self.bounds),
            self.policy,
            streams=(0, 0),
            timers=self.timers,
            round=self.round,
            life=self.life + 1,
            exists=True,
        )


class StoredStretch(msgspec.Struct, array_like=True, omit_defaults=True):
    """A stretch as JSON: a short array, since it is part of every write."""

    start: int
    stop: int
    field: str
    continues: bool = False


class Metadata(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The `messagesMetadata` state key. The reference writes `head` and `tail` alone.

    `open_bytes` is for the version before, which does not read `open_sizes`. `answer` is there, if only as zeros, where
    the policy has `answers`: a write that the version before has begun must set the same bytes again.
    """

    head: int
    tail: int
    closed: bool = False
    open_bytes: int = 0
    open_sizes: dict[str, int] | None = None
    open_events: dict[str, str] = {}
    open_data: dict[str, msgspec.Raw] = {}
    swept: int | None = None
    size: int = 0
    sized_from: int = 0
    timer: int = 0
    timer_at: int = 0
    timers: int = 0
    policy: StoredPolicy | None = None
    last_stream: tuple[str, KnownStream] | None = None
    streams: tuple[int, int] | None = None
    sweep_due: int = 0
    sweeping: int = 0
    forgetting: int = 0
    forgot: int = 0
    round: int = 0
    life: int = 0
    open_joins: list[StoredStretch] = []
    last_join: tuple[str, str] | None = None
    answer: tuple[int, int, int] | None = None
    halt: Halt | None = None


class StoredRun(msgspec.Struct, array_like=True, omit_defaults=True):
    """A run as JSON: its place among the page's values, where its text begins there, and its pieces' bytes."""

    index: int
    at: int
    lengths: list[int]
    continues: bool = False


class Page(msgspec.Struct, omit_defaults=True):
    """A sealed page from `offset` on: `messages`, or the values of `joined`, of which `runs` are several as one.

    The version before knows no runs: it refuses a page without `messages`, instead of taking a run for a message.
    """

    offset: int
    messages: list[msgspec.Raw] | None = None
    joined: list[msgspec.Raw] | None = None
    events: dict[str, str] = {}
    runs: list[StoredRun] = []


class Unsealed(msgspec.Struct, omit_defaults=True):
    """A full page that stays in `m_` keys: the bytes of its messages, and the names of its events.

    The version before wrote and reads `size`, the sum.
    """

    size: int = 0
    events: dict[str, str] = {}
    sizes: dict[str, int] | None = None
    joins: list[StoredStretch] = []


def decode_topic(raw: bytes | None) -> Topic:
    """Read the metadata; without any, the topic is new."""
    if not raw:
        return Topic(streams=(0, 0))
    mask = Mask(raw)
    meta = decode(mask.masked, Metadata, METADATA_KEY)
    ours = meta.swept is not None  # the reference writes head and tail alone, and clears at once
    inlined = {int(at): mask.restore(bytes(text)) for at, text in meta.open_data.items()}
    bounds = Bounds(
        head=meta.head,
        tail=meta.tail,
        closed=meta.closed,
        open_events={int(at): name for at, name in meta.open_events.items()},
        open_data=inlined,
        open_sizes=_sizes(meta, inlined),
        swept=meta.head if meta.swept is None else meta.swept,
        size=meta.size,
        sized_from=meta.sized_from if ours else meta.tail,
        open_joins=_stretches(meta.open_joins, mask),
        last_join=None if meta.last_join is None else Joining(mask.text(meta.last_join[0]), meta.last_join[1]),
    )
    return Topic(
        bounds,
        None if meta.policy is None else meta.policy.policy(answers=meta.answer is not None),
        None if meta.last_stream is None else LastStream(mask.text(meta.last_stream[0]), meta.last_stream[1]),
        meta.streams,
        sweep_due=meta.sweep_due,
        sweeping=meta.sweeping,
        timer=meta.timer,
        timer_at=meta.timer_at,
        timers=max(meta.timers, meta.timer),
        forgetting=meta.forgetting,
        forgot=meta.forgot,
        round=meta.round,
        life=meta.life,
        exists=True,
        answer=Answer(*(meta.answer or ())),
        halt=meta.halt,
    )


def _stretches(stored: Sequence[StoredStretch], mask: Mask) -> tuple[Stretch, ...]:
    return tuple([Stretch(one.start, one.stop, mask.text(one.field), one.continues) for one in stored])


def _stored_stretches(stretches: Sequence[Stretch]) -> list[StoredStretch]:
    return [StoredStretch(one.start, one.stop, one.field, one.continues) for one in stretches]


def _sizes(meta: Metadata, inlined: Mapping[int, bytes]) -> dict[int, int]:
    if meta.open_sizes is not None:
        return {int(at): size for at, size in meta.open_sizes.items()}
    # The version before knew only the sum.
    others = [at for at in range(meta.tail - meta.tail % PAGE, meta.tail) if at not in inlined]
    return {others[0]: max(meta.open_bytes - sum(map(len, inlined.values())), 0)} if others else {}


def encode_topic(topic: Topic) -> bytes:
    """Write the metadata: the reference's two fields first, then ours."""
    bounds, last, answer = topic.bounds, topic.last_stream, topic.answer
    return msgspec.json.encode(
        Metadata(
            head=bounds.head,
            tail=bounds.tail,
            closed=bounds.closed,
            open_bytes=sum(map(len, bounds.open_data.values())) + sum(bounds.open_sizes.values()),
            open_sizes={str(at): size for at, size in bounds.open_sizes.items()},
            open_events={str(at): name for at, name in bounds.open_events.items()},
            open_data={str(at): msgspec.Raw(text) for at, text in bounds.open_data.items()},
            swept=bounds.swept,
            size=bounds.size,
            sized_from=bounds.sized_from,
            timer=topic.timer,
            timer_at=topic.timer_at,
            timers=topic.timers,
            policy=None if topic.policy is None else StoredPolicy.of(topic.policy),
            last_stream=None if last is None else (last.key, last.known),
            streams=topic.streams,
            sweep_due=topic.sweep_due,
            sweeping=topic.sweeping,
            forgetting=topic.forgetting,
            forgot=topic.forgot,
            round=topic.round,
            life=topic.life,
            open_joins=_stored_stretches(bounds.open_joins),
            last_join=None if bounds.last_join is None else (bounds.last_join.field, bounds.last_join.writer),
            answer=(answer.start, answer.stop, answer.chunks)
            if topic.policy is not None and topic.policy.answers
            else None,
            halt=topic.halt,
        )
    )


def decode_subscriptions(raw: bytes | None) -> list[Subscription]:
    """Read who waits."""
    return msgspec.json.decode(raw, type=list[Subscription]) if raw else []


def encode_subscriptions(waiting: Sequence[Subscription]) -> bytes:
    """Write who waits."""
    return msgspec.json.encode(waiting)


def entries_of(offset: int, messages: Sequence[Message], joins: Sequence[Stretch]) -> list[Entry]:
    """Put the messages from `offset` on together, as far as `joins` says that they continue one another."""
    found: list[Entry] = []
    at, stop = offset, offset + len(messages)
    for one in joins:
        first, last = max(one.start, at), min(one.stop, stop)
        if first >= last:
            continue
        found += messages[at - offset : first - offset]
        continues = one.continues or first > one.start
        found += runs(messages[first - offset : last - offset], one.field, continues=continues)
        at = last
    found += messages[at - offset :]
    return found


def encode_page(offset: int, messages: Sequence[Message], joins: Sequence[Stretch] = ()) -> bytes:
    """Write a sealed page that starts at `offset`; what continues according to `joins` is written as runs."""
    entries = entries_of(offset, messages, joins) if joins else messages
    stored = [
        StoredRun(index, entry.at, list(entry.lengths), entry.continues)
        for index, entry in enumerate(entries)
        if isinstance(entry, Run)
    ]
    if not stored:
        return b'{"offset":%d,"messages":[%b]%b}' % (offset, join(messages), event_names(enumerate(messages, offset)))
    values = [Message(entry.data, entry.event) for entry in entries]
    spans = {index: span(entry) for index, entry in enumerate(entries)}
    names = event_names(Batch(offset, values, offset + len(messages), spans=spans).placed())
    return b'{"offset":%d,"joined":[%b]%b,"runs":%b}' % (offset, join(values), names, msgspec.json.encode(stored))


def decode_entries(raw: bytes) -> tuple[int, list[Entry]]:
    """Read a sealed page: its first offset, and its messages and runs.

    Raises:
        PubsubError: it has neither; another version wrote it.

    """
    mask = Mask(raw)
    page = decode(mask.masked, Page, "page")
    values = page.messages if page.joined is None else page.joined
    if values is None:
        msg = f"The page at offset {page.offset} holds neither messages nor runs: another version wrote it"
        raise PubsubError(msg)
    texts = [mask.restore(bytes(value)) for value in values]
    stored = {run.index: run for run in page.runs}
    entries: list[Entry] = []
    at = page.offset
    for index, text in enumerate(texts):
        event = page.events.get(str(at)) if page.events else None
        if (run := stored.get(index)) is None:
            entries.append(Message(text, event))
            at += 1
        else:
            entries.append(Run(text, event, run.at, run.lengths, run.continues))
            at += len(run.lengths)
    return page.offset, entries


def decode_page(raw: bytes) -> tuple[int, list[Message]]:
    """Read a sealed page: its first offset and its messages, each as it was written."""
    offset, entries = decode_entries(raw)
    return offset, [message for entry in entries for message in pieces(entry)]


def encode_unsealed(about: UnsealedPage) -> bytes:
    """Write what is known of a full page that is not sealed."""
    return msgspec.json.encode(
        Unsealed(
            sum(about.sizes.values()),
            {str(at): name for at, name in about.events.items()},
            {str(at): size for at, size in about.sizes.items()},
            _stored_stretches(about.joins),
        )
    )


def decode_unsealed(raw: bytes | None, page: int) -> UnsealedPage:
    """Read what is known of a full page that is not sealed; the reference's pages have no such key."""
    if not raw:
        return UnsealedPage()
    mask = Mask(raw)
    about = decode(mask.masked, Unsealed, "page events")
    sizes = about.sizes
    if sizes is None:  # the version before knew only the sum, and clears the page as a whole
        sizes = {str((page + 1) * PAGE - 1): about.size}
    return UnsealedPage(
        {int(at): name for at, name in about.events.items()},
        {int(at): n for at, n in sizes.items()},
        _stretches(about.joins, mask),
    )


def decode_stream(raw: bytes | None) -> KnownStream | None:
    """Read one stream that the topic remembers."""
    return msgspec.json.decode(raw, type=KnownStream) if raw else None


def encode_stream(known: KnownStream) -> bytes:
    """Write one stream that the topic remembers."""
    return msgspec.json.encode(known)


def decode_old_streams(raw: bytes | None) -> dict[str, KnownStream]:
    """Read the streams that the version before left, by today's state keys, the oldest first."""
    old = msgspec.json.decode(raw, type=dict[str, KnownStream]) if raw else {}
    return {f"k_{name}" if known.attempt is None else f"s_{name}": known for name, known in old.items()}
