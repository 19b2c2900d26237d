"""Requests that the Restate endpoint refuses for their signature: counted, and logged once in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from restate_pubsub.web.errors import Refused

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.stdlib.get_logger(__name__)

LOG_SECONDS = 60.0
CODE = "identity-mismatch"


class IdentityWatch:
    """ASGI middleware around the guarded endpoint, whose 401 says nothing anywhere."""

    def __init__(self, app: ASGIApp, on_refused: Callable[[str], None]) -> None:
        """`on_refused` is told the code."""
        self._app = app
        self._on_refused = on_refused
        self._quiet_until = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, and look at what is refused.

        Raises:
            Refused: it was.

        """
        try:
            await self._app(scope, receive, send)
        except Refused as error:
            if error.status == 401:
                self._refused()
            raise

    def _refused(self) -> None:
        self._on_refused(CODE)
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + LOG_SECONDS
            log.warning(
                "a request to the Restate endpoint is not signed, or with another key: if it is from your Restate, set "
                "PUBSUB_RESTATE_IDENTITY_KEYS to that Restate's key",
                code=CODE,
            )
