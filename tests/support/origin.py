"""A web server that is one origin for a page and the streams behind it, as an ingress controller would be."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from support.harness import Service, free_port


class Origin:
    """One origin for the page and the streams: serves the page, hands `/pubsub` on as it comes.

    Where the service cannot be reached it breaks the connection, or answers 502 if it is a `gateway`.
    """

    def __init__(self, page: str, *, gateway: bool = False) -> None:
        """`page` is HTML, the same at every other path."""
        self.html = page
        self.gateway = gateway
        self.port = free_port()
        self.requests: list[tuple[int, str | None]] = []
        """Status and `Last-Event-ID` of each request for a stream."""
        self._service: Service | None = None

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._service is not None
        last = request.headers.get("last-event-id")
        headers = {name: request.headers[name] for name in ("last-event-id", "cookie") if name in request.headers}
        answer = web.StreamResponse(headers={"cache-control": "no-store"})
        url = self._service.url + request.raw_path
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None, sock_connect=5)) as session,
                session.get(url, headers=headers) as upstream,
            ):
                self.requests.append((upstream.status, last))
                answer.set_status(upstream.status)
                if "content-type" in upstream.headers:
                    answer.headers["content-type"] = upstream.headers["content-type"]
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
        except (aiohttp.ClientError, ConnectionError):
            if self.gateway and not answer.prepared:
                self.requests.append((502, last))
                return web.Response(status=502)
            # Nobody there, or cut off: so is the browser, which comes back. A 502 would stop it for good.
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def page(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.html, content_type="text/html")

    @contextlib.asynccontextmanager
    async def serving(self, service: Service) -> AsyncIterator[Origin]:
        self._service = service
        app = web.Application()
        app.router.add_get("/pubsub/{topic:.*}", self.pass_on)
        app.router.add_get("/{topic:.*}", self.page)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        yield self
        await runner.cleanup()
