"""The first message of a call as Restate sends it to a service: what of the object's state comes along.

Its form is that of Restate's service protocol: a header of 8 bytes, and a protobuf message. Of that only two fields
are read; protobuf promises that a later version gives their numbers to nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct(">HHI")
"""A message's type, its flags, and its bytes without this header."""
START = 0
"""The type of the first message."""
STATE, PARTIAL = 4, 5
"""Its fields: an entry of the state (as often as there are keys), and whether entries are left out."""
KEY, VALUE = 1, 2
"""The fields of an entry."""
MORE = 0x80
"""The bit of a number's byte that says that another one follows; it is the highest."""
VARINT, EIGHT_BYTES, SIZED, FOUR_BYTES = 0, 1, 2, 5


class StartReader:
    """Takes the bytes of a call as they come, up to the end of its first message."""

    def __init__(self, max_bytes: int) -> None:
        """A first message of more than `max_bytes` is not kept."""
        self._max_bytes = max_bytes
        self._taken = bytearray()
        self._wanted = HEADER.size

    def take(self, part: bytes) -> None:
        """Take the next bytes; what follows the first message is passed over."""
        if len(self._taken) >= self._wanted:
            return
        self._taken += part
        if self._wanted == HEADER.size and len(self._taken) >= HEADER.size:
            kind, _, size = HEADER.unpack_from(self._taken)
            self._wanted += size if kind == START and size <= self._max_bytes else 0
        if len(self._taken) > self._wanted:
            del self._taken[self._wanted :]

    def state(self) -> dict[str, bytes] | None:
        """Return all keys of the object's state and their values; None where Restate did not send all of it."""
        if len(self._taken) < self._wanted or self._wanted == HEADER.size:
            return None
        try:
            return _state(bytes(self._taken[HEADER.size :]))
        except (ValueError, IndexError):
            return None


def _state(message: bytes) -> dict[str, bytes] | None:
    state: dict[str, bytes] = {}
    for number, value in _fields(message):
        if number == PARTIAL and value:
            return None
        if number == STATE and isinstance(value, bytes):
            entry = {part: found for part, found in _fields(value) if isinstance(found, bytes)}
            state[entry.get(KEY, b"").decode()] = entry.get(VALUE, b"")
    return state


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number of each field, and its value.

    Raises:
        ValueError: it is no protobuf message.
        IndexError: it ends too early.

    """
    at = 0
    while at < len(message):
        tag = message[at]
        if tag < MORE:  # as most are: a call for each would be half of the time
            at += 1
        else:
            tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == SIZED:
            size = message[at]
            if size < MORE:
                at += 1
            else:
                size, at = _varint(message, at)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            msg = f"{kind} is no kind of a field"
            raise ValueError(msg)
        if at + size > len(message):
            msg = f"a field of {size} bytes goes past the end"
            raise ValueError(msg)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return a number, seven bits in each byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < MORE:
            return value, at
        shift += 7
