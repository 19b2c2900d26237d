"""The operators' page under `/console`: one static page that follows a topic, and this process's figures as JSON.

It is off by default (`PUBSUB_CONSOLE`): the figures name topics. Reading and publishing go through the streams' own
routes and are refused there like anybody's; the page only speaks to where it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from restate_pubsub.web.paths import CONSOLE

if TYPE_CHECKING:
    from restate_pubsub.fanout.hub import Hub
    from restate_pubsub.settings.fields import Settings
    from restate_pubsub.telemetry.metrics import Metrics
    from restate_pubsub.web.blocked_topics import BlockedTopics
    from restate_pubsub.web.health import Health

TOPICS_SHOWN = 100
"""Topics in the figures, those with the most readers: the answer stays small at any number of topics."""
FILES = ("", "console.css", "console.js", "talk.js")
"""The page itself has no name of its own."""
CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class Console:
    """The page's routes, around one process's parts."""

    def __init__(
        self, settings: Settings, *, hub: Hub, health: Health, blocked: BlockedTopics, metrics: Metrics
    ) -> None:
        """Keep what the figures are made from."""
        self._settings = settings
        self._hub = hub
        self._health = health
        self._blocked = blocked
        self._metrics = metrics

    def routes(self) -> Sequence[BaseRoute]:
        """Return what to mount."""
        return [
            Route(CONSOLE, _to_the_page),
            *(_static(name) for name in FILES),
            Route(f"{CONSOLE}/figures", self.figures),
        ]

    async def figures(self, _request: Request) -> Response:
        """`GET /console/figures`: what this process does now; counters count from its start."""
        reason = self._health.not_ready
        body: dict[str, Any] = {
            "version": version("restate-pubsub"),
            "replica": self._hub.replica,
            "ready": reason is None,
            "code": self._health.code,
            "reason": reason,
            "blocked": [holder._asdict() for holder in self._blocked.now[:TOPICS_SHOWN]],
            "streamsPath": self._settings.sse_path,
            "publishEnabled": self._settings.publish_enabled,
            "heartbeatSeconds": self._settings.heartbeat,
            "topics": [asdict(figures) for figures in self._hub.busiest(TOPICS_SHOWN)],
            **self._metrics.figures(),
        }
        return JSONResponse(body, headers={"cache-control": "no-store", "x-content-type-options": "nosniff"})


async def _to_the_page(_request: Request) -> Response:
    # Relative, as all addresses of the page are: they hold behind a proxy that serves all of this under a prefix.
    return RedirectResponse("console/")


def _static(name: str) -> Route:
    file = name or "console.html"
    content = (files("restate_pubsub.web.console") / "static" / file).read_bytes()
    headers = HEADERS | {"content-type": f"{CONTENT_TYPES[file.rpartition('.')[2]]}; charset=utf-8"}

    async def serve(_request: Request) -> Response:
        return Response(content, headers=headers)

    return Route(f"{CONSOLE}/{name}", serve)
