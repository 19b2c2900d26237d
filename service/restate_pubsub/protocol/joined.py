"""Messages that continue one another in one field's text, as one message: a *run*. Pure bytes, nothing is decoded.

Of JSON objects that are equal in all but the text of one field, the run is the object with all their texts one after
the other. The bytes of each text are kept as they were written, escapes and all, so every message can be cut out of
the run again exactly as it was; and half a surrogate pair that the next text completes becomes whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol.messages import Message

JOINED_MAX_BYTES = 64 * 1024
"""A longer run is read as several: a reader's message stays small enough to be passed on."""
MAX_FIELD_LENGTH = 64

Frame = tuple[bytes, bytes, str | None]
"""What the messages of a run have in common: what is before the text, what is after it, and the event's name."""


class Run(NamedTuple):
    """Consecutive messages as one: `data` is JSON, its text begins at byte `at`, and `lengths` are its pieces'.

    `continues`: so does its first message the one before it, if that belongs to a run of the same frame.
    """

    data: bytes
    event: str | None
    at: int
    lengths: Sequence[int]
    continues: bool = False

    @property
    def stop(self) -> int:
        """The byte at which the text ends."""
        return self.at + sum(self.lengths)

    def frame(self) -> Frame:
        """Return what all its messages have in common."""
        return self.data[: self.at], self.data[self.stop :], self.event


Entry = Message | Run
"""What lies at a place of a log: one message, or several."""


def check_field(name: str | None) -> None:
    """Refuse a field's name that is none.

    Raises:
        InvalidRequest: it is empty or too long, or no text.

    """
    if name is None:
        return
    if not 0 < len(name) <= MAX_FIELD_LENGTH or any("\ud800" <= letter <= "\udfff" for letter in name):
        msg = f"join {name[:MAX_FIELD_LENGTH]!r}: name the field that continues, in 1 to {MAX_FIELD_LENGTH} characters"
        raise InvalidRequest(msg)


def written_bytes(entry: Entry) -> int:
    """Return the bytes of an entry's messages as they were written."""
    if not isinstance(entry, Run):
        return len(entry.data)
    text = sum(entry.lengths)
    return (len(entry.data) - text) * len(entry.lengths) + text


def span(entry: Entry) -> int:
    """Return how many offsets an entry covers."""
    return len(entry.lengths) if isinstance(entry, Run) else 1


def pieces(entry: Entry) -> list[Message]:
    """Return the messages of an entry, each as it was written."""
    if not isinstance(entry, Run):
        return [entry]
    before, after, event = entry.frame()
    data, at = entry.data, entry.at
    found = []
    for length in entry.lengths:
        found.append(Message(b"%b%b%b" % (before, data[at : at + length], after), event))
        at += length
    return found


def part(entry: Entry, start: int, stop: int) -> Entry:
    """Return the messages `[start, stop)` of an entry, which has more than `start`."""
    if not isinstance(entry, Run) or (start <= 0 and stop >= len(entry.lengths)):
        return entry
    before, after, event = entry.frame()
    first = entry.at + sum(entry.lengths[:start])
    lengths = entry.lengths[start:stop]
    text = entry.data[first : first + sum(lengths)]
    return Run(before + text + after, event, entry.at, lengths, entry.continues or start > 0)


def parts(entries: Sequence[Entry], start: int, stop: int) -> list[Entry]:
    """Return the messages `[start, stop)` of all that the entries have."""
    found = []
    at = 0
    for entry in entries:
        end = at + span(entry)
        if max(start, at) < min(stop, end):
            found.append(part(entry, max(start - at, 0), stop - at))
        at = end
    return found


def runs(messages: Sequence[Message], name: str, *, continues: bool = False) -> list[Entry]:
    """Put messages together as far as they differ in the text of the field `name` only.

    `continues`: the first of them goes on with the message before it.
    """
    found: list[Entry] = []
    at = 0
    while at < len(messages):
        first, place = messages[at], _place(messages[at].data, name)
        at += 1
        if place is None:
            found.append(first)
            continues = False
            continue
        before, after = first.data[: place.start], first.data[place.stop :]
        texts = [first.data[place.start : place.stop]]
        while at < len(messages) and messages[at].event == first.event:
            text = _between(messages[at].data, before, after)
            if text is None:
                break
            texts.append(text)
            at += 1
        data = b"".join((before, *texts, after))
        found.append(Run(data, first.event, place.start, [len(text) for text in texts], continues))
        continues = False
    return found


@dataclass(slots=True)
class Joined:
    """Entries as a joined reader gets them: `spans` says how many offsets a message covers, where more than one.

    `count` is how many offsets all of them cover.
    """

    messages: list[Message] = field(default_factory=list)
    spans: dict[int, int] = field(default_factory=dict)
    count: int = 0


class LeftOut(Protocol):
    """Messages that a reader need not see: the next one covers so many offsets more."""

    @property
    def offsets(self) -> int:
        """How many offsets they cover."""


def joined(entries: Iterable[Entry | LeftOut], max_bytes: int, *, each: int = JOINED_MAX_BYTES) -> Joined:
    """Join what continues one another, up to about `max_bytes` in all; one message at least.

    A joined message has at most `each` bytes.
    """
    joiner = _Joiner(max_bytes, each)
    for entry in entries:
        if not isinstance(entry, Message | Run):
            joiner.leave_out(entry.offsets)
            continue
        for one in _cut(entry, min(each, max_bytes)):
            if not joiner.take(one):
                return joiner.finished()
    return joiner.finished()


class _Joiner:
    """Puts entries together one after the other."""

    def __init__(self, max_bytes: int, each: int) -> None:
        self._found = Joined()
        self._first: Entry | None = None  # what may go on
        self._frame: Frame | None = None  # that of the texts, if it is a run
        self._texts: list[bytes] = []  # of all that continue one another
        self._count = 0  # the offsets that they cover
        self._size = self._all = 0  # the bytes of that, and of everything
        self._before = self._left_out = 0  # offsets left out before that, and after it
        self._max, self._each = max_bytes, each

    def take(self, entry: Entry) -> bool:
        """Take an entry; False where it is too much."""
        frame, text, size, goes_on = None, b"", len(entry.data), False
        if isinstance(entry, Run):  # its lengths are added up once only: there are as many as messages
            frame = entry.frame()
            text = entry.data[entry.at : len(entry.data) - len(frame[1])]
            goes_on = entry.continues and frame == self._frame and self._size + len(text) <= self._each
            if goes_on:
                size = len(text)
        if self._first is not None and self._all + size > self._max:
            return False
        if not goes_on:
            self._finish()
            self._before, self._left_out = self._left_out, 0
            self._first, self._frame = entry, frame
        self._texts.append(text)
        self._count += span(entry)
        self._size += size
        self._all += size
        return True

    def leave_out(self, count: int) -> None:
        """Leave out so many offsets: what follows begins a message of its own."""
        self._finish()
        self._left_out += count

    def _finish(self) -> None:
        if self._first is not None:
            found, covered = self._found, self._before + self._count
            if covered > 1:
                found.spans[len(found.messages)] = covered
            found.messages.append(self._one(self._first))
            found.count += covered
        self._first, self._frame, self._texts, self._count, self._size = None, None, [], 0, 0

    def _one(self, first: Entry) -> Message:
        if len(self._texts) == 1 or self._frame is None:
            return Message(first.data, first.event)
        before, after, event = self._frame
        return Message(b"".join((before, *self._texts, after)), event)

    def finished(self) -> Joined:
        """Finish what may go on, and return all."""
        self._finish()
        return self._found


def _cut(run: Entry, max_bytes: int) -> Iterator[Entry]:
    """Yield a run in parts of at most `max_bytes`, or of one message."""
    if not isinstance(run, Run) or len(run.data) <= max_bytes:
        yield run
        return
    around = len(run.data) - (run.stop - run.at)
    start = size = 0
    for at, length in enumerate(run.lengths):
        if at > start and around + size + length > max_bytes:
            yield part(run, start, at)
            start = at
            size = 0
        size += length
    yield part(run, start, len(run.lengths))


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_INSIDE = re.compile(rb"(?:[^\"\\]++|\\.)*+", re.DOTALL)


def _place(data: bytes, name: str) -> slice | None:
    """Return where the text of a field lies in a compact JSON object; None where it has none, or more than one."""
    if not data.startswith(b"{"):
        return None
    depth, found = 0, None
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and data[match.end() : match.end() + 1] == b":" and _name(token) == name:
            if found is not None:
                return None  # which of the two counts is the reader's affair
            value = _TEXT.match(data, match.end() + 1)
            if value is None:
                return None
            found = slice(value.start() + 1, value.end() - 1)
    return found


def _name(token: bytes) -> str:
    return str(json.loads(token)) if b"\\" in token else token[1:-1].decode()


def _between(data: bytes, before: bytes, after: bytes) -> bytes | None:
    """Return the text of an object of that frame; None if it is of another."""
    stop = len(data) - len(after)
    if stop < len(before) or not data.startswith(before) or not data.endswith(after):
        return None
    text = data[len(before) : stop]
    # What follows `before` is inside a string: it ends with this text if that holds no end of its own.
    return text if (b'"' not in text and b"\\" not in text) or _INSIDE.fullmatch(text) else None
