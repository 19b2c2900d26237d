"""What orchestrators and monitoring ask: whether the process lives, whether it is ready, its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.web.middleware.public_port import is_public
from restate_pubsub.web.paths import LIVE, METRICS, READY

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from restate_pubsub.web.health import Health


class Probes:
    """`/health/live`, `/health/ready` and `/metrics`."""

    def __init__(self, health: Health, registry: CollectorRegistry) -> None:
        """Answer from `health` and `registry`."""
        self._health = health
        self._registry = registry

    def routes(self) -> list[BaseRoute]:
        """Return what to mount."""
        return [
            Route(LIVE, self.live),
            Route(READY, self.ready),
            Route(METRICS, self.metrics),
        ]

    async def live(self, _request: Request) -> Response:
        """`GET /health/live`: the event loop turns."""
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """`GET /health/ready`: 503 with code and reason until Restate calls this object, and while draining.

        `?object=optional`: 503 only until Restate has answered once, and while draining. It is for what decides where
        new streams go, and must do so before the object is registered and while Restate is away: streams wait for
        both, but a browser whose connection is answered with a 503 does not come back.
        """
        wanted = request.query_params.get("object", "required")
        if wanted not in ("required", "optional"):
            msg = f"object {wanted[:80]!r} is neither required nor optional"
            raise InvalidRequest(msg)
        reason = self._health.not_ready if wanted == "required" else self._health.not_serving
        if reason is None:
            return JSONResponse({"status": "ready"})
        if is_public(request):  # the reason names addresses behind this one
            return JSONResponse({"status": "not ready"}, 503)
        return JSONResponse({"status": "not ready", "code": self._health.code, "reason": reason}, 503)

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`: Prometheus' text format."""
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})
