"""The composition root: settings in, one ASGI application out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import restate
import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from restate_pubsub.access.admission import Admission, Quota
from restate_pubsub.access.crowds import Crowds
from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.refusal_log import RefusalLog
from restate_pubsub.access.tokens import guard_from, keys_from
from restate_pubsub.client.pubsub_client import PubsubClient, RetryPolicy
from restate_pubsub.errors import Forbidden, PubsubError, Unauthorized
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.restate_source import RestateSource
from restate_pubsub.ingress import Ingress
from restate_pubsub.peers.allowed import AllowedPeers
from restate_pubsub.peers.incoming import Incoming
from restate_pubsub.peers.peers import Peers
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.peers import Subscriber
from restate_pubsub.protocol.sse import message_frame
from restate_pubsub.restate_admin import RestateAdmin
from restate_pubsub.settings.origins import Origins
from restate_pubsub.telemetry.metrics import Metrics
from restate_pubsub.telemetry.tracing.untraced import Untraced
from restate_pubsub.topic.policy import Retention
from restate_pubsub.topic.sent_along import SentAlong
from restate_pubsub.topic.virtual_object import create_pubsub_object, manifest_of, preloading
from restate_pubsub.web.blocked_topics import BlockedTopics, WatchedIngress
from restate_pubsub.web.callers import Callers
from restate_pubsub.web.console.routes import Console
from restate_pubsub.web.described import routes as described
from restate_pubsub.web.ending import Ending
from restate_pubsub.web.errors import Errors
from restate_pubsub.web.health import Health
from restate_pubsub.web.middleware.answer_errors import AnswerErrors
from restate_pubsub.web.middleware.body_timeout import BodyTimeout
from restate_pubsub.web.middleware.cors import Cors
from restate_pubsub.web.middleware.discovery import Discovery
from restate_pubsub.web.middleware.for_restate import ForRestate
from restate_pubsub.web.middleware.identity import IdentityWatch
from restate_pubsub.web.middleware.invocations import AfterInvocations, InvocationsFirst
from restate_pubsub.web.middleware.public_port import PublicPort, left_open, public_ports
from restate_pubsub.web.middleware.streams import AfterStreams, StreamsFirst
from restate_pubsub.web.middleware.unread_body import DrainUnreadBody
from restate_pubsub.web.page_client import routes as page_client
from restate_pubsub.web.peering import Peering
from restate_pubsub.web.probes import Probes
from restate_pubsub.web.publishing import Publishing
from restate_pubsub.web.round_trip import CODES, RoundTrip
from restate_pubsub.web.several.several_streams import SeveralStreams
from restate_pubsub.web.stream_response import StreamResponse
from restate_pubsub.web.streams import Streams

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from restate_pubsub.settings.fields import Settings
    from restate_pubsub.telemetry.tracing.spans import OpenTelemetry
log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """The application, and the parts that a server drains when it stops."""

    app: ASGIApp
    hub: Hub
    health: Health
    metrics: Metrics
    ending: Ending
    incoming: Incoming


def limits_of(settings: Settings) -> Limits:
    """Return what one call may carry."""
    return Limits(
        message_bytes=settings.message_max_bytes,
        batch_bytes=settings.batch_max_bytes,
        batch_messages=settings.batch_max_messages,
        topic_bytes=settings.topic_max_bytes,
        pull_bytes=settings.pull_max_bytes,
        pull_messages=settings.pull_max_messages,
    )


def create_object(settings: Settings, **options: Any) -> restate.VirtualObject:
    """Return the object as these settings want it; `options` are further ones of `create_pubsub_object`."""
    return create_pubsub_object(
        settings.object_name,
        pull_timeout=settings.pull_timeout,
        retention=Retention(settings.retain_messages, settings.retain_bytes, settings.retain_idle),
        limits=limits_of(settings),
        idempotency_retention=settings.idempotency_retention,
        pages=settings.pages,
        **options,
    )


def quota_of(settings: Settings) -> Quota:
    """Return how much one process takes."""
    return Quota(
        streams=settings.max_streams,
        streams_per_client=settings.max_streams_per_client,
        streams_per_topic=settings.max_streams_per_topic,
        topics=settings.max_topics,
        topic_rate_per_client=settings.topic_rate_per_client,
        stream_rate=settings.stream_rate,
        stream_rate_per_client=settings.stream_rate_per_client,
        publish_rate_per_client=settings.publish_rate_per_client,
        message_rate_per_client=settings.message_rate_per_client,
        byte_rate_per_client=settings.byte_rate_per_client,
    )


def create_service(settings: Settings, *, ports: Sequence[int] = (), tracing: Untraced | None = None) -> Service:
    """Build everything that one process runs; nothing starts before the application's lifespan.

    `ports` are those that PUBSUB_BIND has led to, where it leaves their choice to the system. `tracing` ends with the
    lifespan.
    """
    tracing = tracing or Untraced()
    here = _subscriber(settings)
    metrics = _metrics(settings)
    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    ingress = Ingress(settings.ingress_url, settings.object_name, token, traced=tracing.client())
    limits = limits_of(settings)
    hub = Hub(
        tracing.source(RestateSource(ingress, str(here))),
        here.name,
        message_frame,
        FeedOptions(
            pull_wait=settings.feed_pull_timeout,
            linger=settings.linger,
            ring_bytes=settings.ring_bytes,
            rings_bytes=settings.rings_max_bytes,
            handed=lambda: incoming.connected,
        ),
        metrics,
    )
    peers = Peers(here, hub, AllowedPeers(settings.peers), metrics)
    incoming = Incoming(here, tracing.taken(hub), metrics)
    along = SentAlong(settings.object_name)
    pubsub = create_object(
        settings,
        readers=tracing.readers(peers),
        on_write=tracing.writes(metrics.wrote),
        clock_offset=ingress.clock.offset,
        tracing=tracing.handlers(),
        sent_along=along,
    )
    admin = RestateAdmin(settings.admin_url, token)
    health = Health(
        RoundTrip(ingress, admin, key=here.name, fingerprint=manifest_of(pubsub)),
        metrics.looked,
        interval=settings.health_interval,
    )
    blocked = BlockedTopics(admin, ingress, metrics, hub.busiest)
    writing = WatchedIngress(
        settings.ingress_url,
        settings.object_name,
        token,
        blocked=blocked,
        longest=settings.publish_timeout,
        traced=tracing.client(),
    )
    origins = Origins(settings.cors_origins)
    refusals = RefusalLog()
    keys = keys_from(settings, lambda worked: metrics.keys_fetched(worked=worked))
    callers = Callers(
        settings,
        limits,
        None if keys is None else guard_from(settings, keys, origins.exact, _token_refused(refusals)),
    )
    admission = Admission(quota_of(settings))
    streams = Streams(settings, hub=hub, health=health, metrics=metrics, callers=callers, admission=admission)
    several = SeveralStreams(
        settings, hub=hub, health=health, metrics=metrics, callers=callers, admission=admission, beats=streams.beats
    )
    ending = Ending()
    publishing = Publishing(
        PubsubClient(writing, retry=RetryPolicy(seconds=settings.publish_timeout), limits=limits),
        limits,
        callers=callers,
        admission=admission,
        enabled=settings.publish_enabled,
        max_bytes=settings.request_max_bytes,
        max_age=settings.request_max_age,
        ending=ending,
    )
    console = Console(settings, hub=hub, health=health, blocked=blocked, metrics=metrics)
    endpoint = _endpoint(settings, pubsub, along, metrics)
    at = Ports.of(settings, ports)
    errors = Errors(metrics.refused, partial(callers.too_many, Crowds(settings.trusted_proxies)))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if open_ := left_open(settings):
            log.warning("open to anybody who can connect", open=open_)
        tasks = [asyncio.create_task(tracing.unseen(health.watch())), asyncio.create_task(blocked.watch())]
        if isinstance(keys, KeySet):
            tasks.append(asyncio.create_task(keys.watch()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(hub.close(), peers.close())
            for connections in (ingress, writing, admin):
                await connections.close()
            await asyncio.to_thread(tracing.end)

    cors = _cors(settings, origins, errors, refusals)
    app = Starlette(
        routes=[
            *Probes(health, metrics.registry).routes(),
            *(console.routes() if settings.console else ()),
            *page_client.routes(),
            *described.routes(settings),
            Mount(settings.restate_path, AfterInvocations(endpoint)),
            Route(settings.sse_path, several.endpoint, methods=["GET"]),
            Route(
                f"{settings.sse_path}/{{topic:any}}",
                _by_method(AfterStreams(streams.endpoint), publishing),
                methods=["GET", "POST", "PUT", "DELETE"],
            ),
        ],
        middleware=_middleware(settings, at, errors, cors),
        lifespan=lifespan,
        exception_handlers=errors.handlers(),
    )
    app.router.redirect_slashes = False
    pages = _traced(
        StreamsFirst(app, streams.endpoint, cors, sse_path=settings.sse_path, closed_ports=at.without_streams),
        tracing,
        settings.sse_path,
    )
    first = InvocationsFirst(pages, endpoint, restate_path=settings.restate_path, closed_ports=at.without_restate)
    peering = Peering(
        first, incoming, metrics, closed_ports=at.without_restate, on_refused=partial(_peer_refused, refusals)
    )
    return Service(peering if settings.advertise else first, hub, health, metrics, ending, incoming)


def _by_method(
    streams: AfterStreams, publishing: Publishing
) -> Callable[[Request], Awaitable[Response | StreamResponse]]:
    """Return the endpoint of a topic: one route, so that what refuses a method knows all that there are (`Allow`)."""

    async def endpoint(request: Request) -> Response | StreamResponse:
        reads = request.method in ("GET", "HEAD")
        return await (streams(request) if reads else publishing.endpoint(request))

    return endpoint


def _metrics(settings: Settings) -> Metrics:
    metrics = Metrics(CollectorRegistry())
    metrics.takes(settings.max_streams)
    metrics.may_be_wrong(CODES)
    return metrics


def _subscriber(settings: Settings) -> Subscriber:
    """Return how the pulls of this process name it: anew at each start, so nobody takes it for the one before."""
    name = f"{socket.gethostname()[:64]}-{secrets.token_hex(8)}"
    return Subscriber(name, settings.advertise, secrets.token_urlsafe(24)) if settings.advertise else Subscriber(name)


@dataclass(frozen=True, slots=True)
class Ports:
    """Which ports serve only the streams, and which only the metrics."""

    public: frozenset[int]
    metrics: int | None

    @classmethod
    def of(cls, settings: Settings, ports: Sequence[int]) -> Ports:
        """Return them as they are bound: `ports`, or those of the settings."""
        *listening, last = ports or [int(bind.rpartition(":")[2]) for bind in settings.listens]
        metrics = None if settings.metrics_bind is None else last
        return cls(frozenset(public_ports(listening if metrics is not None else [*listening, last])), metrics)

    @property
    def without_restate(self) -> frozenset[int]:
        """Where nobody may invoke the object."""
        return self.public | self.without_streams

    @property
    def without_streams(self) -> frozenset[int]:
        """Where there are metrics only."""
        return frozenset() if self.metrics is None else frozenset({self.metrics})


def _endpoint(settings: Settings, pubsub: restate.VirtualObject, along: SentAlong, metrics: Metrics) -> ASGIApp:
    """Return what Restate calls: a newer one is offered what it alone can do."""
    sdk, newest = (
        along.around(restate.app([one], "bidi", identity_keys=list(settings.identity_keys)))
        for one in (pubsub, preloading(pubsub))
    )
    return IdentityWatch(ForRestate(Discovery(sdk, newest), body_timeout=settings.body_timeout), metrics.refused)


def _middleware(
    settings: Settings, ports: Ports, errors: Errors, cors: Callable[[ASGIApp], ASGIApp]
) -> list[Middleware]:
    """Return the layers around the endpoints, from outside in."""
    return [
        Middleware(DrainUnreadBody, restate_path=settings.restate_path),
        Middleware(AnswerErrors, errors=errors),
        Middleware(PublicPort, public_ports=ports.public, sse_path=settings.sse_path, metrics_port=ports.metrics),
        Middleware(BodyTimeout, seconds=settings.body_timeout, restate_path=settings.restate_path),
        Middleware(cors),
    ]


def _cors(settings: Settings, origins: Origins, errors: Errors, refusals: RefusalLog) -> Callable[[ASGIApp], ASGIApp]:
    """Return what puts the layer for other sites' pages around an application."""

    def origin_refused(origin: str, preflight: bool) -> None:  # noqa: FBT001 - a callback's second argument
        if preflight:
            errors.count("origin-not-allowed")
        refusals.note("a page of an origin that is not allowed", origin[:200], "PUBSUB_CORS_ORIGINS")

    return partial(Cors, path=settings.sse_path, origins=origins, on_refused=origin_refused)


def _traced(app: ASGIApp, tracing: Untraced, sse_path: str) -> ASGIApp:
    """Return the application with a span around each request for a topic, where spans are made."""
    if not tracing.on:
        return app
    from restate_pubsub.web.middleware.traced import Traced  # noqa: PLC0415 - for those who trace alone

    return Traced(app, cast("OpenTelemetry", tracing), sse_path=sse_path)


def _peer_refused(refusals: RefusalLog, reason: str) -> None:
    refusals.note("a peer was refused", reason, "PUBSUB_ADVERTISE")


def _token_refused(refusals: RefusalLog) -> Callable[[PubsubError], None]:
    def note(error: PubsubError) -> None:
        if isinstance(error, (Unauthorized, Forbidden)):
            refusals.note("a token was refused", error.message, error.setting)

    return note


class _AnyText(Convertor[str]):
    """Takes what Starlette's `path` takes, and line feeds: a topic may be any text."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Return it as it is."""
        return value


register_url_convertor("any", _AnyText())
