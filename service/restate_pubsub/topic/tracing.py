"""What the handlers tell whoever traces them; most processes trace nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol


class Tracing(Protocol):
    """Follows a call through this process. None of it may raise."""

    def handling(
        self, handler: str, topic: str, attempt: Mapping[str, str], call: Mapping[str, str]
    ) -> AbstractContextManager[None]:
        """Wrap the handling of one call.

        `attempt` are the headers with which Restate came, `call` those with which Restate was called.
        """

    def traceparent(self) -> str:
        """Return the W3C `traceparent` of what is being done now; nothing where that is not traced."""
