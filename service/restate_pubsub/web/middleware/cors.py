"""CORS for the streams: other sites' pages may use them if their origin is listed, with cookies only if by name.

Starlette's middleware allows credentials for patterns as well as for exact origins, so it is not used. Headers are
added as a response starts: nothing is held back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from restate_pubsub.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from restate_pubsub.settings.origins import Origins

METHODS = "GET, HEAD, POST, PUT, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Cache-Control"
EXPOSED = "Retry-After, WWW-Authenticate, Allow"
PREFLIGHT_SECONDS = 7200
"""How long a browser may remember a preflight; no browser keeps it longer."""


class Cors:
    """ASGI middleware for the paths below `path`."""

    def __init__(self, app: ASGIApp, *, path: str, origins: Origins, on_refused: Callable[[str], None]) -> None:
        """`on_refused` is told the code of a refused preflight."""
        self._app = app
        self._path = path + "/"
        self._origins = origins
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights, and add headers to what others answer."""
        if scope["type"] != "http" or not scope["path"].startswith(self._path):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and self._origins.allow(origin)
        if scope["method"] == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
            await self._preflight(origin, allowed=allowed)(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")  # caches must not show one origin another's answer
                if allowed and origin is not None:
                    answer.update(self._allowed(origin))
                    answer["access-control-expose-headers"] = EXPOSED
            await send(message)

        await self._app(scope, receive, add)

    def _allowed(self, origin: str) -> dict[str, str]:
        headers = {"access-control-allow-origin": origin}
        if self._origins.names(origin):
            headers["access-control-allow-credentials"] = "true"
        return headers

    def _preflight(self, origin: str, *, allowed: bool) -> Response:
        vary = {"vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        if not allowed:
            self._on_refused("origin-not-allowed")
            return problem(403, "origin-not-allowed", f"{origin[:200]!r} is not in PUBSUB_CORS_ORIGINS", vary)
        headers = {
            **vary,
            **self._allowed(origin),
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": REQUEST_HEADERS,
            "access-control-max-age": str(PREFLIGHT_SECONDS),
        }
        return Response(status_code=204, headers=headers)
