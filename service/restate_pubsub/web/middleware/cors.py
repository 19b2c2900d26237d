"""CORS for the streams: other sites' pages may use them if their origin is listed, with cookies only if by name.

Starlette's middleware allows credentials for patterns as well as for exact origins, so it is not used. Headers are
added as a response starts: nothing is held back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from restate_pubsub.web.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from restate_pubsub.settings.origins import Origins

METHODS = "GET, HEAD, POST, PUT, DELETE"
REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Cache-Control")
"""What this service reads. Tracing and error reporting add their own to every request of a page (`traceparent`,
`sentry-trace`): whatever a page of an allowed origin asks for is allowed, and passed over."""
ASKED_BYTES, ASKED_HEADERS = 4096, 64
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
EXPOSED = "Retry-After, WWW-Authenticate, Allow, X-Vercel-AI-UI-Message-Stream, X-Workflow-Stream-Tail-Index"
PREFLIGHT_SECONDS = 7200
"""How long a browser may remember a preflight; no browser keeps it longer."""


class Cors:
    """ASGI middleware for `path` and those below it."""

    def __init__(self, app: ASGIApp, *, path: str, origins: Origins, on_refused: Callable[[str, bool], None]) -> None:
        """`on_refused` is told of an origin that is not allowed, and whether its request was a preflight.

        Other requests are answered all the same: it is the browser that keeps the answer from the page.
        """
        self._app = app
        self._path = path
        self._origins = origins
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights, and add headers to what others answer."""
        if scope["type"] != "http" or not (scope["path"] == self._path or scope["path"].startswith(self._path + "/")):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and self._origins.allow(origin)
        if scope["method"] == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
            asked = headers.get("access-control-request-headers", "")
            await self._preflight(origin, asked, allowed=allowed)(scope, receive, send)
            return
        if origin is not None and not allowed and _is_cross_site(origin, headers):
            self._on_refused(origin, False)  # noqa: FBT003 - a callback's second argument

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

    def _preflight(self, origin: str, asked: str, *, allowed: bool) -> Response:
        vary = {"vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
        if not allowed:
            self._on_refused(origin, True)  # noqa: FBT003
            return problem(403, "origin-not-allowed", f"{origin[:200]!r} is not in PUBSUB_CORS_ORIGINS", vary)
        headers = {
            **vary,
            **self._allowed(origin),
            "access-control-allow-methods": METHODS,
            "access-control-allow-headers": ", ".join(_request_headers(asked)),
            "access-control-max-age": str(PREFLIGHT_SECONDS),
        }
        return Response(status_code=204, headers=headers)


def _request_headers(asked: str) -> list[str]:
    """Return the names of headers that a page may send: ours, and those that it asked for, as far as they are names."""
    names = list(REQUEST_HEADERS)
    if len(asked) <= ASKED_BYTES:
        known = {name.lower() for name in names}
        more = [name for name in (part.strip(" \t") for part in asked.split(",")) if _NAME.fullmatch(name)]
        names += list(dict.fromkeys(name for name in more if name.lower() not in known))[:ASKED_HEADERS]
    return names


def _is_cross_site(origin: str, headers: Headers) -> bool:
    """Whether a browser asks for a page of another origin, as far as it can be told."""
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    own = headers.get("host", "").lower()
    return origin.lower() not in (f"http://{own}", f"https://{own}")
