"""Server-Sent Events as bytes: what a message, a reset, an end and a heartbeat look like on the wire.

The format is WHATWG HTML's, section 9.2.6. Every line ends in one LF. A frame's `id` is the offset of the *next*
message, so `Last-Event-ID` is where a reader goes on.

A blank line ends a block, and several widely used parsers hand an empty message to their caller for a block without
data. So comments and `retry:` have no blank line of their own: they stand before whatever block comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import HEARTBEAT_EVENT

HEARTBEAT = b":\n"
"""A comment, which no reader sees as an event."""


class Block(NamedTuple):
    """What a stream says of one message: `wire` is all of it, `place` its `id`."""

    wire: bytes
    place: bytes
    event: bytes
    data: bytes


def blocks_of(frames: bytes) -> Iterator[Block]:
    """Take apart what `message_frame` has put together: data has no line breaks of its own."""
    for frame in frames.split(b"\n\n"):
        if frame:
            place, *event, data = frame.split(b"\n")
            name = event[0].removeprefix(b"event: ") if event else b""
            yield Block(frame + b"\n\n", place.removeprefix(b"id: "), name, data.removeprefix(b"data: "))


def heartbeat_event(seconds: float) -> bytes:
    """Encode a heartbeat that a page can see, and how many seconds later the next one comes. It has no `id`."""
    return b'event: %b\ndata: {"seconds":%g}\n\n' % (HEARTBEAT_EVENT.encode(), seconds)


def message_frame(offset: int, message: Message) -> bytes:
    """Encode the message at `offset`."""
    data = message.data or b"null"
    if b"\n" in data or b"\r" in data:  # state that somebody else wrote: in JSON, these are white space
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    if message.event is None:
        return b"id: %d\ndata: %b\n\n" % (offset + 1, data)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (offset + 1, message.event.encode(), data)


def opening(retry_ms: int) -> bytes:
    """Encode what a stream says first: a comment that gets proxies going, and when to reconnect (milliseconds)."""
    return b": open\nretry: %d\n" % retry_ms


def place_frame(offset: int) -> bytes:
    """Encode where a stream begins, for a reader that did not say: an id, and no event.

    `EventSource` remembers it, so that one that loses its connection before the first message comes back to this
    place, and not to what is the latest then. It remembers an id only once a blank line has come, so this is the one
    block that stands alone without data.
    """
    return b"id: %d\n\n" % offset


def reset_frame(requested: int, head: int, tail: int, go_on: int) -> bytes:
    """Encode that the messages from `requested` are gone and the stream goes on at `go_on`.

    It carries an `id`, so that a reader that reconnects right after it does not ask for what is gone again.
    """
    return b'id: %d\nevent: reset\ndata: {"requested":%d,"head":%d,"tail":%d}\n\n' % (go_on, requested, head, tail)


def end_frame(next_offset: int) -> bytes:
    """Encode that the topic is closed and `next_offset` is its tail.

    It carries an `id`, so that a reader that got no message at all still comes back with one, and gets its 204.
    """
    return b'id: %d\nevent: end\ndata: {"nextOffset":%d}\n\n' % (next_offset, next_offset)
