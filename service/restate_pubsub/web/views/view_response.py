"""A view as an HTTP response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from restate_pubsub.web.stream_response import StreamResponse
from restate_pubsub.web.views.view_reader import Cut

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class ViewResponse(StreamResponse):
    """Ends cleanly only where the client may take that for the end of the answer; otherwise its connection breaks off.

    It returns without the body's last part, which every server answers by closing the connection, or the stream of one
    that others share.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the view ends, the client goes, its time is up, or it takes nothing for too long."""
        try:
            await super().__call__(scope, receive, send)
        except* Cut:
            pass  # without the last part of the body
