"""Where a topic's last answer begins, and whether it has ended: told by the chunks themselves, as they are written.

An *answer* is what the clients that front ends use follow: the UI message chunks of the Vercel AI SDK from `start` to
`finish`, or the events of one AG-UI run. Its chunks are the topic's messages that are JSON objects with a `type` and
have no event name; a `restart` and a `stop` count as one each, since readers get a chunk for them. Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import RESTART_EVENT, STOP_EVENT

FIRST = frozenset({"start", "RUN_STARTED"})
TYPED = b'"type":"'
LAST = frozenset({"finish", "abort", "error", "RUN_FINISHED", "RUN_ERROR"})
_TELLING = re.compile(rb'"type":"(?:%b)"' % "|".join(sorted(FIRST | LAST)).encode())


class Answer(NamedTuple):
    """The last answer of a topic: it has so many `chunks` from offset `start` on.

    `stop` is the offset after its last chunk, 0 while it goes on. Without chunks there was no answer yet.
    """

    start: int = 0
    stop: int = 0
    chunks: int = 0

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.chunks > 0 and not self.stop

    def after(self, offset: int, messages: Sequence[Message]) -> Answer:
        """Return the last answer once these messages stand from `offset` on."""
        answer = self
        if TYPED not in b",".join([data for data, _ in messages]) and not any(event for _, event in messages):
            return self  # one search for the whole batch
        for at, message in enumerate(messages, offset):
            answer = answer._then(at, message)
        return answer

    def _then(self, at: int, message: Message) -> Answer:
        if message.event is None:
            kind = telling_type(message.data)
            if kind in FIRST:
                return Answer(at, 0, 1)
            if not self.running or not is_chunk(message.data):
                return self
            return self._replace(chunks=self.chunks + 1, stop=at + 1 if kind in LAST else 0)
        if message.event == RESTART_EVENT and self.chunks and (self.running or _begins_at(message.data) < self.stop):
            return self._replace(chunks=self.chunks + 1, stop=0)  # its end may be what is written again
        if message.event == STOP_EVENT and self.running:
            return self._replace(chunks=self.chunks + 1, stop=at + 1)
        return self


NO_ANSWER = Answer()


def is_chunk(data: bytes) -> bool:
    """Whether a message without an event name is one that a client of this kind takes."""
    return data.startswith(b"{") and TYPED in data


def telling_type(data: bytes) -> str | None:
    """Return the message's `type` if it says that an answer begins or ends.

    Only what looks like one is decoded, so that a token costs one search.
    """
    if not data.startswith(b"{") or _TELLING.search(data) is None:
        return None
    kind = type_of(data)
    return kind if kind in FIRST or kind in LAST else None


class _Typed(msgspec.Struct):
    type: str


class _Restart(msgspec.Struct):
    offset: int


def type_of(data: bytes) -> str | None:
    """Return the message's own `type`; None where it has none."""
    try:
        return msgspec.json.decode(data, type=_Typed).type
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _begins_at(data: bytes) -> int:
    try:
        return msgspec.json.decode(data, type=_Restart).offset
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
