"""The spans of this process: what is named how, and what belongs to which trace.

Names and attributes are those of OpenTelemetry's conventions for messaging. A write is a span of the trace whose
`traceparent` its call has brought, or of Restate's own trace where Restate makes one. What follows from it, the
hand-over to the readers of each replica, belongs to the same trace.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from restate import TerminalError
from restate.server_context import restate_context_is_replaying

from restate_pubsub.telemetry.tracing.attributes import about, failed
from restate_pubsub.telemetry.tracing.ports import TracedNews, TracedReaders, TracedSource
from restate_pubsub.telemetry.tracing.untraced import Untraced

if TYPE_CHECKING:
    import aiohttp

    from restate_pubsub.fanout.source import Source
    from restate_pubsub.peers.incoming import TakesNews
    from restate_pubsub.topic.steps import Readers
    from restate_pubsub.topic.tracing import Tracing

VERSION = importlib.metadata.version("restate-pubsub")


class OpenTelemetry(Untraced):
    """Makes spans, and sends them where OpenTelemetry's variables say. The object's `Tracing`, too."""

    on = True

    def __init__(self, provider: TracerProvider) -> None:
        """`provider` samples and exports."""
        self.provider = provider
        self.tracer = provider.get_tracer("restate_pubsub", VERSION)

    @classmethod
    def begin(cls) -> Self:
        """Return one whose spans are batched and exported by OTLP over HTTP, from a thread of its own."""
        ours = Resource({"service.name": "restate-pubsub", "service.version": VERSION})
        provider = TracerProvider(resource=Resource.create().merge(ours).merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def end(self) -> None:
        """Send what is left. It may block for as long as the exporter's timeout is."""
        self.provider.shutdown()

    def handlers(self) -> Tracing:
        """Return itself."""
        return self

    def client(self) -> aiohttp.TraceConfig:
        """Return what makes a span of each request, and sends its `traceparent` along."""
        return create_trace_config(tracer_provider=self.provider)

    def source(self, source: Source) -> Source:
        """Return the log with a span for each pull."""
        return TracedSource(source, self.tracer)

    def readers(self, readers: Readers) -> Readers:
        """Return the readers with a span for what they are handed."""
        return TracedReaders(readers, self.tracer)

    def taken(self, readers: TakesNews) -> TakesNews:
        """Return the readers with a span for what peers hand them, in the trace of the write."""
        return TracedNews(readers, self.tracer)

    def writes(self, wrote: Callable[[str, int], None]) -> Callable[[str, int], None]:
        """Return a callback that notes the number of messages at the current span, too."""

        def noted(handler: str, messages: int) -> None:
            trace.get_current_span().set_attribute("messaging.batch.message_count", messages)
            wrote(handler, messages)

        return noted

    async def unseen(self, work: Awaitable[None]) -> None:
        """Do work whose requests are no spans."""
        with suppress_instrumentation():
            await work

    # --- the object --------------------------------------------------------------------------------------------

    @contextmanager
    def handling(self, handler: str, topic: str, attempt: Mapping[str, str], call: Mapping[str, str]) -> Iterator[None]:
        """Make a write's span, once: what a replay does again belongs to the trace and has no span of its own.

        The SDK's `restate.ext.tracing` is not used: it knows the headers of the attempt alone, and Restate sets a
        `traceparent` there only where it exports traces itself.
        """
        parent = propagate.extract(attempt if "traceparent" in attempt else call, context=Context())
        if restate_context_is_replaying.get(False):
            token = attach(parent)
            try:
                yield
            finally:
                detach(token)
            return
        with self.tracer.start_as_current_span(
            f"{handler} topic",
            context=parent,
            kind=SpanKind.SERVER,
            attributes=about(handler, topic),
            record_exception=False,  # most are the SDK's way to suspend a call
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except TerminalError as error:
                failed(span, error.message)
                raise

    def traceparent(self) -> str:
        """Return the `traceparent` of the current span; nothing where there is none."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier.get("traceparent", "")
