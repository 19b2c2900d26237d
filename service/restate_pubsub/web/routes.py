"""The HTTP side: streams, health, metrics. What is refused is a problem document; what is open stays open."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.access.admission import Admission
from restate_pubsub.access.client_address import client_of
from restate_pubsub.access.grants import Action
from restate_pubsub.access.tokens import Guard, check
from restate_pubsub.errors import InvalidRequest, NotEnabled, OffsetGone, PubsubError, StreamFailed, Unavailable
from restate_pubsub.fanout.hub import Hub, Reader, Start
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.web.middleware.public_port import is_public
from restate_pubsub.web.problems import problem_of
from restate_pubsub.web.publishing import Door, PartlyPublished
from restate_pubsub.web.requests import flag_of, start_of, topic_of
from restate_pubsub.web.stream_response import StreamResponse, come_back
from restate_pubsub.web.upload import Upload

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings
    from restate_pubsub.telemetry.metrics import Metrics
    from restate_pubsub.web.health import Health

log = structlog.stdlib.get_logger(__name__)

HEAD_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
PATIENCE = 0.25
"""Seconds that a reader which comes back waits for its status: 204 must be decided before the first byte."""
STRICT_PATIENCE = 10.0
"""`?strict=true` asks for a status, so it waits for one."""
AGE_SPREAD = 0.25
"""Streams that began together end spread over this part of their greatest age."""


class Routes:
    """The endpoints, around one hub."""

    def __init__(
        self,
        settings: Settings,
        *,
        hub: Hub,
        health: Health,
        metrics: Metrics,
        limits: Limits,
        door: Door | None,
        guard: Guard | None,
        admission: Admission,
    ) -> None:
        """Keep what the endpoints need; without a guard everybody may read and write."""
        self._settings = settings
        self._hub = hub
        self._health = health
        self._metrics = metrics
        self._limits = limits
        self._door = door
        self._guard = guard
        self._admission = admission
        self._hinted = False

    async def stream(self, request: Request) -> Response:
        """`GET {path}/{topic}`: follow a topic."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as place:
            try:
                topic, expires = await self._permitted(request, "subscribe")
                start = start_of(request)
                strict = flag_of(request, "strict")
                if self._health.draining:
                    if "text/event-stream" in request.headers.get("accept", ""):
                        return come_back(settings.retry)
                    msg = "This process is about to stop: connect again"
                    raise Unavailable(msg, public=msg)
                if request.method == "HEAD":
                    return Response(headers=HEAD_HEADERS)
                await place.enter_async_context(self._admission.stream(self._client(request), topic))
                reader = self._hub.open(topic, start)
            except PubsubError as error:
                return self.refuse(error)
            place.callback(reader.close)
            answer = await self._decided(reader, start, strict=strict)
            if answer is not None:
                return answer
            # From here on the response holds the place, and gives it back at its end.
            return StreamResponse(
                reader,
                retry=settings.retry,
                heartbeat=settings.heartbeat,
                send_timeout=settings.send_timeout,
                on_slow=self._metrics.slow_reader,
                lasts=_lasts(settings.stream_max_age, expires),
                ends=place.pop_all(),
            )

    async def _permitted(self, request: Request, action: Action) -> tuple[str, float | None]:
        """Return the topic and when the permission ends (seconds since the epoch; None: never).

        Raises:
            PubsubError: not a topic, or not for this caller.

        """
        grant = None if self._guard is None else await self._guard.verify(request)
        topic = topic_of(request, self._settings.sse_path, self._limits)
        if grant is None:
            return topic, None
        check(grant, action, topic)
        return topic, grant.expires

    def _client(self, request: Request) -> str:
        trusted = self._settings.trusted_proxies
        if not trusted and not self._hinted and "x-forwarded-for" in request.headers:
            self._hinted = True
            log.warning(
                "requests come through a proxy, and all of its clients count as one: "
                "set PUBSUB_TRUSTED_PROXIES to the number of proxies before this service"
            )
        return client_of(request.scope, trusted)

    async def _decided(self, reader: Reader, start: Start, *, strict: bool) -> Response | None:
        """Return an answer instead of a stream, where one is due."""
        if strict or start.resumes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.place(), STRICT_PATIENCE if strict else PATIENCE)
        if strict and not reader.placed:
            msg = "Restate did not say where the topic begins, and strict=true wants to know: try again"
            return self.refuse(Unavailable(msg, public=msg))
        if strict and reader.reset is not None:
            gone = OffsetGone(reader.reset.requested, reader.reset.head)
            if reader.reset.requested > reader.reset.tail:
                past = f"Offset {reader.reset.requested} is past the tail {reader.reset.tail}"
                gone.message = f"{past}: the topic's counter was lost"
            return self.refuse(gone, requested=reader.reset.requested, head=reader.reset.head, tail=reader.reset.tail)
        if start.resumes and reader.finished:
            return Response(status_code=204, headers={"cache-control": "no-store"})
        return None

    async def publish(self, request: Request) -> Response:
        """`POST {path}/{topic}`: publish (`PUT`, which `curl -T` sends, too); `DELETE`: delete the topic."""
        try:
            topic, expires = await self._permitted(request, "publish")
            if self._door is None:
                msg = "Publishing here is switched off: set PUBSUB_PUBLISH_ENABLED=true, or publish through Restate"
                raise NotEnabled(msg)
            with self._admission.publish(self._client(request)) as meter:
                if request.method == "DELETE":
                    return await self._door.delete(topic)
                settings = self._settings
                upload = Upload(
                    meter, max_bytes=settings.request_max_bytes, max_age=settings.request_max_age, expires=expires
                )
                return await self._door.publish(request, topic, upload)
        except (PartlyPublished, StreamFailed) as error:
            return self.refuse(error, nextOffset=error.next_offset, count=error.acknowledged)
        except PubsubError as error:
            return self.refuse(error)

    def refuse(self, error: PubsubError, **more: int | None) -> Response:
        """Count and answer an error."""
        self._metrics.refused(error.code)
        return problem_of(error, **more)

    async def live(self, _request: Request) -> Response:
        """`GET /health/live`: the event loop turns."""
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """`GET /health/ready`: 503 with the reason until Restate answers and has the object, and while draining.

        `?object=optional`: 503 only until Restate has answered once, and while draining. It is for what decides where
        new streams go, and must do so before the object is registered and while Restate is away: streams wait for
        both, but a browser whose connection is answered with a 503 does not come back.
        """
        wanted = request.query_params.get("object", "required")
        if wanted not in ("required", "optional"):
            return self.refuse(InvalidRequest(f"object {wanted[:80]!r} is neither required nor optional"))
        reason = self._health.not_ready if wanted == "required" else self._health.not_serving
        if reason is None:
            return JSONResponse({"status": "ready"})
        if is_public(request):  # the reason names addresses behind this one
            return JSONResponse({"status": "not ready"}, 503)
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`: Prometheus' text format."""
        body = generate_latest(self._metrics.registry)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})


def _lasts(max_age: float, expires: float | None) -> float | None:
    """Return how long a stream may last: until its token ends, and not past its greatest age (0: none)."""
    ends = [] if expires is None else [max(expires - time.time(), 0.0)]
    if max_age:
        ends.append(max_age * random.uniform(1.0 - AGE_SPREAD, 1.0))  # noqa: S311 - spreads load
    return min(ends, default=None)
