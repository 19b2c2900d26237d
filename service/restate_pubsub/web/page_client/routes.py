"""`GET /client/restate-pubsub.js`: a module for pages without a build, of the same version as the service.

Its path is beside the streams' and not below it, where it would hide a topic. A page of any origin may import it: it
holds nothing of this service's. The file is made by `make client`, and kept, so that nothing here needs Node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

PATH = "/client/restate-pubsub.js"
_CONTENT = (files("restate_pubsub.web.page_client") / "restate-pubsub.js").read_bytes()
_HEADERS = {
    "content-type": "text/javascript; charset=utf-8",
    "cache-control": "public, no-cache",  # asked for again after an update, but not sent again without one
    "etag": f'"{hashlib.sha256(_CONTENT).hexdigest()[:32]}"',
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
}


def routes() -> Sequence[BaseRoute]:
    """Return what to mount."""
    return [Route(PATH, _serve)]


async def _serve(request: Request) -> Response:
    if request.headers.get("if-none-match") == _HEADERS["etag"]:
        return Response(status_code=304, headers=_HEADERS)
    return Response(_CONTENT, headers=_HEADERS)
