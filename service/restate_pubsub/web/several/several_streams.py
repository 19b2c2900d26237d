"""`GET {path}?topic=a&topic=b…`: follow several topics on one stream."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from restate_pubsub.errors import Draining, InvalidRequest
from restate_pubsub.protocol.sse import heartbeat_event
from restate_pubsub.web.requests import choice_of, flag_of
from restate_pubsub.web.several.requested import starts_of
from restate_pubsub.web.several.several_reader import SeveralReader
from restate_pubsub.web.stream_response import HEADERS, MEDIA_TYPE, StreamResponse, come_back
from restate_pubsub.web.streams import FORWARDED, STRICT_PATIENCE, check_there, cut_off, lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from restate_pubsub.access.admission import Admission
    from restate_pubsub.fanout.hub import Hub
    from restate_pubsub.fanout.reader import Reader
    from restate_pubsub.fanout.window import Start
    from restate_pubsub.settings.fields import Settings
    from restate_pubsub.telemetry.metrics import Metrics
    from restate_pubsub.web.beats import Beats
    from restate_pubsub.web.callers import Callers
    from restate_pubsub.web.health import Health

PATIENCE = 1.0
"""Seconds that a reader waits for what must be known before the first byte: so long may take what one topic of a
hundred that is blocked, or Restate at its slowest, holds up."""


class SeveralStreams:
    """The endpoint, around one hub. A stream counts as one, of its client's and of each topic's."""

    def __init__(
        self,
        settings: Settings,
        *,
        hub: Hub,
        health: Health,
        metrics: Metrics,
        callers: Callers,
        admission: Admission,
        beats: Beats,
    ) -> None:
        """Keep what a stream needs."""
        self._settings = settings
        self._hub = hub
        self._health = health
        self._metrics = metrics
        self._callers = callers
        self._admission = admission
        self._beats = beats

    async def endpoint(self, request: Request) -> Response | StreamResponse:
        """Answer `GET` and `HEAD`.

        Raises:
            PubsubError: refused.

        """
        settings = self._settings
        with contextlib.ExitStack() as undo:
            topics, expires = await self._callers.permitted_several(request, "subscribe")
            starts = starts_of(request, len(topics))
            strict = flag_of(request, "strict")
            join = flag_of(request, "join", default=True)
            if request.query_params.get("view"):
                msg = "A view is for one topic: use GET {path}/{topic}?view=…"
                raise InvalidRequest(msg)
            visible_heartbeats = choice_of(request, "heartbeat", ("comment", "event")) == "event"
            if self._health.draining:
                if "text/event-stream" in request.headers.get("accept", ""):
                    return come_back(settings.retry)
                raise Draining
            if request.method == "HEAD":
                return Response(
                    headers={**HEADERS, FORWARDED: self._callers.forwarding(request)}, media_type=MEDIA_TYPE
                )
            client = self._callers.client(request)
            place = await self._admission.enter(client, *topics)
            undo.callback(place.leave)
            if new := sum(not self._hub.follows(topic) for topic in topics):
                await self._admission.new_topics(client, lambda: self._hub.topics, new)
            self._metrics.stream_opened()
            beat = heartbeat_event(settings.heartbeat) if visible_heartbeats else b""
            reader = SeveralReader(
                topics, starts, partial(self._open, join), beat=beat, on_close=self._metrics.stream_closed
            )
            undo.callback(reader.close)
            if await _finished(reader, topics, starts, strict=strict):
                return Response(status_code=204, headers={"cache-control": "no-store"})
            response = StreamResponse(
                reader,
                retry=settings.retry,
                heartbeat=settings.heartbeat,
                visible_heartbeats=visible_heartbeats,
                send_timeout=settings.send_timeout,
                on_slow=partial(cut_off, self._metrics, client, settings.send_timeout),
                lasts=lasting(settings.stream_max_age, expires),
                beats=self._beats,
                on_end=place.leave,
            )
            undo.pop_all()  # from here on the response holds the place, and gives it back at its end
            return response

    def _open(self, join: bool, topic: str, start: Start, part_of: SeveralReader) -> Reader:  # noqa: FBT001
        return self._hub.open(topic, start, join=join, part_of=part_of)


async def _finished(reader: SeveralReader, topics: Sequence[str], starts: Sequence[Start], *, strict: bool) -> bool:
    """Return whether there is nothing to stream, now and for ever.

    Raises:
        PubsubError: the reader is strict, and what it asks for is gone or not known.

    """
    placed = any(start.kind != "offset" for start in starts)
    if strict or placed or all(start.resumes for start in starts):
        await reader.resolve(STRICT_PATIENCE if strict else PATIENCE, all_=strict or placed)
    if strict:
        for topic, one in zip(topics, reader.readers, strict=True):
            check_there(one, f"{topic!r}: ")
    return reader.finished
