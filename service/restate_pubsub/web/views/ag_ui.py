"""The event stream of AG-UI and TanStack AI: a topic's runs, one after the other."""

from __future__ import annotations

import msgspec

from restate_pubsub.protocol.answers import LAST, is_chunk, telling_type
from restate_pubsub.protocol.names import RESTART_EVENT, STOP_EVENT
from restate_pubsub.protocol.sse import Block, blocks_of

QUIET = 1.0
"""Seconds without an event after a run that end the response: agent loops finish several runs, close together."""
STOPPED = b'{"type":"RUN_ERROR","message":"The run was stopped","code":"stopped"}'

CLOSED = b'{"type":"RUN_ERROR","message":"The topic ended before its run did","code":"ended"}'
"""Without it, a client that sees the response end takes half a run for all of it."""


class AgUi:
    """The events of a topic's runs as bytes."""

    def __init__(self, *, headless: bool, idle: bool) -> None:
        """Send nothing before a `RUN_STARTED` where `headless`; `idle`: all runs have finished already."""
        self.ended = False
        self._waits_for_run = headless
        self._idle = idle

    @property
    def quiet(self) -> float | None:
        """Seconds without news after which the response ends; None while a run is alive, or none was there yet."""
        return QUIET if self._idle else None

    @property
    def whole(self) -> bool:
        """Whether the response may end cleanly now: to the client that is the end of the run."""
        return self.ended or self._idle

    def chunk(self, frames: bytes) -> bytes:
        """Return what the client gets of these messages."""
        return b"".join(map(self._one, blocks_of(frames)))

    def reset(self) -> bytes | None:
        """Return what the client gets where messages are gone; None if it must not take that for the run."""
        return b"" if self._waits_for_run else None

    def end(self) -> bytes:
        """Return what the client gets at the topic's end."""
        self.ended = True
        return b"" if self._waits_for_run or self._idle else b"data: %b\n\n" % CLOSED

    def _one(self, block: Block) -> bytes:
        if block.event:
            return b"" if self._waits_for_run or self._idle else self._named(block)
        if not is_chunk(block.data):
            return b""
        kind = telling_type(block.data)
        if kind == "RUN_STARTED":
            self._waits_for_run = self._idle = False
        elif self._waits_for_run or self._idle:
            return b""  # what comes between two runs is an error to the client, such as the end of one that was stopped
        elif kind in LAST:
            self._idle = True
        return block.wire

    def _named(self, block: Block) -> bytes:
        if block.event == RESTART_EVENT.encode():
            value = msgspec.Raw(block.data)
            return _event(block, msgspec.json.encode({"type": "CUSTOM", "name": RESTART_EVENT, "value": value}))
        if block.event == STOP_EVENT.encode():
            self._idle = True
            return _event(block, STOPPED)
        return b""


def _event(block: Block, data: bytes) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (block.place, data)
