"""The HTTP side: streams, health, metrics. What is refused is a problem document; what is open stays open."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from restate_pubsub.errors import InvalidRequest, InvalidTopic, OffsetGone, PubsubError, Unavailable
from restate_pubsub.hub import Hub, Reader, Start
from restate_pubsub.problems import problem_of
from restate_pubsub.sse import StreamResponse
from restate_pubsub.wire import MAX_OFFSET, Limits, check_topic

if TYPE_CHECKING:
    from restate_pubsub.health import Health
    from restate_pubsub.metrics import Metrics
    from restate_pubsub.settings import Settings

PATIENCE = 0.25
"""Seconds that a reader which comes back waits for its status: 204 must be decided before the first byte."""
STRICT_PATIENCE = 10.0
"""`?strict=true` asks for a status, so it waits for one."""

_OFFSET = re.compile(r"-?[0-9]{1,16}")


class Routes:
    """The endpoints, around one hub."""

    def __init__(self, settings: Settings, hub: Hub, health: Health, metrics: Metrics, limits: Limits) -> None:
        """Keep what the endpoints need."""
        self._settings = settings
        self._hub = hub
        self._health = health
        self._metrics = metrics
        self._limits = limits

    async def stream(self, request: Request) -> Response:
        """`GET {path}/{topic}`: follow a topic."""
        try:
            topic = topic_of(request, self._settings.sse_path, self._limits)
            start = start_of(request)
            strict = _flag(request, "strict")
            if self._health.draining:
                msg = "This process is about to stop: connect again"
                raise Unavailable(msg)
            reader = self._hub.open(topic, start)
        except PubsubError as error:
            return self.refuse(error)
        try:
            answer = await self._decided(reader, start, strict=strict)
        except BaseException:
            reader.close()
            raise
        if answer is not None:
            reader.close()
            return answer
        settings = self._settings
        return StreamResponse(
            reader,
            retry=settings.retry,
            heartbeat=settings.heartbeat,
            send_timeout=settings.send_timeout,
            on_slow=self._metrics.slow_reader,
        )

    async def _decided(self, reader: Reader, start: Start, *, strict: bool) -> Response | None:
        """Return an answer instead of a stream, where one is due."""
        if strict or start.resumes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.place(), STRICT_PATIENCE if strict else PATIENCE)
        if strict and not reader.placed:
            msg = "Restate did not say where the topic begins, and strict=true wants to know: try again"
            return self.refuse(Unavailable(msg))
        if strict and reader.reset is not None:
            gone = OffsetGone(reader.reset.requested, reader.reset.head)
            if reader.reset.requested > reader.reset.tail:
                past = f"Offset {reader.reset.requested} is past the tail {reader.reset.tail}"
                gone.message = f"{past}: the topic's counter was lost"
            return self.refuse(gone, requested=reader.reset.requested, head=reader.reset.head, tail=reader.reset.tail)
        if start.resumes and reader.finished:
            return Response(status_code=204, headers={"cache-control": "no-store"})
        return None

    def refuse(self, error: PubsubError, **more: int) -> Response:
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
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`: Prometheus' text format."""
        body = generate_latest(self._metrics.registry)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})


def topic_of(request: Request, mount: str, limits: Limits) -> str:
    """Return the topic that the path names, `/` and all; percent-escapes are UTF-8.

    Raises:
        InvalidTopic: empty, too long, or not UTF-8.

    """
    # The server has decoded `path` leniently: broken UTF-8 would name another topic. The raw path tells.
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    raw = raw[len(request.scope.get("root_path", "")) :]
    try:
        topic = unquote_to_bytes(raw[len(mount) + 1 :]).decode()
    except UnicodeDecodeError:
        shown = raw[len(mount) + 1 :][:80].decode("ascii", "replace")
        msg = f"The topic {shown!r} is not UTF-8 once its percent-escapes are decoded"
        raise InvalidTopic(msg) from None
    check_topic(topic, limits)
    return topic


def start_of(request: Request) -> Start:
    """Return where the reader wants to begin: `Last-Event-ID` wins over `lastEventId`, and that over `offset`.

    Raises:
        InvalidRequest: not an offset, or one that no topic can have.

    """
    for name, value in (
        ("Last-Event-ID", request.headers.get("last-event-id")),
        ("lastEventId", request.query_params.get("lastEventId")),
    ):
        if value:
            offset = _number(name, value)
            if offset < 0:
                msg = f"{name} {value!r} is negative: send the id of the last event"
                raise InvalidRequest(msg)
            return Start("offset", offset, resumes=True)
    text = request.query_params.get("offset")
    if not text:
        return Start()
    if text == "latest":
        return Start("latest")
    offset = _number("offset", text)
    if offset < 0:
        return Start("last", -offset)
    return Start("offset", offset, resumes=offset > 0)


def _number(name: str, text: str) -> int:
    if _OFFSET.fullmatch(text) and abs(int(text)) <= MAX_OFFSET:
        return int(text)
    msg = f"{name} {text[:80]!r} is not an offset: use a number of at most {MAX_OFFSET}"
    if name == "offset":
        msg += ", `latest`, or -K for the last K messages"
    raise InvalidRequest(msg)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0", ""):
        msg = f"{name} {text[:80]!r} is neither true nor false"
        raise InvalidRequest(msg)
    return text in ("true", "1")
