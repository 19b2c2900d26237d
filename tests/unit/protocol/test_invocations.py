"""What comes along with a call, out of the bytes that Restate sends."""

from __future__ import annotations

import pytest

from restate_pubsub.protocol.invocations import HEADER, START, StartReader

FIXED = bytes([0x09, *range(8), 0x15, *range(4)])
"""A field of eight bytes and one of four, which mean nothing here."""


def sized(number: int, value: bytes) -> bytes:
    size = bytes([len(value)]) if len(value) < 128 else bytes([len(value) & 127 | 128, len(value) >> 7])
    return bytes([number << 3 | 2]) + size + value


def entry(key: str, value: bytes) -> bytes:
    return sized(4, sized(1, key.encode()) + sized(2, value))


def message(body: bytes, kind: int = START) -> bytes:
    return HEADER.pack(kind, 0, len(body)) + body


STATE = {"messagesMetadata": b"{}", "p_0": b"x" * 300, "empty": b""}
ALL = sized(1, b"id") + FIXED + b"\x18\x01" + b"".join(entry(*one) for one in STATE.items())
INPUT = message(b"what follows", kind=0x0400)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 100, 10_000])
def test_the_state_is_read_in_whatever_parts_it_comes(size: int) -> None:
    reader, sent = StartReader(1000), message(ALL) + INPUT
    for at in range(0, len(sent), size):
        reader.take(sent[at : at + size])
    assert reader.state() == STATE


def test_a_topic_without_state_has_none() -> None:
    reader = StartReader(1000)
    reader.take(message(sized(1, b"id")))
    assert reader.state() == {}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        message(ALL)[:-1],
        message(ALL + b"\x28\x01"),
        message(ALL, kind=0x0400),
        message(ALL + b"x" * 1000),
        message(b"\x0b"),
        message(b"\x22\x09x"),
        message(b"\xff\xff"),
        message(sized(4, sized(1, b"\xff"))),
    ],
    ids=["nothing", "too little", "partial", "another", "too much", "a group", "cut off", "no number", "no text"],
)
def test_no_state_is_read_where_not_all_of_it_came(sent: bytes) -> None:
    reader = StartReader(1000)
    reader.take(sent)
    assert reader.state() is None
