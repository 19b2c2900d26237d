"""A collector of traces: it takes OTLP over HTTP, as OpenTelemetry's own collector does, and keeps the spans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.harness import free_port


@dataclass(frozen=True)
class Span:
    """One span as it came."""

    name: str
    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    failed: str | None


class Collector:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        """Start without spans."""
        self.port = free_port()
        self.spans: list[Span] = []
        self._runner: web.AppRunner | None = None

    @property
    def env(self) -> dict[str, str]:
        """What a process needs that sends its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    async def __aenter__(self) -> Self:
        """Listen."""
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop."""
        assert self._runner is not None
        await self._runner.cleanup()

    def named(self, name: str, **attributes: Any) -> list[Span]:
        """Return the spans of a name with these attributes; a double underscore stands for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [span for span in self.spans if span.name == name and wanted.items() <= span.attributes.items()]

    async def _take(self, request: web.Request) -> web.Response:
        body = ExportTraceServiceRequest.FromString(await request.read())
        for about in body.resource_spans:
            resource = _read(about.resource.attributes)
            for scope in about.scope_spans:
                self.spans += [_span(one, resource) for one in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def _span(span: Any, resource: Mapping[str, Any]) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        tuple(link.span_id.hex() for link in span.links),
        _read(span.attributes),
        resource,
        span.status.message if span.status.code == 2 else None,
    )


def _read(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes}
