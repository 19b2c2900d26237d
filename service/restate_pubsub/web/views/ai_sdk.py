"""The Vercel AI SDK's UI message stream: one answer, from its `start` chunk to `[DONE]`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from restate_pubsub.protocol.answers import LAST, is_chunk, telling_type
from restate_pubsub.protocol.names import RESTART_EVENT, STOP_EVENT
from restate_pubsub.protocol.sse import Block, blocks_of

HEADERS = {"x-vercel-ai-ui-message-stream": "v1", "cache-control": "no-cache, no-transform"}
TAIL_INDEX = "x-workflow-stream-tail-index"
"""Which chunk of the view was the last when the stream was opened; `WorkflowChatTransport` counts from there."""
DONE = b"data: [DONE]\n\n"


class AiSdk:
    """The chunks of one answer as bytes. Ask for nothing more once it has `ended`."""

    quiet = None
    """It ends with its last chunk, and not after a while."""

    def __init__(self, skip: int = 0, *, headless: bool = False, waits: bool = False) -> None:
        """Leave out `skip` chunks. `headless`: the answer's first chunks are gone, and what hangs on them.

        `waits`: leave out what comes before a `start`.
        """
        self.ended = False
        self._skip = skip
        self._waits = waits
        self._parts = _Parts() if headless else None

    @property
    def whole(self) -> bool:
        """Whether the response may end cleanly now: to the client that is the end of the answer."""
        return self.ended

    def chunk(self, frames: bytes) -> bytes:
        """Return what the client gets of these messages."""
        out: list[bytes] = []
        for block in blocks_of(frames):
            wire = self._one(block)
            if wire and self._skip:
                self._skip -= 1
            elif wire:
                out.append(wire)
            if self.ended:
                out.append(DONE)
                break
        return b"".join(out)

    def reset(self) -> bytes | None:
        """Return what the client gets where messages are gone; None if it must not take that for the answer."""
        return None

    def end(self) -> bytes:
        """Return what the client gets at the topic's end."""
        self.ended = True
        return DONE

    def _one(self, block: Block) -> bytes:
        if self._waits:
            if block.event or not is_chunk(block.data) or telling_type(block.data) != "start":
                return b""
            self._waits = False
        if block.event == RESTART_EVENT.encode():
            return _chunk(block, b'{"type":"reset-step"}')
        if block.event == STOP_EVENT.encode():
            self.ended = True
            return _chunk(block, b'{"type":"abort"}')
        if block.event or not is_chunk(block.data):
            return b""
        self.ended = telling_type(block.data) in LAST
        return block.wire if self._parts is None else b"".join(self._parts.take(block))


def _chunk(block: Block, data: bytes) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (block.place, data)


class _Named(msgspec.Struct, rename="camel"):
    type: str
    id: str = ""
    tool_call_id: str = ""


class _Parts:
    """The parts of an answer whose first chunks are gone: at a chunk of an unknown part, the client fails."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._begun = False

    def take(self, block: Block) -> Iterator[bytes]:
        """Yield the chunk, if its part is known, and before the first a `start` in place of the one that is gone."""
        try:
            chunk = msgspec.json.decode(block.data, type=_Named)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if not self._begun:
            self._begun = True
            if chunk.type != "start":
                yield b'data: {"type":"start"}\n\n'
        of_text = chunk.type.startswith(("text-", "reasoning-"))
        part = chunk.tool_call_id or (chunk.id if of_text else "")
        if chunk.type in ("text-start", "reasoning-start", "tool-input-start", "tool-input-available"):
            self._known.add(part)
        if not part or part in self._known:
            yield block.wire
