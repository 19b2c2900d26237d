"""A web server that is one origin for a page and the streams behind it, as an ingress controller would be."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
from aiohttp import web

from support.harness import Service, free_port

PASSED_ON = ("content-type", "x-workflow-stream-tail-index")


class Origin:
    """One origin for the page and the streams: serves the page, hands `/pubsub` on as it comes.

    Where the service cannot be reached it breaks the connection, or answers 502 if it is a `gateway`. A stream that is
    cut off behind it is cut off before it, or ends as if it were whole if it is `tidy`, as nginx and others do.
    """

    def __init__(
        self, page: str, *, gateway: bool = False, tidy: bool = False, files: Mapping[str, Path] | None = None
    ) -> None:
        """`page` is HTML, the same at every other path; `files` are folders by the path that they are served at."""
        self.html = page
        self.gateway = gateway
        self.tidy = tidy
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[tuple[int, str | None]] = []
        """Status of each request, and where it goes on: `Last-Event-ID`, or the query's."""
        self.passed = b""
        """All bytes of streams, in the order in which they passed."""
        self._files = files or {}
        self._service: Service | None = None
        self._open: set[aiohttp.ClientResponse] = set()

    def cut(self) -> None:
        """Break all streams that are open now."""
        for upstream in self._open:
            upstream.close()

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._service is not None
        last = request.headers.get("last-event-id") or request.query.get("lastEventId")
        names = ("last-event-id", "cookie", "accept", "authorization", "content-type", "idempotency-key")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        answer = web.StreamResponse(headers={"cache-control": "no-store"})
        url = self._service.url + request.raw_path
        try:
            async with (
                contextlib.AsyncExitStack() as stack,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None, sock_connect=5)) as session,
                session.request(request.method, url, headers=headers, data=await request.read()) as upstream,
            ):
                self.requests.append((upstream.status, last))
                self._open.add(upstream)
                stack.callback(self._open.discard, upstream)
                answer.set_status(upstream.status)
                answer.headers.update({name: upstream.headers[name] for name in PASSED_ON if name in upstream.headers})
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    self.passed += chunk
                    await answer.write(chunk)
        except (aiohttp.ClientError, ConnectionError):
            if self.gateway and not answer.prepared:
                self.requests.append((502, last))
                return web.Response(status=502)
            if self.tidy and answer.prepared:
                return answer
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
        app.router.add_get("/pubsub", self.pass_on)
        app.router.add_get("/pubsub/{topic:.*}", self.pass_on)
        app.router.add_post("/pubsub/{topic:.*}", self.pass_on)
        for path, folder in self._files.items():
            app.router.add_get(path + "/{name:.*}", functools.partial(_file, folder))
        app.router.add_get("/{topic:.*}", self.page)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()


async def _file(folder: Path, request: web.Request) -> web.FileResponse:
    """Serve a file; an import without an extension is a module's, as bundlers take it."""
    path = folder / request.match_info["name"]
    return web.FileResponse(path if path.suffix else path.with_suffix(".js"))
