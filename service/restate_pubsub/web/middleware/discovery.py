"""Discovery, by what the Restate server says that it understands.

The newest form has what older servers would take for an error, so that they would not register the service at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

NEWEST = "application/vnd.restate.endpointmanifest.v5+json"


class Discovery:
    """ASGI middleware before the endpoint: a server that asks for the newest form is shown `newest`."""

    def __init__(self, app: ASGIApp, newest: ASGIApp) -> None:
        """Both are endpoints of the same handlers."""
        self._app = app
        self._newest = newest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        asks = scope["path"].endswith("/discover") and NEWEST in Headers(scope=scope).get("accept", "")
        await (self._newest if asks else self._app)(scope, receive, send)
