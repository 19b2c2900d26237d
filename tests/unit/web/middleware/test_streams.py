"""The short way of streams, and the long way of everything else that is asked of a topic."""

from __future__ import annotations

import contextlib
import gc
from functools import partial
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from restate_pubsub.errors import OffsetGone
from restate_pubsub.settings.origins import Origins
from restate_pubsub.web.errors import Errors
from restate_pubsub.web.middleware.answer_errors import AnswerErrors
from restate_pubsub.web.middleware.cors import Cors
from restate_pubsub.web.middleware.public_port import PublicPort
from restate_pubsub.web.middleware.streams import AfterStreams, StreamsFirst
from restate_pubsub.web.stream_response import StreamResponse
from restate_pubsub.web.wire import TAKE_OVER

INTERNAL, METRICS = 9000, 9100
OTHER_SITE = "https://other.example"


class Stream(StreamResponse):
    """A stream without a reader: it says that it has begun."""

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves

    def leaves(self, scope: Scope) -> bool:
        return self._leaves and TAKE_OVER in scope["extensions"]

    async def __call__(self, _scope: Scope, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-stream", b"yes")]})
        await send({"type": "http.response.body", "body": b"stream"})


class Asked:
    """Asks the layers for a topic."""

    def __init__(self, outcome: Response | StreamResponse | Exception) -> None:
        self.outcome = outcome
        self.endpoint_calls = 0
        self.past_the_layers = 0
        self.refused: list[str] = []
        self.origins: list[str] = []

    async def endpoint(self, _request: Request) -> Response | StreamResponse:
        self.endpoint_calls += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def get(self, *, port: int = INTERNAL, path: str = "/pubsub/a/b", offered: bool = True) -> tuple[int, Any]:
        """Return the status and the headers."""
        around = partial(
            Cors,
            path="/pubsub",
            origins=Origins(("https://page.example",)),
            on_refused=lambda origin, _preflight: self.origins.append(origin),
        )
        route = Route("/pubsub/{topic:path}", AfterStreams(self.endpoint).__call__)
        layers = Starlette(
            routes=[route],
            middleware=[
                Middleware(AnswerErrors, errors=Errors(self.refused.append)),
                Middleware(PublicPort, public_ports=(), sse_path="/pubsub", metrics_port=METRICS),
                Middleware(around),
            ],
        )

        async def counted(scope: Scope, receive: Any, send: Any) -> None:
            self.past_the_layers -= 1
            await layers(scope, receive, send)

        app = StreamsFirst(counted, self.endpoint, around, sse_path="/pubsub", closed_ports={METRICS})
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"here.example"), (b"origin", OTHER_SITE.encode())],
            "server": ("127.0.0.1", port),
            "extensions": {TAKE_OVER: None} if offered else {},
        }
        self.past_the_layers += 1
        await app(scope, receive, send)
        return sent[0]["status"], dict(cast("list[tuple[bytes, bytes]]", sent[0]["headers"]))


async def test_a_stream_that_takes_its_connection_goes_past_the_layers() -> None:
    """It is answered as it would be behind them: with what is for pages of other sites."""
    asked = Asked(Stream(leaves=True))
    short = await asked.get()
    assert (asked.past_the_layers, asked.endpoint_calls, asked.origins) == (1, 1, [OTHER_SITE])
    assert short == (200, {b"x-stream": b"yes", b"vary": b"Origin"})
    assert short == await asked.get(offered=False)
    assert asked.past_the_layers == 1


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize(
    ("outcome", "status", "refused"),
    [
        (OffsetGone(3, 5), 410, ["offset-gone"]),
        (ValueError("a fault"), 500, ["internal"]),
        (Response(status_code=204), 204, []),
        (Stream(leaves=False), 200, []),
    ],
)
async def test_everything_else_comes_out_below_the_layers(
    outcome: Response | StreamResponse | Exception, status: int, refused: list[str], *, offered: bool
) -> None:
    """The endpoint is asked once, whatever it says, and the layers see the answer."""
    asked = Asked(outcome)
    answered, headers = await asked.get(offered=offered)
    assert (answered, asked.refused, asked.endpoint_calls, asked.past_the_layers) == (status, refused, 1, 0)
    assert asked.origins == [OTHER_SITE]
    assert status >= 400 or headers[b"vary"] == b"Origin"


class Refused(Exception):
    """A refusal of its own."""


async def test_a_refusal_leaves_no_circle_to_the_collector() -> None:
    """A crowd that is refused would leave thousands."""

    async def refuse(_request: Request) -> Response:
        raise Refused

    async def answered(request: Request, send: Any) -> None:
        with contextlib.suppress(Refused):
            await AfterStreams(refuse)(request)
        await send({"type": "http.response.start", "status": 403, "headers": []})

    async def layers(scope: Scope, receive: Any, send: Any) -> None:
        await answered(Request(scope, receive), send)

    app = StreamsFirst(layers, refuse, lambda app: app, sse_path="/pubsub", closed_ports=())
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            scope = {"type": "http", "path": "/pubsub/a", "server": None, "extensions": {TAKE_OVER: None}}
            await app(scope, cast("Any", None), AsyncMock())
            del scope
        assert [] == [one for one in gc.get_objects() if isinstance(one, Refused)]
    finally:
        gc.enable()


@pytest.mark.parametrize(("port", "path"), [(METRICS, "/pubsub/a"), (INTERNAL, "/other/a"), (INTERNAL, "/pubsub-b/a")])
async def test_where_there_are_no_streams_none_is_opened(port: int, path: str) -> None:
    """Neither at the port of the metrics, nor at another path."""
    asked = Asked(Stream(leaves=True))
    assert (await asked.get(port=port, path=path))[0] == 404
    assert (asked.endpoint_calls, asked.past_the_layers) == (0, 0)
