"""Whether traces are asked for, by OpenTelemetry's own variables: there are no settings of ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import structlog

from restate_pubsub.telemetry.tracing.untraced import Untraced

log = structlog.stdlib.get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
PACKAGES = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.instrumentation.asgi",
    "opentelemetry.instrumentation.aiohttp_client",
)


def tracing_from(environ: Mapping[str, str]) -> Untraced:
    """Return what traces this process, if somebody asks for traces and they can be had.

    Where they cannot, a warning says why; it does not keep the service from its work.
    """
    if not asked_for(environ):
        return Untraced()
    if fault := _fault(environ):
        log.warning("traces are asked for, and there are none", reason=fault)
        return Untraced()
    from restate_pubsub.telemetry.tracing.spans import OpenTelemetry  # noqa: PLC0415 - for those who trace alone

    return OpenTelemetry.begin()


def asked_for(environ: Mapping[str, str]) -> bool:
    """Whether a collector is named, or the exporter, and nothing switches traces off."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    return not off and (bool(exporter) or any(environ.get(name) for name in ENDPOINTS))


def _fault(environ: Mapping[str, str]) -> str | None:
    """Return why there can be no traces, and what to do."""
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER is {exporter!r}; it can be 'otlp' or 'none'"
    for name in PROTOCOLS:
        protocol = environ.get(name)
        if protocol and protocol != PROTOCOL:
            return f"{name} is {protocol!r}; traces are sent as {PROTOCOL}, mostly to port 4318 of a collector"
        if protocol:
            break
    missing = [name for name in PACKAGES if not _installed(name)]
    if missing:
        return f"{', '.join(missing)} cannot be found: run `pip install 'restate-pubsub[server,otel]'`"
    return None


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False
