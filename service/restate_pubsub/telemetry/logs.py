"""Logs: readable lines on a terminal, JSON elsewhere; one format for ours and for the libraries'.

No message and no token is ever logged. Inside a handler that replays, nothing is logged at all: it was before.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import restate
import structlog

from restate_pubsub.protocol.urls import redacted

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from restate_pubsub.settings.fields import Settings

OURS = "restate_pubsub"
"""Who may log at debug. There libraries say what they were sent: hpack each header, with tokens and cookies."""


def _trace_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add `trace_id` and `span_id` where there is a span; a process without traces has not loaded what makes them."""
    tracing = sys.modules.get("opentelemetry.trace")
    current = None if tracing is None else tracing.get_current_span().get_span_context()
    if current is not None and current.is_valid:
        event["trace_id"], event["span_id"] = f"{current.trace_id:032x}", f"{current.span_id:016x}"
    return event


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """Takes user and password out of every URL, wherever in a line or a traceback it stands."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redacted(super().format(record))


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs, structlog's and the standard library's, to `stream` (standard error by default)."""
    stream = sys.stderr if stream is None else stream
    console = settings.log_format == "console" or (settings.log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_ids,
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Redacting(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(restate.RestateLoggingFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger(OURS).setLevel(settings.log_level.upper())
    root.setLevel(max(logging.getLogger(OURS).level, logging.INFO))
    for noisy in ("asyncio", "hypercorn.error", "sse_starlette"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
