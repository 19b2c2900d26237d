"""`GET {path}/{topic}`: follow a topic. What is refused is told at once; a stream that is open stays open."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import Response

from restate_pubsub.access.admission import Admission
from restate_pubsub.errors import Draining, OffsetGone, Unavailable
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.reader import Reader
from restate_pubsub.fanout.window import Start
from restate_pubsub.web.beats import Beats
from restate_pubsub.web.callers import Callers
from restate_pubsub.web.errors import WithMembers
from restate_pubsub.web.requests import choice_of, flag_of, start_of
from restate_pubsub.web.sse_reader import SseReader
from restate_pubsub.web.stream_response import HEADERS, MEDIA_TYPE, StreamResponse, come_back
from restate_pubsub.web.views.requested import view_of
from restate_pubsub.web.views.view_reader import ViewReader
from restate_pubsub.web.views.view_response import ViewResponse

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings
    from restate_pubsub.telemetry.metrics import Metrics
    from restate_pubsub.web.health import Health

log = structlog.stdlib.get_logger(__name__)

FORWARDED = "pubsub-forwarded"
"""What HEAD says of X-Forwarded-For, so that `restate-pubsub doctor` can tell what PUBSUB_TRUSTED_PROXIES should be."""
PATIENCE = 0.25
"""Seconds that a reader waits for what must be known before the first byte.

One that comes back may get a 204. One that asks for `latest` is told where that is together with the opening: whoever
sees that the stream is open may count on what is published from then on.
"""
END_PATIENCE = 2.0
"""As `PATIENCE`, where this process knows that the topic has ended: there is nothing that could be shown late."""
STRICT_PATIENCE = 10.0
"""`?strict=true` asks for a status, so it waits for one."""
AGE_SPREAD = 0.25
"""Streams that began together end spread over this part of their greatest age."""


class Streams:
    """The endpoint, around one hub."""

    def __init__(
        self,
        settings: Settings,
        *,
        hub: Hub,
        health: Health,
        metrics: Metrics,
        callers: Callers,
        admission: Admission,
    ) -> None:
        """Keep what a stream needs."""
        self._settings = settings
        self._hub = hub
        self._health = health
        self._metrics = metrics
        self._callers = callers
        self._admission = admission
        self.beats = Beats(settings.heartbeat)
        """The heartbeats of all streams, those of several topics too."""

    async def endpoint(self, request: Request) -> Response | StreamResponse:
        """Answer `GET` and `HEAD`.

        Raises:
            PubsubError: refused.

        """
        settings = self._settings
        with contextlib.ExitStack() as undo:
            topic, expires = await self._callers.permitted(request, "subscribe")
            start = start_of(request)
            strict = flag_of(request, "strict")
            join = flag_of(request, "join", default=True)
            view = view_of(request)
            visible_heartbeats = choice_of(request, "heartbeat", ("comment", "event")) == "event"
            if self._health.draining:
                if view is None and "text/event-stream" in request.headers.get("accept", ""):
                    return come_back(settings.retry)
                raise Draining
            if request.method == "HEAD":
                headers = {**(view.headers if view else HEADERS), FORWARDED: self._callers.forwarding(request)}
                return Response(headers=headers, media_type=MEDIA_TYPE)
            client = self._callers.client(request)
            place = await self._admission.enter(client, topic)
            undo.callback(place.leave)
            if not self._hub.follows(topic):
                await self._admission.new_topics(client, lambda: self._hub.topics)
            opened = None if view is None else view.begin(await self._hub.position(topic))
            if view is not None and opened is None:
                return Response(status_code=204, headers={"cache-control": "no-store"})
            start = start if opened is None else opened.start
            reader = self._hub.open(topic, start, join=join and (opened is None or opened.may_join))
            undo.callback(reader.close)
            if await _finished(reader, start, strict=strict) and opened is None:
                return Response(status_code=204, headers={"cache-control": "no-store"})
            respond = partial(
                StreamResponse if opened is None else ViewResponse,
                retry=settings.retry,
                heartbeat=settings.heartbeat,
                send_timeout=settings.send_timeout,
                on_slow=partial(cut_off, self._metrics, client, settings.send_timeout),
                lasts=lasting(settings.stream_max_age, expires),
                on_end=place.leave,
            )
            if opened is not None:
                response = respond(ViewReader(reader, opened.dialect), headers=opened.headers)
            else:
                response = respond(SseReader(reader), visible_heartbeats=visible_heartbeats, beats=self.beats)
            undo.pop_all()  # from here on the response holds the place, and gives it back at its end
            return response


def cut_off(metrics: Metrics, client: str, seconds: float) -> None:
    """Note that a client took nothing for so many seconds."""
    log.info("a reader took nothing and was cut off", client=client, seconds=seconds)
    metrics.slow_reader()


async def _finished(reader: Reader, start: Start, *, strict: bool) -> bool:
    """Return whether there is nothing to stream, now and for ever.

    Raises:
        PubsubError: the reader is strict, and what it asks for is gone or not known.

    """
    if (strict or start.resumes or start.kind != "offset") and not reader.begin():
        ended = start.resumes and reader.feed.window.closed
        patience = STRICT_PATIENCE if strict else END_PATIENCE if ended else PATIENCE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.resolve_start(), patience)
    if strict:
        check_there(reader)
    return start.resumes and reader.finished


def check_there(reader: Reader | None, of: str = "") -> None:
    """Refuse a strict reader; `of` says of which topic, where the request names several.

    Raises:
        PubsubError: what it asks for is gone or not known.

    """
    if reader is None or not reader.resolved:
        msg = f"{of}Restate did not say where the topic begins, and strict=true wants to know: try again"
        raise Unavailable(msg, public=msg)
    if reader.reset is not None:
        gone = OffsetGone(reader.reset.requested, reader.reset.head)
        if reader.reset.requested > reader.reset.tail:
            past = f"Offset {reader.reset.requested} is past the tail {reader.reset.tail}"
            gone.message = f"{past}: the topic's counter was lost"
        gone.message = of + gone.message
        raise WithMembers(gone, requested=reader.reset.requested, head=reader.reset.head, tail=reader.reset.tail)


def lasting(max_age: float, expires: float | None) -> float | None:
    """Return how long a stream may last: until its token ends, and not past its greatest age (0: none)."""
    ends = [] if expires is None else [max(expires - time.time(), 0.0)]
    if max_age:
        ends.append(max_age * random.uniform(1.0 - AGE_SPREAD, 1.0))  # noqa: S311 - spreads load
    return min(ends, default=None)
