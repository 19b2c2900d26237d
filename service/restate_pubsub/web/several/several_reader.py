"""The readers of several topics as one: what any of them has is said in the order in which it comes.

Each topic has a reader on its feed, as for a stream of its own. Those that have something stand in a line, and give one
chunk each in turn, so a topic that has much holds up none. What has to be waited for (where a topic begins, messages
that are older than those in memory) is a task of its topic alone, a few at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from restate_pubsub.fanout.steps import Began, End
from restate_pubsub.fanout.window import Missing, Start
from restate_pubsub.web.several.frames import frames_of, id_of
from restate_pubsub.web.several.turns import Turn, Turns

if TYPE_CHECKING:
    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.steps import Step

log = structlog.stdlib.get_logger(__name__)

AT_ONCE = 8
"""Topics of one stream that Restate is asked about at the same time, be it where they are or for older messages."""
TURN_SECONDS = 1.0
"""A topic that Restate does not answer for holds up the next ones for so long."""
PIECE_BYTES = 128 * 1024
"""What is collected for one write ends here: so much is one chunk of one topic, too."""


class Open(Protocol):
    """Opens the reader of one topic, as a part of the stream that it is handed."""

    def __call__(self, topic: str, start: Start, part_of: SeveralReader) -> Reader:
        """Open it."""


class _Part:
    """One topic of the stream."""

    __slots__ = ("busy", "index", "name", "pending", "reader", "start", "topic", "turn")

    def __init__(self, index: int, topic: str, start: Start) -> None:
        self.index = index
        self.topic = topic
        self.name = json.dumps(topic).encode()
        self.start = start
        self.reader: Reader | None = None
        self.busy = True  # its task waits for something; nobody else asks its reader
        self.pending: Step | None = None  # what its task has got
        self.turn: Turn | None = None

    def end_turn(self) -> None:
        if self.turn is not None:
            self.turn.give_back()
            self.turn = None


class SeveralReader:
    """What a response streams, as `SseReader` is for one topic. Close it, or its readers are counted for ever."""

    def __init__(
        self,
        topics: Sequence[str],
        starts: Sequence[Start],
        open_: Open,
        *,
        beat: bytes = b"",
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the first topic at once, and the others a few at a time.

        `beat` is a visible heartbeat, if the stream has those: it carries a place that no message does.
        """
        self.start = Start()
        """Its pieces say where they begin: nothing stands before the first one."""
        self.stopped = False
        """Whether it was told to end."""
        self.ended = False
        """Whether `piece` has returned the last one."""
        self._parts = [_Part(*one) for one in zip(range(len(topics)), topics, starts, strict=True)]
        self._places = [b"%d" % start.value if start.kind == "offset" else b"" for start in starts]
        self._open = open_
        self._beat = beat
        self._on_close = on_close
        self._closed = False
        self._left = len(self._parts)
        self._ready: dict[_Part, None] = {}
        self._turns = Turns(AT_ONCE, TURN_SECONDS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None
        self._news = asyncio.Event()
        self._opened = asyncio.Event()
        self._on_wake: Callable[[], None] | None = None
        self._waking = False
        # A process that stops tells its readers: from now on, this stream has one.
        self._parts[0].reader = open_(self._parts[0].topic, self._parts[0].start, self)
        for part in self._parts:
            self._run(part, self._begin(part))

    # --- before it is known that there is a stream -----------------------------------------------------------------

    @property
    def readers(self) -> list[Reader | None]:
        """The readers of the topics, in the URL's order; None for those that are not open yet."""
        return [part.reader for part in self._parts]

    @property
    def finished(self) -> bool:
        """Whether it has everything of topics that are all closed, and had it when it came."""
        return all(part.start.resumes and part.reader is not None and part.reader.finished for part in self._parts)

    async def resolve(self, seconds: float, *, all_: bool) -> None:
        """Wait until it is known where all begin, or not `all_`: or that one of them has something to say."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._resolved(all_=all_):
                    self._opened.clear()
                    await self._opened.wait()

    def _resolved(self, *, all_: bool) -> bool:
        resolved = [reader for reader in self.readers if reader is not None and reader.resolved]
        return len(resolved) == len(self._parts) or (not all_ and not all(reader.finished for reader in resolved))

    # --- what it says ----------------------------------------------------------------------------------------------

    def begin(self, on_wake: Callable[[], None]) -> bool:
        """Call `on_wake` from now on when there may be something; a topic that has to be waited for holds up none."""
        self._on_wake = on_wake
        return True

    def piece(self) -> bytes | Missing:
        """Return what to write next, if it is there; what was returned before counts as written."""
        if self._failed is not None:
            raise self._failed
        said: list[bytes] = []
        size, placed = 0, True
        while self._ready and size < PIECE_BYTES:
            part = next(iter(self._ready))
            del self._ready[part]
            step = self._step(part)
            if step is None:
                continue
            if isinstance(step, Began):
                self._places[part.index] = b"%d" % step.offset
                placed = False
            else:
                said.append(frames_of(step, part.name, self._places, part.index))
                size += len(said[-1])
                placed = True  # by the ids of these frames
            if isinstance(step, End):
                self._leave(part)
            else:
                self._ready[part] = None
        if not placed:
            said.append(id_of(self._places) + (self._beat or b"\n"))
        self.ended = not self._left
        return b"".join(said) if said else Missing.NEWER

    async def chunks(self, *, live: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield what to write, until all topics have ended or `stop`; not `live`: only until nothing more is there."""
        while not self.stopped and not self.ended:
            self._news.clear()
            piece = self.piece()
            if not isinstance(piece, Missing):
                yield piece
            elif live:
                await self._news.wait()
            else:
                return

    def stop(self) -> None:
        """End the stream after what is being written."""
        self.stopped = True
        self._wake()

    def close(self) -> None:
        """Leave all topics."""
        if self._closed:
            return
        self._closed = self.stopped = True
        self._on_wake = None
        for task in self._tasks:
            task.cancel()
        for part in self._parts:
            part.end_turn()
            if part.reader is not None:
                part.reader.close()
        self._on_close()

    # --- one topic -------------------------------------------------------------------------------------------------

    def _step(self, part: _Part) -> Step | None:
        """Return what the topic has to say next; nothing if that is not there, or is being waited for."""
        if part.pending is not None:
            step, part.pending = part.pending, None
            part.end_turn()
            return step
        if part.reader is None or part.busy:
            return None
        found = part.reader.step()
        if found is Missing.OLDER:
            part.busy = True
            self._run(part, self._read_again(part, part.reader))
        return None if isinstance(found, Missing) else found

    def _leave(self, part: _Part) -> None:
        self._left -= 1
        part.busy = True  # nothing follows
        if part.reader is not None:
            part.reader.close()

    async def _begin(self, part: _Part) -> None:
        part.turn = await self._turns.take()
        reader = part.reader = part.reader or self._open(part.topic, part.start, self)
        await reader.resolve_start()
        part.end_turn()
        reader.on_wake = partial(self._woken, part)
        self._waited(part)
        self._opened.set()

    async def _read_again(self, part: _Part, reader: Reader) -> None:
        part.turn = await self._turns.take()
        async with contextlib.aclosing(reader.steps(live=False)) as steps:
            part.pending = await anext(steps, None)
        if part.pending is None:
            part.end_turn()
        else:
            part.turn.keep()  # until the client takes it: one that is slow holds a few chunks, and not one a topic
        self._waited(part)

    def _waited(self, part: _Part) -> None:
        part.busy = False
        self._woken(part)

    def _run(self, part: _Part, waiting: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(waiting, name=f"a topic of several: {part.topic}")
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a stream of several topics failed", task=task.get_name(), exc_info=error)
            self._failed = error
            self._wake()

    # --- waking ----------------------------------------------------------------------------------------------------

    def _woken(self, part: _Part) -> None:
        if not part.busy:
            self._ready[part] = None
            self._wake()

    def _wake(self) -> None:
        """Have all that is there written in the loop's next turn: one write, however many topics have news."""
        if not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._waking = False
        self._news.set()
        if self._on_wake is not None:
            self._on_wake()
