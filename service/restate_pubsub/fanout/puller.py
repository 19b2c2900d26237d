"""Brings one topic's news: asks where the topic is, then pulls from its tail, again and again, until its end.

The question is the first pull itself, an *opening*: whoever runs it tells where the topic is. Where it runs in this
very process, it goes on to wait from there, and no further call is needed.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.backoff import Backoff, PollPace
from restate_pubsub.errors import OffsetGone, PubsubError, PullTimeout, Unavailable
from restate_pubsub.fanout.openings import Opening, Openings
from restate_pubsub.fanout.window import HeadMoved, Learnt, Located, News, Window

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import Observer
    from restate_pubsub.fanout.source import Source
    from restate_pubsub.protocol.messages import Batch, Place

log = structlog.stdlib.get_logger(__name__)

BACKOFF_FIRST, BACKOFF_LONGEST = 0.1, 5.0
HOT_SECONDS = 0.06
"""Pulls answered faster than this one after the other mean that the topic is hot somewhere else …"""
HOT_PAUSE = 0.025
"""… and waiting this long lets the next one find messages, which costs Restate no subscription."""
HOT_RUN = 32
"""After so many waits one pull goes at once. Where the topic is hot because it is written here, that one soon finds
nothing and stays, and the writes hand their messages over again; elsewhere it costs a subscription a second."""
EXPECT_SECONDS = 2.0
"""A pull that has not brought what a write here has done after this may wait on a node that is gone."""
PEACE_SECONDS = 1.0
"""A pull that has waited for so long has not failed."""


class Phase(enum.Enum):
    """What a puller does at the moment."""

    LOCATING = "asks where the topic is"
    PULLING = "waits for what follows the tail"
    RESTING = "waits before it asks again"
    ENDED = "the topic's end is reached"


class Heat:
    """Tells a topic whose pulls are answered one right after the other."""

    def __init__(self) -> None:
        """Start cold."""
        self._answered = float("-inf")
        self._run = 0

    def pause(self, now: float, *, handed: bool) -> float:
        """Return the seconds to wait after an answer that came `now`; none where whoever writes can hand it over."""
        self._run = self._run + 1 if now - self._answered < HOT_SECONDS else 0
        pause = HOT_PAUSE if self._run % HOT_RUN and not handed else 0.0
        self._answered = now + pause
        return pause


class Puller:
    """The task that keeps one window up to date."""

    def __init__(
        self,
        topic: str,
        source: Source,
        window: Window,
        *,
        locate: Callable[[], Awaitable[object]],
        learn: Callable[[News], Learnt],
        wait: float,
        openings: Openings,
        observer: Observer,
        handed: Callable[[], bool],
    ) -> None:
        """Prepare; `start` begins. A pull waits up to `wait` seconds; what comes is given to `learn`.

        `handed`: whether there are replicas that hand over what they write, to whoever waits.
        """
        self.phase = Phase.LOCATING
        self._topic = topic
        self._source = source
        self._window = window
        self._locate = locate
        self._learn = learn
        self._wait = wait
        self._openings = openings
        self._observer = observer
        self._handed = handed
        self._task: asyncio.Task[None] | None = None
        self._pull: asyncio.Task[Batch] | None = None
        self._heat = Heat()
        self._pace = PollPace()
        self._failures = Failures(topic)
        self._opening: Opening | None = None
        self._expected = 0
        self._watch: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        self.phase = Phase.LOCATING
        self._task = asyncio.create_task(self._run(), name=f"feed {self._topic}")

    def go_on(self) -> None:
        """Begin again where the end of the topic was reached, and is its end no more: it was deleted, or written to."""
        if self.phase is Phase.ENDED and not self._window.closed:
            self.start()

    async def stop(self) -> None:
        """End it; afterwards, `phase` is what it did last."""
        if self._watch is not None:
            self._watch.cancel()
        tasks = [task for task in (self._task, self._pull) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def opened(self, word: str, place: Place) -> bool:
        """Take the position that an opening has read; return whether its pull is to wait from the tail.

        A feed that does not get to that tail by this has to pull from where it is.
        """
        opening = self._opening
        if opening is None or opening.word != word:
            return False  # it was given up
        opening.end()
        self._learn(Located(place.head, place.tail, closed=False, asked_at=opening.asked_at, whole=place.whole))
        self.phase = Phase.PULLING
        return self._window.tail >= place.tail

    def pull_now(self) -> None:
        """Ask now, instead of waiting for the long poll."""
        if self.phase is Phase.PULLING and self._pull is not None:
            self._pull.cancel()

    def expect_tail(self, tail: int) -> None:
        """Get to `tail` soon: whatever else should bring the news, ask if it has not in a while."""
        self._expected = max(self._expected, tail)
        if self._watch is None and self._window.located and self._window.tail < tail:
            self._watch = asyncio.get_running_loop().call_later(EXPECT_SECONDS, self._look)

    def _look(self) -> None:
        expected, self._expected, self._watch = self._expected, 0, None
        if self._window.tail < expected:
            self._observer.delivery_uncertain()
            self.pull_now()

    # --- the task ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        phase = Phase.LOCATING
        while phase is not Phase.ENDED:
            self.phase = phase
            try:
                phase = await (self._open() if phase is Phase.LOCATING else self._take_news())
            except PubsubError as error:
                self._observer.pulled("unavailable" if isinstance(error, Unavailable) else "error")
                phase = await self._failed(error)
            except Exception as error:  # noqa: BLE001 - readers wait on this task: it must not end without a word
                self._observer.pulled("error")
                phase = await self._failed(error)
            if phase is Phase.PULLING and self._window.closed:
                phase = Phase.ENDED  # a reader that comes later asks for the position again
        self.phase = phase

    async def _failed(self, error: Exception) -> Phase:
        await self._rest(self._failures.more(error))
        return Phase.LOCATING

    async def _rest(self, seconds: float) -> None:
        if seconds:
            self.phase = Phase.RESTING
            await asyncio.sleep(seconds)

    async def _open(self) -> Phase:
        """Ask where the topic is, and pull from there if that is this process's; return what to do then."""
        opening = self._opening = await self._openings.begin(lambda: self._window.tail, self._give_up_opening)
        wait = self._some_time()
        try:
            phase = await self._answered(self._source.open(self._topic, opening.word, wait=wait), wait)
            asks = self._opening is None or not opening.answered
        finally:
            opening.end(answered=False)
            self._opening = None
        if asks and phase is Phase.PULLING:
            await self._locate()
        return phase

    def _give_up_opening(self) -> None:
        self._opening = None
        if self._pull is not None:
            self._pull.cancel()

    async def _take_news(self) -> Phase:
        """Pull once from the tail, and return what to do then."""
        wait = self._some_time()
        return await self._answered(self._source.pull(self._topic, self._window.tail, wait=wait), wait)

    def _some_time(self) -> float:
        return self._wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    async def _answered(self, question: Coroutine[None, None, Batch], wait: float) -> Phase:
        """Wait for the answer to a pull of so many seconds, learn it, and return what to do then."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        pull = self._pull = asyncio.create_task(question)
        peace = loop.call_later(PEACE_SECONDS, self._failures.none)
        try:
            await asyncio.wait({pull})
        finally:
            peace.cancel()
            self._pull = None
            pull.cancel()
        if pull.cancelled():
            return Phase.PULLING  # somebody wants another one at once
        phase, outcome, moved, pause = Phase.PULLING, "messages", False, 0.0
        try:
            batch = pull.result()
        except PullTimeout:
            outcome = "timeout"
            phase = Phase.LOCATING  # the one moment to notice that the counter was lost while nobody wrote
        except OffsetGone as gone:
            outcome = "gone"
            moved = self._learn(HeadMoved(gone.head)).changed
        else:
            if self._located_by(batch):
                return phase
            moved = self._learn(batch).changed or bool(batch.messages)
            pause = self._heat.pause(loop.time(), handed=self._handed())
        self._failures.none()
        self._observer.pulled(outcome)
        await self._rest(max(pause, self._pace.after(loop.time() - began, wait, moved=moved)))
        return phase

    def _located_by(self, batch: Batch) -> bool:
        """Learn where the topic is from the answer to an opening, if only that says it; return whether it does."""
        opening = self._opening
        if opening is None or opening.answered or batch.head is None:
            return False
        opening.end()
        closed = batch.closed and not batch.messages
        self._learn(Located(batch.head, batch.offset, closed, opening.asked_at, batch.whole))
        self._learn(batch)  # the version before waits for news, and brings them
        return True


class Failures:
    """Counts failures one after the other: the first and the recovery are logged, and each pause is longer."""

    def __init__(self, topic: str) -> None:
        """Start without failures."""
        self.count = 0
        self._topic = topic
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_LONGEST)

    def more(self, error: Exception) -> float:
        """Note one, and return the seconds to wait."""
        if not isinstance(error, PubsubError):
            log.error("feed failed; it keeps trying", topic=self._topic, exc_info=error)
        elif self.count == 0:
            log.warning("feed cannot pull; it keeps trying", topic=self._topic, error=str(error), code=error.code)
        self.count += 1
        return self._backoff.next()

    def none(self) -> None:
        """Note that a pull was answered, or waits in peace."""
        if self.count:
            log.info("feed recovered", topic=self._topic, failures=self.count)
        self.count = 0
        self._backoff.reset()
