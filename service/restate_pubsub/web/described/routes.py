"""`GET /client/openapi.json` and `/client/asyncapi.json`.

The public address of two describes what it serves itself, and not what is behind it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute, Route

from restate_pubsub.web.described.asyncapi import asyncapi
from restate_pubsub.web.described.openapi import openapi
from restate_pubsub.web.kept_file import KeptFile
from restate_pubsub.web.middleware.public_port import is_public
from restate_pubsub.web.paths import ASYNCAPI, OPENAPI

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from restate_pubsub.settings.fields import Settings


def routes(settings: Settings) -> Sequence[BaseRoute]:
    """Return what to mount."""
    outside, inside = (_kept(openapi(settings, public=public)) for public in (True, False))

    async def routes_described(request: Request) -> Response:
        return await (outside if is_public(request) else inside).answer(request)

    return [Route(OPENAPI, routes_described), Route(ASYNCAPI, _kept(asyncapi(settings)).answer)]


def _kept(description: dict[str, Any]) -> KeptFile:
    return KeptFile(json.dumps(description, indent=1).encode(), "application/json")
