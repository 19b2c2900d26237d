"""Which address serves what, and what stands open: two addresses, and the warning without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from restate_pubsub.web.errors import not_found
from restate_pubsub.web.paths import FOR_PAGES, HEALTH, METRICS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from restate_pubsub.settings.fields import Settings

PUBLIC = "restate_pubsub.public"
"""In a request's scope: it came in at the public address, so be brief about what is behind."""


class PublicPort:
    """ASGI middleware: at the public ports only the streams, what pages need for them, and the health exist.

    At the metrics' port only the metrics and the health do: whoever scrapes is not who may invoke the object.
    """

    def __init__(
        self, app: ASGIApp, *, public_ports: Collection[int], sse_path: str, metrics_port: int | None = None
    ) -> None:
        """A request belongs to the local port of its connection, which no header can change."""
        self._app = app
        self._ports = frozenset(public_ports)
        self._metrics_port = metrics_port
        self._several = sse_path
        self._streams = sse_path + "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is allowed there.

        Raises:
            Refused: the rest does not exist.

        """
        if scope["type"] == "websocket":  # nothing here speaks it, least of all the mounted Restate endpoint
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] == "http":
            port, path = (scope.get("server") or (None, None))[1], scope["path"]
            public = port in self._ports
            exists = path in HEALTH or (
                path in FOR_PAGES or path == self._several or path.startswith(self._streams)
                if public
                else path == METRICS
            )
            if (public or (port is not None and port == self._metrics_port)) and not exists:
                raise not_found(path)
            if public:
                scope[PUBLIC] = True
        await self._app(scope, receive, send)


def is_public(request: Request) -> bool:
    """Whether the request came in at the public address of two."""
    return bool(request.scope.get(PUBLIC, False))


def public_ports(ports: Sequence[int]) -> set[int]:
    """Return the ports that serve only the streams: the first one, if there is another; none if it is alone."""
    return set(ports[:1]) if len(set(ports)) > 1 else set()


def left_open(settings: Settings) -> list[str]:
    """Return a sentence for each thing that anybody may do who can connect: what, and how to end it."""
    open_: list[str] = []
    if settings.jwt_key is None and settings.jwks_url is None:
        may = "read, write and control (stop agents, answer their questions in)" if settings.publish_enabled else "read"
        open_.append(f"{may} every topic at {settings.sse_path}: set PUBSUB_JWT_KEY or PUBSUB_JWKS_URL")
    ports = [int(bind.rpartition(":")[2]) for bind in settings.bind]
    if not settings.identity_keys and not public_ports(ports):
        open_.append(
            f"invoke the object at {settings.restate_path}: set PUBSUB_RESTATE_IDENTITY_KEYS, or give "
            "PUBSUB_BIND a second, internal address"
        )
    return open_
