"""A span for each request of a page. That of a stream lasts for as long as the stream does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import SpanKind, StatusCode

from restate_pubsub.telemetry.tracing.attributes import about
from restate_pubsub.web.wire import TAKE_OVER, TakeOver, Taker

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from restate_pubsub.telemetry.tracing.spans import OpenTelemetry

_QUERY = "restate_pubsub.query_string"


class Traced:
    """The outermost layer of what pages reach. Probes, metrics, the console and Restate's calls have no spans here."""

    def __init__(self, app: ASGIApp, tracing: OpenTelemetry, *, sse_path: str) -> None:
        """`sse_path` is where the topics are."""
        self._app = app
        self._tracer = tracing.tracer
        self._path = sse_path
        self._requests = OpenTelemetryMiddleware(
            self._with_query,
            default_span_details=lambda scope: (f"{scope['method']} {sse_path}/{{topic}}", {}),
            tracer_provider=tracing.provider,
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; only requests for topics are seen."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == self._path or path.startswith(self._path + "/")):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._stream(scope, receive, send)
        else:
            # A query may hold a token, which is nothing for a span.
            await self._requests({**scope, "query_string": b"", _QUERY: scope["query_string"]}, receive, send)

    async def _with_query(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "query_string": scope[_QUERY]}, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        topic = scope["path"].removeprefix(self._path).removeprefix("/")
        route = f"{self._path}/{{topic}}" if topic else self._path
        attributes = {**about("subscribe", topic), "http.request.method": "GET", "http.route": route}
        if not topic:  # several topics, which only the query names: it may hold a token, too
            del attributes["messaging.destination.name"]
        span = self._tracer.start_span(
            f"GET {route}", context=_parent(scope), kind=SpanKind.SERVER, attributes=attributes
        )
        life = _Life(span, send)
        take_over = scope.get("extensions", {}).get(TAKE_OVER)
        if take_over is not None:
            scope = {**scope, "extensions": {**scope["extensions"], TAKE_OVER: life.taking(take_over)}}
        with trace.use_span(span, end_on_exit=False):
            try:
                await self._app(scope, receive, life.send)
            finally:
                life.answered()


def _parent(scope: Scope) -> Context:
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"traceparent", b"tracestate", b"baggage")
    }
    return propagate.extract(carrier, context=Context())


class _Life:
    """Ends a stream's span: with its request, or with the connection where that has been taken over."""

    def __init__(self, span: Span, send: Send) -> None:
        self._span = span
        self._send = send
        self._taken = False

    async def send(self, message: Message) -> None:
        """Note the status."""
        if message["type"] == "http.response.start":
            self._span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                self._span.set_status(StatusCode.ERROR)
        await self._send(message)

    def taking(self, take_over: TakeOver) -> TakeOver:
        """Return a take-over that tells when the connection is gone."""

        async def watched(taker: Taker) -> bool:
            self._taken = await take_over(_Watched(taker, self._span))
            return self._taken

        return watched

    def answered(self) -> None:
        """End the span, unless the stream goes on."""
        if not self._taken:
            self._span.end()


class _Watched:
    """A taker whose span ends when it is gone."""

    __slots__ = ("_span", "_taker", "room", "slow", "taken")

    def __init__(self, taker: Taker, span: Span) -> None:
        self._taker = taker
        self._span = span
        self.taken = taker.taken
        self.room = taker.room
        self.slow = taker.slow

    def gone(self) -> None:
        """Tell it, and end the span."""
        try:
            self._taker.gone()
        finally:
            self._span.end()
