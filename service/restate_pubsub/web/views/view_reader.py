"""A reader's steps in the dialect of a view."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

from restate_pubsub.fanout.steps import Began, Chunk, Reset

if TYPE_CHECKING:
    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.steps import Step
    from restate_pubsub.fanout.window import Start


class Cut(Exception):
    """The response must not end cleanly: the client would take it for the answer's end."""


class Dialect(Protocol):
    """What a view makes of a reader's steps."""

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""

    @property
    def quiet(self) -> float | None:
        """Seconds without news after which nothing follows; None: for ever."""

    @property
    def whole(self) -> bool:
        """Whether the response may end cleanly now."""

    def chunk(self, frames: bytes) -> bytes:
        """Return what the client gets of these messages."""

    def reset(self) -> bytes | None:
        """Return what the client gets where messages are gone; None: the response breaks off."""

    def end(self) -> bytes:
        """Return what the client gets at the topic's end."""


class ViewReader:
    """What a view's response streams."""

    def __init__(self, reader: Reader, dialect: Dialect) -> None:
        """Begin where the reader does."""
        self._reader = reader
        self._dialect = dialect

    @property
    def start(self) -> Start:
        """Where the reader begins."""
        return self._reader.start

    def stop(self) -> None:
        """End the stream after what is being written."""
        self._reader.stop()

    def close(self) -> None:
        """Leave the topic."""
        self._reader.close()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what to write.

        Raises:
            Cut: the stream ends, and the answer has not.

        """
        steps = self._reader.steps()
        coming: asyncio.Task[Step | None] | None = None
        try:
            while not self._dialect.ended:
                coming = coming or asyncio.ensure_future(anext(steps, None))
                await asyncio.wait({coming}, timeout=self._dialect.quiet)
                if coming.done():
                    step, coming = coming.result(), None
                    if piece := self._piece(step):
                        yield piece
                elif self._reader.behind <= 0:
                    return
        finally:
            if coming is None:
                await steps.aclose()
            else:
                coming.cancel()

    def _piece(self, step: Step | None) -> bytes:
        match step:
            case Chunk():
                return self._dialect.chunk(step.data)
            case Reset():
                piece = self._dialect.reset()
            case Began():
                piece = b""
            case None:  # it was stopped
                piece = self._dialect.end() if self._dialect.whole else None
            case _:
                piece = self._dialect.end()
        if piece is None:
            raise Cut
        return piece
