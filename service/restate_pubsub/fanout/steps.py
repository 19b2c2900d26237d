"""What a reader is told, one step after the other. Who writes the response turns steps into bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from restate_pubsub.protocol.messages import Message

Encode = Callable[[int, Message], bytes]
"""Encodes the message at an offset. It is called once for each message, and all readers share what it returns."""


@dataclass(frozen=True, slots=True)
class Began:
    """The stream begins at `offset`; the first step of a reader that did not name one."""

    offset: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """The encoded messages of `[offset, next_offset)`, in one piece that readers at the same offset share."""

    offset: int
    data: bytes
    next_offset: int


@dataclass(frozen=True, slots=True)
class Reset:
    """What was `requested` is gone. There is `[head, tail)`, and the stream goes on at `head`."""

    requested: int
    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class End:
    """The topic is closed, and the reader has all of it. It is the last step."""

    next_offset: int


Step = Began | Chunk | Reset | End
