"""Messages and batches of them, as everything here passes them on.

A message is kept as the JSON text that its publisher sent, without the white space between tokens. It is never
turned into Python objects on its way: numbers keep their digits, and the cost is one pass over the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from restate_pubsub.protocol.json_text import dump
from restate_pubsub.protocol.names import RESTART_EVENT, STOP_EVENT


class Message(NamedTuple):
    """One message: compact JSON, and the name of its event where it has one."""

    data: bytes
    event: str | None = None


class Place(NamedTuple):
    """Where a topic is at one moment: its head and tail, and its bytes where it may be read as a whole (`history`)."""

    head: int
    tail: int
    whole: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive messages from `offset` on; a reader that has them goes on at `next_offset`.

    `closed`: nothing will follow `next_offset`. `head`: the topic's head, where the sender knows it. `spans` says how
    many offsets a message covers, by its index, where messages were joined and it is more than one. `trace` is the
    `traceparent` of the write that these are the news of, where that is traced. `whole` is `Place.whole`, in the answer
    to an opening.
    """

    offset: int
    messages: Sequence[Message]
    next_offset: int
    closed: bool = False
    head: int | None = None
    spans: Mapping[int, int] = field(default_factory=dict)
    trace: str = ""
    whole: int | None = None

    def placed(self) -> Iterator[tuple[int, Message]]:
        """Yield each message with the offset at which it begins."""
        at = self.offset
        for index, message in enumerate(self.messages):
            yield at, message
            at += self.spans.get(index, 1)


def restart_message(stream: str, offset: int, count: int) -> Message:
    """Return the message that says: drop the `count` messages that this stream wrote from `offset` on, it begins again.

    Messages of others may lie between them.
    """
    return Message(dump({"id": stream, "offset": offset, "count": count}), RESTART_EVENT)


def stop_message(stream: str | None, reason: str | None) -> Message:
    """Return the message that says: this stream was stopped, or all that were unfinished; what they wrote stays."""
    said = {"id": stream, "reason": reason}
    return Message(dump({key: value for key, value in said.items() if value is not None}), STOP_EVENT)


def join(messages: Iterable[Message]) -> bytes:
    """Write messages as the inside of a JSON array."""
    return b",".join([message.data or b"null" for message in messages])


def event_names(placed: Iterable[tuple[int, Message]]) -> bytes:
    """Write which messages have events, by offset, as a further member of an object; nothing where none has."""
    events = {str(at): message.event for at, message in placed if message.event}
    return b',"events":' + msgspec.json.encode(events) if events else b""


def named(
    offset: int, texts: Sequence[bytes], events: Mapping[str, str], spans: Mapping[int, int] | None = None
) -> list[Message]:
    """Give texts their events back; `spans` are the offsets that they cover, by index, where more than one."""
    if not events:
        return [Message(text) for text in texts]
    if not spans:
        return [Message(text, events.get(str(at))) for at, text in enumerate(texts, offset)]
    found, at = [], offset
    for index, text in enumerate(texts):
        found.append(Message(text, events.get(str(at))))
        at += spans.get(index, 1)
    return found
