"""How the handlers of a topic are offered to Restate: names, kinds, schemas, retention, retries."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from restate import ObjectContext, ObjectSharedContext, TerminalError, VirtualObject
from restate.discovery import compute_discovery_json
from restate.endpoint import Endpoint
from restate.handler import TypeHint
from restate.retry_policy import InvocationRetryPolicy

from restate_pubsub.errors import PubsubError
from restate_pubsub.protocol.limits import DEFAULT_IDEMPOTENCY_RETENTION, DEFAULT_PULL_TIMEOUT, Limits
from restate_pubsub.topic import schemas
from restate_pubsub.topic.handlers import Handlers
from restate_pubsub.topic.ping import AT_ONCE, Ping
from restate_pubsub.topic.policy import Policy, Retention
from restate_pubsub.topic.restate_context import RAW, RestateContext, RestateSharedContext
from restate_pubsub.topic.sent_along import SentAlong
from restate_pubsub.topic.steps import FIRST_READ, Readers, TopicOptions
from restate_pubsub.topic.tracing import Tracing

WRITES = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=10),
    max_attempts=8640,
    on_max_attempts="kill",
)
"""A write is tried again for a day (8640 times 10 s): through any outage of the service, yet a topic whose write
can never succeed comes free. Restate's own default would pause it, and a paused write blocks its topic for ever."""

READS = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=50),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=2),
    max_attempts=10,
    on_max_attempts="kill",
)
"""A read that fails for some ten seconds ends: its caller asks again."""

NOTHING = timedelta(0)
SUSPEND_AFTER = timedelta(milliseconds=300)
"""A waiting pull gives back its invoker slot and its connection after this, and resumes for some 1.5 ms.

It also is how long Restate waits for the first word of a pull. What comes later finds that the pull is suspended, which
then runs again from its beginning: with 20 ms, each pull of a thousand topics that were opened at once ran twice.
"""

MANIFEST = "restate-pubsub-manifest"
"""The metadata by which a registration knows whether an old replica or a new one was discovered."""
DISCOVERY_VERSION = 4
"""The newest of Restate's discovery formats that the SDK writes: it leaves nothing out."""

WITHOUT_METADATA = "application/vnd.restate.invocation.v5"
"""The oldest protocol that the SDK speaks: in it an error of a handler has no metadata."""


def create_pubsub_object(
    name: str = "pubsub",
    *,
    pull_timeout: float = DEFAULT_PULL_TIMEOUT,
    retention: Retention | None = None,
    limits: Limits | None = None,
    idempotency_retention: float = DEFAULT_IDEMPOTENCY_RETENTION,
    readers: Readers | None = None,
    on_write: Callable[[str, int], None] = lambda _handler, _messages: None,
    clock_offset: Callable[[], float] = lambda: 0.0,
    pages: bool = True,
    tracing: Tracing | None = None,
    sent_along: SentAlong | None = None,
) -> VirtualObject:
    """Return the pubsub Virtual Object, to bind in a Restate endpoint: one object per topic.

    Args:
        name: the object's name, which publishers, clients and `PUBSUB_OBJECT_NAME` must share.
        pull_timeout: seconds that a pull waits before 408, if its caller does not say.
        retention: how much of a topic is kept; everything by default.
        limits: what one call may carry.
        idempotency_retention: seconds for which a repeated idempotency key of `publish` and `append` is known.
        readers: those who get messages straight from the handler that wrote them: in this process, and its peers'.
        on_write: told of each append, with the handler's name and the number of messages.
        clock_offset: says how many seconds Restate's clock is ahead of this process's.
        pages: pack messages into pages. Without, topics stay in the form of `@restatedev/pubsub`, which can go on
            with them; they cost more to read.
        tracing: follows each write.
        sent_along: has what comes with a call, if the endpoint runs in what it makes of it (`around`).

    """
    limits = limits or Limits()
    policy = Policy(
        message_bytes=limits.message_bytes,
        batch_bytes=limits.batch_bytes,
        batch_messages=limits.batch_messages,
        retention=retention or Retention(),
        pages=pages,
    )
    state = None if sent_along is None else sent_along.state
    topic = Handlers(TopicOptions(policy, limits, pull_timeout, readers, on_write, tracing, state))
    known = timedelta(seconds=idempotency_retention)
    pubsub = VirtualObject(
        name,
        description="Durable topics: one object per topic, an ordered log of JSON messages with integer offsets.",
        state_preload=False,  # a topic's state is its whole log
        journal_retention=NOTHING,
    )

    def shared(ctx: ObjectSharedContext) -> RestateSharedContext:
        return RestateSharedContext(ctx, name, clock_offset)

    def exclusive(ctx: ObjectContext) -> RestateContext:
        return RestateContext(ctx, name, clock_offset)

    def add(
        fn: Callable[..., Awaitable[Any]],
        takes: schemas.Schema | None,
        gives: schemas.Schema | None,
        *,
        kind: Literal["exclusive", "shared"] = "exclusive",
        **options: Any,
    ) -> None:
        port = exclusive if kind == "exclusive" else shared
        options.setdefault("idempotency_retention", NOTHING)
        options.setdefault("invocation_retry_policy", WRITES if kind == "exclusive" else READS)
        traced = tracing if kind == "exclusive" and gives is not None else None
        handler = _handler(fn, port, takes_input=takes is not None, tracing=traced)
        pubsub.handler(fn.__name__, kind=kind, input_serde=RAW, output_serde=RAW, **options)(handler)
        io = pubsub.handlers[fn.__name__].handler_io
        io.input_type = _hint(schemas.ANY if takes is None else takes)
        io.output_type = TypeHint(is_void=True) if gives is None else _hint(gives)

    add(topic.publish, schemas.ANY, schemas.PUBLISHED, idempotency_retention=known)
    add(topic.append, schemas.APPEND, schemas.APPENDED, idempotency_retention=known)
    add(topic.pull, schemas.PULL, schemas.PULLED, kind="shared", inactivity_timeout=SUSPEND_AFTER)
    add(topic.history, schemas.PULL, schemas.PULLED, kind="shared", state_preload=True)
    add(topic.subscribe, schemas.SUBSCRIBE, None)
    add(topic.stop, schemas.STOP, schemas.STOPPED, idempotency_retention=known)
    add(topic.truncate, schemas.COUNT, None, idempotency_retention=known)
    add(topic.close, None, schemas.NEXT, idempotency_retention=known)
    add(topic.delete, None, None, idempotency_retention=known)
    add(topic.info, None, schemas.INFO, kind="shared")
    add(topic.ask, schemas.QUESTION, schemas.PUBLISHED, idempotency_retention=known)
    add(topic.answer, schemas.QUESTION, schemas.PUBLISHED, idempotency_retention=known)
    add(topic.withdraw, schemas.WITHDRAW, schemas.WITHDRAWN)
    add(topic.unseal, schemas.UNSEAL, schemas.UNSEALED)
    ping = Ping("" if readers is None else readers.replica, lambda: manifest_of(pubsub))
    add(ping.ping, None, schemas.PONG, kind="shared", invocation_retry_policy=AT_ONCE)
    add(topic.sweep, schemas.ANY, None, ingress_private=True)
    add(topic.expire, schemas.ANY, None, ingress_private=True)
    add(topic.forget, schemas.ANY, None, ingress_private=True)
    pubsub.service_tag.metadata = {MANIFEST: _fingerprint(pubsub)}
    return pubsub


def preloading(pubsub: VirtualObject) -> VirtualObject:
    """Return the same object for a Restate that can send state along with a call (discovery version 5, server 1.8).

    Each handler that runs alone on its topic is sent what it reads first, which saves a round trip. Shared handlers are
    not: they would go on reading what was there when they began. `history` means to: any Restate sends it everything.
    """
    found = copy.copy(pubsub)
    found.handlers = {
        name: replace(handler, state_preload=list(FIRST_READ)) if handler.kind == "exclusive" else handler
        for name, handler in pubsub.handlers.items()
    }
    return found


def manifest_of(pubsub: VirtualObject) -> str:
    """Return the fingerprint of all that Restate discovers of the object; Restate keeps it in the object's metadata."""
    return (pubsub.service_tag.metadata or {})[MANIFEST]


def _fingerprint(pubsub: VirtualObject) -> str:
    endpoint = Endpoint()  # type: ignore[no-untyped-call]
    manifest = compute_discovery_json(endpoint.bind(pubsub), DISCOVERY_VERSION, "bidi")
    return hashlib.sha256(manifest.encode()).hexdigest()[:16]


def _hint(schema: schemas.Schema) -> TypeHint[Any]:
    return TypeHint(annotation=Any, generate_json_schema=lambda: schema)


def _handler(
    fn: Callable[..., Awaitable[Any]], port: Callable[[Any], Any], *, takes_input: bool, tracing: Tracing | None
) -> Callable[..., Awaitable[Any]]:
    """Wrap a method as the SDK wants it: two parameters, bytes in, bytes out, this project's errors terminal.

    A handler that needs no input takes any, and passes it over: some callers always send a body.
    """

    async def handler(ctx: ObjectContext | ObjectSharedContext, raw: bytes) -> bytes:
        with _Terminal(ctx):
            return await (fn(port(ctx), raw) if takes_input else fn(port(ctx))) or b""

    handler.__doc__ = fn.__doc__
    return handler if tracing is None else _traced(fn.__name__, handler, tracing)


def _traced(name: str, handler: Callable[..., Awaitable[bytes]], tracing: Tracing) -> Callable[..., Awaitable[bytes]]:
    async def traced(ctx: ObjectContext | ObjectSharedContext, raw: bytes) -> bytes:
        request = ctx.request()
        with tracing.handling(name, ctx.key(), request.attempt_headers, request.headers):
            return await handler(ctx, raw)

    traced.__doc__ = handler.__doc__
    return traced


class _Terminal:
    """Turn this project's errors into Restate's terminal ones: no retry, the same status, text and code.

    A Restate that speaks a protocol without metadata gets no code: the SDK would fail, and the call come back for ever.
    """

    def __init__(self, ctx: ObjectContext | ObjectSharedContext) -> None:
        self._kind = ctx.request().attempt_headers.get("content-type", "")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PubsubError):
            metadata = None if self._kind == WITHOUT_METADATA else error.metadata
            raise TerminalError(error.message, error.status, metadata) from None
