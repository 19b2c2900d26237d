"""What one call may carry: the sizes and counts that handlers, client and HTTP side share."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PULL_TIMEOUT = 30.0
"""Seconds that a pull waits, if its caller does not say."""
JOINED_READ = 16
"""A pull that joins may cover so many times more offsets than it gives messages."""
WHOLE_MAX_BYTES = 8 * 1024 * 1024
"""A topic of more bytes is not sent along with a call: Restate and this process would hold all of it at once."""
DEFAULT_IDEMPOTENCY_RETENTION = 60 * 60.0
"""Seconds for which a repeated idempotency key is known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may carry. Sizes are bytes of compact JSON or of UTF-8."""

    message_bytes: int = 1024 * 1024
    batch_bytes: int = 4 * 1024 * 1024
    batch_messages: int = 10_000
    topic_bytes: int = 512
    pull_bytes: int = 4 * 1024 * 1024
    pull_messages: int = 4096
