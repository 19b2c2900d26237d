"""What a reader who comes late need not see: the messages of an attempt that a `restart` has replaced. Pure.

A `restart` says that what its stream wrote from an offset on is dropped, and how many messages that was. A message does
not say whose it is. But where as many lie between that offset and the `restart`, all of them are the attempt's. They
and the `restart` can be left out, for a reader that begins at or before the offset: it has seen nothing of the attempt.
A `restart` of an older version does not say how many there were. Then a run tells it: all of that is of one attempt.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from restate_pubsub.protocol.joined import Entry, Run, span
from restate_pubsub.protocol.names import RESTART_EVENT


class Gap(NamedTuple):
    """Entries that are left out; the message that follows covers their offsets as well as its own."""

    entries: tuple[Entry, ...]

    @property
    def offsets(self) -> int:
        """How many offsets they cover."""
        return sum(map(span, self.entries))


class _Restart(msgspec.Struct):
    offset: int
    count: int | None = None


def without_abandoned(start: int, entries: Sequence[Entry]) -> list[Entry | Gap]:
    """Leave out abandoned attempts of the entries from offset `start` on, if something follows that covers them."""
    if not any(entry.event == RESTART_EVENT for entry in entries):
        return list(entries)
    kept: list[tuple[int, Entry | Gap]] = []
    at = start
    for entry in entries:
        first = _beginning(kept, entry, at)
        if first is None:
            kept.append((at, entry))
        else:
            gone = [one for _, one in kept[first:] if not isinstance(one, Gap)]
            del kept[first:]
            earlier: tuple[Entry, ...] = ()
            if kept and isinstance(gap := kept[-1][1], Gap):
                earlier = gap.entries
                kept.pop()
            whole = Gap((*earlier, *gone, entry))
            kept.append((at + 1 - whole.offsets, whole))
        at += span(entry)
    if kept and isinstance(gap := kept[-1][1], Gap):
        return [one for _, one in kept[:-1]] + list(gap.entries)
    return [one for _, one in kept]


def _beginning(kept: list[tuple[int, Entry | Gap]], entry: Entry, at: int) -> int | None:
    """Return where among the kept ones the attempt begins that the entry at offset `at` replaces; None: not certain."""
    if isinstance(entry, Run) or entry.event != RESTART_EVENT:
        return None
    try:
        restart = msgspec.json.decode(entry.data, type=_Restart)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if restart.count is None:
        return _beginning_by_run(kept, restart.offset)
    if restart.offset + restart.count != at:
        return None
    first = bisect_left(kept, restart.offset, key=itemgetter(0))
    return first if first < len(kept) and kept[first][0] == restart.offset else None


def _beginning_by_run(kept: list[tuple[int, Entry | Gap]], offset: int) -> int | None:
    """Return where among the kept ones the run begins that lies between `offset` and their end, and nothing else."""
    for index in range(len(kept) - 1, -1, -1):
        place, one = kept[index]
        if not isinstance(one, Run) or place < offset:
            return None
        if place == offset:
            return index
        if not one.continues:
            return None
    return None
