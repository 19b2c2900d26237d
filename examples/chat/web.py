"""The page's own server: it hands out the page, takes prompts, and passes on streams, stops and answers.

The page, `POST /prompt` and `/pubsub/…` share one origin, as they would behind one ingress controller: there,
rules send `/pubsub` and `/client` to the service, and this file ends at `prompt`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from yarl import URL

from serving import serve

INGRESS = os.environ.get("RESTATE_INGRESS_URL", "http://localhost:8080")
PUBSUB = os.environ.get("CHAT_PUBSUB_URL", "http://localhost:9080")
PAGE = Path(os.environ.get("CHAT_PAGE") or Path(__file__).parent / "page")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_PROMPT = 4000
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'"


def sessions(request: Request) -> aiohttp.ClientSession:
    """Return the connections that all requests share."""
    session: aiohttp.ClientSession = request.app.state.session
    return session


async def new_chat(_request: Request) -> Response:
    """`GET /`: go to a chat of one's own."""
    return RedirectResponse(f"/c/{secrets.token_hex(5)}", 303, {"cache-control": "no-store"})


async def page(_request: Request) -> Response:
    """`GET /c/{chat}`: the page; it reads the chat's name from its address."""
    headers = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}
    return FileResponse(PAGE / "index.html", headers=headers)


async def prompt(request: Request) -> Response:
    """`POST /prompt`: hand a prompt to the agent, and do not wait for the answer: that comes on the topic.

    The turn's name is the idempotency key, so the page may send a prompt again when it is not sure.
    """
    try:
        body = await request.json()
        chat, turn, text = (str(body[key]) for key in ("chat", "turn", "prompt"))
    except (ValueError, KeyError, TypeError):
        return JSONResponse({"error": "send chat, turn and prompt"}, 400)
    if not NAME.fullmatch(chat) or not NAME.fullmatch(turn) or not 0 < len(text.strip()) <= LONGEST_PROMPT:
        return JSONResponse({"error": f"a prompt has 1 to {LONGEST_PROMPT} characters"}, 400)
    try:
        async with sessions(request).post(
            f"{INGRESS}/agent/run/send",
            json={"chat": chat, "turn": turn, "prompt": text.strip()},
            headers={"idempotency-key": turn},
            timeout=aiohttp.ClientTimeout(10),
        ) as response:
            return JSONResponse({}, 202 if response.ok else 503)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return JSONResponse({"error": "Restate cannot be reached"}, 503)


def upstream_url(request: Request) -> URL:
    """Return where the service has what is asked for: as it came, since `..` must not lead out of /pubsub."""
    raw = request.scope["raw_path"].decode("ascii")
    return URL(f"{PUBSUB}{raw}?{request.url.query}", encoded=True)


async def control(request: Request) -> Response:
    """`POST /pubsub/{topic}?do=…`: pass a stop or an answer on; what else could be posted is the agent's to say.

    The service takes JSON alone, and no page of another site can send that without asking first.
    """
    if request.query_params.getlist("do") not in (["stop"], ["answer"]):
        return JSONResponse({"error": "send do=stop or do=answer"}, 400)
    headers = {name: value for name, value in request.headers.items() if name in ("content-type", "idempotency-key")}
    body = await request.body()
    try:
        async with sessions(request).post(
            upstream_url(request), data=body, headers=headers, timeout=aiohttp.ClientTimeout(30)
        ) as answer:
            kept = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
            return Response(await answer.read(), answer.status, kept)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return JSONResponse({"error": "the service cannot be reached"}, 502)


async def stream(request: Request) -> Response:
    """Pass a stream on, or the module that reads it: piece by piece, as a reverse proxy does that does not buffer."""
    headers = {name: value for name, value in request.headers.items() if name in ("accept", "last-event-id")}
    try:
        upstream = await sessions(request).get(upstream_url(request), headers=headers)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return JSONResponse({"error": "the service cannot be reached"}, 502)

    async def body() -> AsyncIterator[bytes]:
        async with upstream:
            with contextlib.suppress(aiohttp.ClientError, OSError):  # it was cut off: the browser comes back
                async for piece in upstream.content.iter_any():
                    yield piece

    kept = {
        name: value for name, value in upstream.headers.items() if name.lower() in ("content-type", "cache-control")
    }
    return StreamingResponse(body(), upstream.status, kept)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one pool of connections, without a limit: each open page holds one."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)  # the service's heartbeat is 15 s
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        app.state.session = session
        yield


app = Starlette(
    routes=[
        Route("/", new_chat),
        Route("/c/{chat}", page),
        Route("/prompt", prompt, methods=["POST"]),
        Route("/pubsub/{topic:path}", stream),
        Route("/pubsub/{topic:path}", control, methods=["POST"]),
        Route("/client/restate-pubsub.js", stream),
        Mount("/page", StaticFiles(directory=PAGE)),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    asyncio.run(serve(app, os.environ.get("CHAT_BIND", "127.0.0.1:8000")))
