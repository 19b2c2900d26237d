"""The composition root: settings in, one ASGI application out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.refusal_log import RefusalLog
from restate_pubsub.access.tokens import guard_from, keys_from
from restate_pubsub.client.pubsub_client import PubsubClient, RetryPolicy
from restate_pubsub.errors import Forbidden, PubsubError, Unauthorized
from restate_pubsub.fanout.feed import FeedOptions
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.restate_source import RestateSource
from restate_pubsub.ingress import Ingress
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.settings.origins import Origins
from restate_pubsub.telemetry.metrics import Metrics
from restate_pubsub.topic.policy import Retention
from restate_pubsub.topic.virtual_object import create_pubsub_object
from restate_pubsub.web.console.routes import Console
from restate_pubsub.web.health import Health
from restate_pubsub.web.middleware.cors import Cors
from restate_pubsub.web.middleware.public_port import ForRestate, left_open
from restate_pubsub.web.problems import problem
from restate_pubsub.web.publishing import Door
from restate_pubsub.web.routes import Routes

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings


log = structlog.stdlib.get_logger(__name__)

DOOR_RETRY_SECONDS = 20.0
"""How long a publish over HTTP tries again while Restate is away, before its 503."""


@dataclass(frozen=True, slots=True)
class Service:
    """The application, and the parts that a server drains when it stops."""

    app: Starlette
    hub: Hub
    health: Health


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
        stream_rate=settings.stream_rate,
        stream_rate_per_client=settings.stream_rate_per_client,
        publish_rate_per_client=settings.publish_rate_per_client,
        message_rate_per_client=settings.message_rate_per_client,
        byte_rate_per_client=settings.byte_rate_per_client,
    )


def create_service(settings: Settings) -> Service:
    """Build everything that one process runs; nothing starts before the application's lifespan."""
    replica = f"{socket.gethostname()[:64]}-{secrets.token_hex(8)}"
    metrics = Metrics(CollectorRegistry())
    metrics.takes(settings.max_streams)
    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    ingress = Ingress(settings.ingress_url, settings.object_name, token)
    limits = limits_of(settings)
    hub = Hub(
        RestateSource(ingress, replica),
        replica,
        FeedOptions(
            pull_wait=settings.feed_pull_timeout,
            linger=settings.linger,
            ring_bytes=settings.ring_bytes,
            rings_bytes=settings.rings_max_bytes,
        ),
        metrics,
    )
    health = Health(ingress, lambda ready: metrics.ready(ready=ready))
    pubsub = create_object(settings, local=hub, on_write=metrics.wrote, clock_offset=ingress.clock.offset)
    publisher = PubsubClient(ingress, retry=RetryPolicy(seconds=DOOR_RETRY_SECONDS), limits=limits)
    door = Door(publisher, limits) if settings.publish_enabled else None
    origins = Origins(settings.cors_origins)
    refusals = RefusalLog()
    keys = keys_from(settings, lambda worked: metrics.keys_fetched(worked=worked))
    routes = Routes(
        settings,
        hub=hub,
        health=health,
        metrics=metrics,
        limits=limits,
        door=door,
        guard=None if keys is None else guard_from(settings, keys, origins.exact, _token_refused(refusals)),
        admission=Admission(quota_of(settings)),
    )

    def origin_refused(origin: str, preflight: bool) -> None:  # noqa: FBT001 - a callback's second argument
        if preflight:
            metrics.refused("origin-not-allowed")
        refusals.note("a page of an origin that is not allowed", origin[:200], "PUBSUB_CORS_ORIGINS")

    middleware = [Middleware(Cors, path=settings.sse_path, origins=origins, on_refused=origin_refused)]

    console = Console(settings, hub=hub, health=health, metrics=metrics).routes() if settings.console else ()

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if open_ := left_open(settings):
            log.warning("open to anybody who can connect", open=open_)
        tasks = [asyncio.create_task(health.watch())]
        if isinstance(keys, KeySet):
            tasks.append(asyncio.create_task(keys.watch()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await hub.close()
            await ingress.close()

    endpoint = restate.app([pubsub], "bidi", identity_keys=list(settings.identity_keys))
    app = Starlette(
        routes=[
            Route("/health/live", routes.live),
            Route("/health/ready", routes.ready),
            Route("/metrics", routes.metrics),
            *console,
            Mount(settings.restate_path, ForRestate(endpoint)),
            Route(f"{settings.sse_path}/{{topic:any}}", routes.stream, methods=["GET"]),
            Route(f"{settings.sse_path}/{{topic:any}}", routes.publish, methods=["POST", "PUT", "DELETE"]),
        ],
        middleware=middleware,
        lifespan=lifespan,
        exception_handlers={404: _not_found, 405: _not_allowed},
    )
    app.router.redirect_slashes = False
    return Service(app, hub, health)


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


async def _not_found(request: Request, _error: Exception) -> Response:
    return problem(404, "not-found", f"There is nothing at {request.scope['path']!r}")


async def _not_allowed(request: Request, error: Exception) -> Response:
    allow = getattr(error, "headers", None)
    return problem(405, "method-not-allowed", f"{request.method} is not possible at {request.scope['path']!r}", allow)
