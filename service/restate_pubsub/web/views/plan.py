"""Where a view begins: decided by where the topic's last answer is, before the first byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restate_pubsub.errors import InvalidRequest, OffsetGone

if TYPE_CHECKING:
    from restate_pubsub.fanout.source import Position
    from restate_pubsub.fanout.window import Start


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request says: a place (`start`, if `placed`), or the index of a chunk of the last answer.

    `replay`: the last answer, although it has ended. `wait`: the next one, where none is in progress.
    """

    start: Start
    placed: bool = False
    index: int | None = None
    replay: bool = False
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Read from `offset` on and leave out `skip` chunks.

    `headless`: the first chunks of the answer are gone. `idle`: no answer is in progress, and what is there has been
    read. `waits`: the answer is yet to begin, and what comes before it is left out.
    """

    offset: int
    skip: int = 0
    headless: bool = False
    idle: bool = False
    waits: bool = False


def plan_ai_sdk(position: Position, wanted: Wanted) -> Plan | None:
    """Return where the stream begins; None where no answer is in progress and there is nothing to tell.

    Raises:
        InvalidRequest: the place is no offset.
        OffsetGone: the index counts from a chunk that is gone.

    """
    answer, start = position.answer, wanted.start
    ended = not answer.running or position.closed
    if wanted.placed:
        if start.kind != "offset":
            msg = "offset: this view takes the offset of a chunk; `latest` and -K would begin in the middle of one"
            raise InvalidRequest(msg)
        done = ended and start.value >= (answer.stop or position.tail)
        if done:
            return _next(position, start.value) if wanted.wait else None
        return Plan(start.value, headless=start.value < position.head)
    if ended and wanted.wait:
        return _next(position, position.tail)
    if not answer.chunks:
        return None
    gone = answer.start < position.head
    begin = max(answer.start, position.head)
    if wanted.index is not None:
        skip = wanted.index if wanted.index >= 0 else max(answer.chunks + wanted.index, 0)
        if gone:
            raise OffsetGone(answer.start, position.head)
        return None if ended and skip >= answer.chunks else Plan(begin, skip)
    return None if ended and not wanted.replay else Plan(begin, headless=gone)


def _next(position: Position, offset: int) -> Plan | None:
    """Return where the next answer can begin; a closed topic has none."""
    return None if position.closed else Plan(max(offset, position.head), waits=True)


def plan_ag_ui(position: Position, wanted: Wanted) -> Plan:
    """Return where the stream begins: without a place, or at -1, at the topic's first run that is still there.

    With `wait`, a reader that would have to begin where all runs have finished begins with the next one.

    Raises:
        InvalidRequest: the place is neither an offset nor -1.

    """
    answer, start = position.answer, wanted.start
    from_start = not wanted.placed or (start.kind == "last" and start.value == 1)
    if not from_start and start.kind != "offset":
        msg = "offset: this view takes an offset, or -1 for the beginning"
        raise InvalidRequest(msg)
    if wanted.wait and not answer.running and not position.closed and (from_start or start.value >= answer.stop):
        return Plan(position.tail if from_start else start.value, headless=True)
    offset = position.head if from_start else start.value
    idle = answer.stop > 0 and offset >= answer.stop
    waits = from_start or offset < position.head or not answer.chunks
    return Plan(offset, headless=waits, idle=idle)
