"""Topics whose writes wait: found, counted and logged with what ends it, and told to who publishes over HTTP.

A topic runs one write at a time. A write that is paused, or fails again and again, holds its topic: every other write
and every reader's subscription waits behind it, without an error anywhere. All that this service's handlers do is
short, so one that holds its topic at two looks in a row is stuck.

Where the admin API is out of reach, what is left is this process's readers: a topic that they follow to its tail, and
on which nobody is subscribed at two looks in a row, does not run their `subscribe`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec
import structlog

from restate_pubsub.errors import PubsubError, Unavailable
from restate_pubsub.ingress import Ingress
from restate_pubsub.ingress.connection import ANSWER_SECONDS

if TYPE_CHECKING:
    import aiohttp

    from restate_pubsub.fanout.hub import TopicFigures
    from restate_pubsub.restate_admin import Holder, RestateAdmin

log = structlog.stdlib.get_logger(__name__)

LOOK_SECONDS = 5.0
SLOW_SECONDS = 5.0
"""A write that waits for longer is logged; most take milliseconds."""
MOST_LOGGED = 20
MOST_ASKED = 20
"""Topics that are asked for their subscribers at one look: those with the most readers here."""


class TopicBlocked(Unavailable):
    """The topic is held by another write."""

    code = "topic-blocked"


class Watcher(Protocol):
    """Who counts."""

    def blocked(self, topics: int, *, admin_reachable: bool) -> None:
        """So many topics are blocked now, as far as can be known: without the admin API, only those read here."""

    def slow_write(self) -> None:
        """A write over HTTP waits."""


class _Info(msgspec.Struct):
    tail: int
    subscribers: int
    closed: bool


class BlockedTopics:
    """Looks which invocations hold topics of one object."""

    def __init__(
        self,
        admin: RestateAdmin,
        ingress: Ingress,
        watcher: Watcher,
        busiest: Callable[[int], Sequence[TopicFigures]],
    ) -> None:
        """`busiest` returns the topics that are read here, those with the most readers first."""
        self._admin = admin
        self._ingress = ingress
        self._watcher = watcher
        self._busiest = busiest
        self._held: dict[str, str] = {}
        self._blocked: dict[str, Holder] = {}
        self._unheard: dict[str, int] = {}
        self._silent: set[str] = set()
        self._blind = False

    @property
    def now(self) -> list[Holder]:
        """What holds topics, as it was last seen."""
        return list(self._blocked.values())

    async def look(self) -> None:
        """Look once."""
        try:
            held = await self._admin.held(self._ingress.name)
            stuck = {topic: id_ for topic, id_ in held.items() if self._held.get(topic) == id_}
            holders = await self._admin.holders(stuck.values()) if stuck else []
        except Unavailable as error:
            if not self._blind:
                log.info("blocked topics cannot be seen from here: set RESTATE_ADMIN_URL", reason=str(error))
            self._blind, self._held, self._blocked = True, {}, {}
            await self._look_at_readers()
            return
        self._blind, self._held = False, held
        self._unheard, self._silent = {}, set()
        blocked = {holder.topic: holder for holder in holders if holder.status != "completed"}
        for holder in [holder for topic, holder in blocked.items() if topic not in self._blocked][:MOST_LOGGED]:
            log.warning("a topic is blocked", **self._about(holder))
        for topic in self._blocked.keys() - blocked.keys():
            log.info("a topic is blocked no more", topic=topic)
        self._blocked = blocked
        self._watcher.blocked(len(blocked), admin_reachable=True)

    async def _look_at_readers(self) -> None:
        followed = [figures for figures in self._busiest(MOST_ASKED) if figures.streams and not figures.closed]
        unheard = {figures.topic: figures.tail for figures in followed if await self._nobody_waits(figures)}
        silent = {topic for topic, tail in unheard.items() if self._unheard.get(topic) == tail}
        for topic in silent - self._silent:
            log.warning(
                "a topic may be blocked: its readers' subscription is not confirmed",
                topic=topic,
                find="ask Restate's admin API which invocation holds it: docs/runbook.md#restatepubsubtopicsblocked",
            )
        self._unheard, self._silent = unheard, silent
        self._watcher.blocked(len(silent), admin_reachable=False)

    async def _nobody_waits(self, figures: TopicFigures) -> bool:
        """Whether a topic that is read here up to its tail has no subscriber."""
        try:
            info = msgspec.json.decode(
                await self._ingress.call(figures.topic, "info", seconds=LOOK_SECONDS), type=_Info
            )
        except (PubsubError, msgspec.DecodeError):
            return False  # then more is wrong than one topic, and readiness says it
        return info.subscribers == 0 and info.tail == figures.tail and not info.closed

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def slow(self, topic: str, handler: str) -> Holder | None:
        """Log and count a write that waits; return what holds its topic, if that can be known."""
        self._watcher.slow_write()
        holder = await self._holder(topic)
        about = {} if holder is None else self._about(holder)
        log.warning("a write waits for Restate", **{"topic": topic, "waiting": handler, **about})
        return holder

    async def _holder(self, topic: str) -> Holder | None:
        try:
            held = await self._admin.held(self._ingress.name, topic)
            return next(iter(await self._admin.holders(held.values())), None) if held else None
        except Unavailable:
            return None

    def _about(self, holder: Holder) -> dict[str, str]:
        at = f"curl -X PATCH {self._admin.shown}/invocations/{holder.invocation}"
        about = {
            "topic": holder.topic,
            "invocation": holder.invocation,
            "handler": holder.handler,
            "status": holder.status,
            "resume": f"{at}/resume",
            "kill": f"{at}/kill",
        }
        return about | ({"failure": holder.failure[:300]} if holder.failure else {})


class WatchedIngress(Ingress):
    """The ingress for what is published over HTTP: a call that waits is noticed, and one that waits too long ends."""

    def __init__(
        self,
        url: str,
        name: str,
        token: str | None,
        *,
        blocked: BlockedTopics,
        longest: float,
        traced: aiohttp.TraceConfig | None = None,
    ) -> None:
        """`longest` is how many seconds one call may take."""
        super().__init__(url, name, token, traced=traced)
        self._blocked = blocked
        self._longest = longest

    async def call(
        self,
        topic: str,
        handler: str,
        body: bytes | None = None,
        *,
        idempotency_key: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> bytes:
        """Call as an `Ingress` does.

        Raises:
            TopicBlocked: no answer, and another write holds the topic.

        """
        seconds = min(seconds, self._longest)
        call = super().call(topic, handler, body, idempotency_key=idempotency_key, seconds=seconds)
        calling = asyncio.ensure_future(call)
        looking: asyncio.Task[Holder | None] | None = None
        try:
            if not (await asyncio.wait({calling}, timeout=min(SLOW_SECONDS, seconds / 2)))[0]:
                looking = asyncio.create_task(self._blocked.slow(topic, handler))
            return await calling
        except Unavailable as error:
            holder = None if looking is None else await looking
            if holder is None:
                raise
            msg = (
                f"Topic {topic!r} is held by another write ({holder.handler}, {holder.status}), invocation "
                f"{holder.invocation}: resume or kill that invocation; nothing came in {seconds:g} s"
            )
            held = f"held by a write that does not end (invocation {holder.invocation})"
            public = f"Topic {topic!r} is {held}: try again later"
            raise TopicBlocked(msg, public=public) from error
        finally:
            calling.cancel()
            if looking is not None:
                looking.cancel()
