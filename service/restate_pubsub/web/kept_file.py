"""A file that is the same for everybody, and that a page of any origin may read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request


class KeptFile:
    """Its bytes and the headers that they are sent with."""

    def __init__(self, content: bytes, media_type: str) -> None:
        """Keep them."""
        self._content = content
        self._headers = {
            "content-type": media_type,
            "cache-control": "public, no-cache",  # asked for again after an update, but not sent again without one
            "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
            "access-control-allow-origin": "*",
            "cross-origin-resource-policy": "cross-origin",
            "x-content-type-options": "nosniff",
        }

    async def answer(self, request: Request) -> Response:
        """Answer `GET` and `HEAD`."""
        if request.headers.get("if-none-match") == self._headers["etag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)
