"""Streams come far more often than pages ask for anything else, and need little of what other requests need.

They go past the layers as invocations do (`invocations.py`); what a layer has to add to an answer is added here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from restate_pubsub.web.stream_response import StreamResponse
from restate_pubsub.web.wire import TAKE_OVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response | StreamResponse]]

_OUTCOME = "restate_pubsub.outcome"


class StreamsFirst:
    """A layer around `app`. A request for a topic's stream that may take its connection over goes to `endpoint` first.

    If the answer is such a stream, that is all. What else the endpoint answers or raises comes out of `AfterStreams`,
    below the layers of `app`, which do with it what they do with every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoint: Endpoint,
        around: Callable[[ASGIApp], ASGIApp],
        *,
        sse_path: str,
        closed_ports: Collection[int],
    ) -> None:
        """`around` is the layer that adds to the head of a stream; at `closed_ports` there are no streams."""
        self._app = app
        self._endpoint = endpoint
        self._stream = around(_answer)
        self._path = sse_path + "/"
        self._closed = frozenset(closed_ports)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open a stream, and hand everything else on."""
        if (
            scope["type"] != "http"
            or TAKE_OVER not in (scope.get("extensions") or ())
            or not scope["path"].startswith(self._path)
            or (scope.get("server") or (None, None))[1] in self._closed
        ):
            await self._app(scope, receive, send)
            return
        try:
            outcome: Response | StreamResponse | Exception = await self._endpoint(Request(scope, receive))
        except Exception as error:  # noqa: BLE001 - the layers below answer it
            outcome = error
        leaves = isinstance(outcome, StreamResponse) and outcome.leaves(scope)
        scope[_OUTCOME] = outcome
        del outcome  # an error refers to this frame, and may not be referred to by it: each refusal would be a circle
        await (self._stream if leaves else self._app)(scope, receive, send)


class AfterStreams:
    """What stands for the endpoint below the other layers: it gives out what there is already, and serves the rest."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Serve `endpoint`."""
        self._endpoint = endpoint

    async def __call__(self, request: Request) -> Response | StreamResponse:
        """Serve; nothing is asked twice.

        Raises:
            PubsubError: refused.

        """
        outcome: Response | StreamResponse | Exception | None = request.scope.pop(_OUTCOME, None)
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome
        return await self._endpoint(request) if outcome is None else outcome


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await scope.pop(_OUTCOME)(scope, receive, send)
