"""Proxies that people write or configure in code: the page's code, in a program of a few lines around it."""

from __future__ import annotations

import sys
from pathlib import Path

from proxies.page import put
from proxies.place import LIMIT, Command, Place
from support.harness import ROOT
from support.node import NODE

NODE_MODULES = ROOT / "tests" / "clients" / "node_modules"


def http_proxy(place: Place, texts: list[str]) -> Command:
    """Everything goes through the page's proxy."""
    _with_modules(place)
    program = f"""
import http from "node:http";
import httpProxy from "http-proxy";
{put(texts[0], ("pubsub:9080", place.host))}
http.createServer((request, response) => proxy.web(request, response)).listen({place.port}, "127.0.0.1");
"""
    return [str(NODE), place.write("proxy.mjs", program)]


def vite(place: Place, texts: list[str]) -> Command:
    """The page's part of the configuration, in a folder without a page, whose files nobody changes."""
    _with_modules(place)
    text = put(texts[0], ("pubsub:9080", place.host), ("server: {", "server: {\n  watch: null,"))
    place.write("vite.config.mjs", f"export default {{\n{text}\n}};\n")
    command = NODE_MODULES / "vite" / "bin" / "vite.js"
    return [str(NODE), str(command), "--host", "127.0.0.1", "--port", str(place.port), "--strictPort"]


def nextjs_rewrites(place: Place, texts: list[str]) -> Command:
    """The page's configuration, built for production; compression is on by default."""
    text = put(texts[0], ("pubsub:9080", place.host), ("3_600_000", str(1000 * LIMIT)))
    place.write("next.config.mjs", text)
    return _built_next(place, "app")


def nextjs_handler(place: Place, texts: list[str]) -> Command:
    """The page's route, built for production; compression is on by default."""
    place.write("next.config.mjs", "export default {};\n")
    return _built_next(place, "app/pubsub/[...topic]", put(texts[1], ("pubsub:9080", place.host)))


def _built_next(
    place: Place, folder: str, route: str = "export function GET() { return new Response(); }\n"
) -> Command:
    modules = ROOT / "tests" / "proxies" / "nextjs" / "node_modules"
    (place.folder / "node_modules").symlink_to(modules)
    (place.folder / folder).mkdir(parents=True)
    place.write(f"{folder}/route.js", route)
    place.write("package.json", '{"type": "module"}')
    run = f"{NODE} {modules}/next/dist/bin/next"
    start = f"{run} build --webpack && exec {run} start --hostname 127.0.0.1 --port {place.port}"
    return ["env", "NEXT_TELEMETRY_DISABLED=1", "sh", "-c", start]


def fastapi(place: Place, texts: list[str]) -> Command:
    """The page's route, run by uvicorn."""
    place.write("pages.py", put(texts[0], ("pubsub:9080", place.host)))
    where = ["--app-dir", str(place.folder), "--host", "127.0.0.1", "--port", str(place.port)]
    return [sys.executable, "-m", "uvicorn", "pages:app", "--no-proxy-headers", "--log-level", "warning", *where]


def django(place: Place, texts: list[str]) -> Command:
    """The page's view, run by uvicorn; also with compression."""
    program = """
from django.conf import settings
from django.core.asgi import get_asgi_application

settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF="views", MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"]
)
application = get_asgi_application()
"""
    place.write("views.py", put(texts[0], ("pubsub:9080", place.host)))
    place.write("pubsub_site.py", program)
    where = ["--app-dir", str(place.folder), "--host", "127.0.0.1", "--port", str(place.port)]
    run = [sys.executable, "-m", "uvicorn", "pubsub_site:application", "--no-proxy-headers", "--log-level", "warning"]
    return [*run, "--lifespan", "off", *where]


def _with_modules(place: Place) -> None:
    link = Path(place.folder) / "node_modules"
    if not link.exists():
        link.symlink_to(NODE_MODULES)
