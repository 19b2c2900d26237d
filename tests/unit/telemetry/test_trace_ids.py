"""Log lines name the trace that they belong to."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from restate_pubsub.settings.fields import load
from restate_pubsub.telemetry.logs import configure


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Return where the logs go while this test runs."""
    root, before = logging.getLogger(), logging.getLogger().handlers
    stream = io.StringIO()
    configure(load({"PUBSUB_LOG_FORMAT": "json"}), stream)
    yield stream
    root.handlers = before
    structlog.reset_defaults()


@pytest.mark.parametrize("library", [True, False])
def test_a_line_inside_a_span_has_its_ids(lines: io.StringIO, *, library: bool) -> None:
    """Both ours and those of libraries; outside there are none."""
    logger = logging.getLogger("some.library") if library else structlog.stdlib.get_logger("ours").bind()
    span = TracerProvider().get_tracer("test").start_span("step")
    with trace.use_span(span):
        logger.warning("inside")
    logger.warning("outside")
    inside, outside = (json.loads(line) for line in lines.getvalue().splitlines())
    context = span.get_span_context()
    assert f"{context.trace_id:032x}" == inside["trace_id"]
    assert f"{context.span_id:016x}" == inside["span_id"]
    assert "trace_id" not in outside
