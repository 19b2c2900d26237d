"""Each program with its configuration from docs/proxies.md, in a frame that lets it run unprivileged on loopback.

What the page leaves to its reader is the frame's: certificates (here there is no TLS), users, folders, modules. The
time limits of the page are shortened, so that a test sees what happens after them, and compression is switched on.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from proxies.in_code import django, fastapi, http_proxy, nextjs_handler, nextjs_rewrites, vite
from proxies.page import blocks, put, section
from proxies.place import LIMIT, Command, Place
from support.harness import listens
from support.programs import program
from support.waiting import PATIENCE, until

FULL = os.environ.get("PROXIES") == "all"
"""`make test-proxies`: all programs. Otherwise those that most people have."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A program, its section's heading, and how it is run with the page's text."""

    heading: str
    language: str
    command: Callable[[Place, list[str]], Command]
    http2: str = ""
    """Whether it speaks HTTP/2 to clients: on the port for all (`same`), or on one of its own."""
    uploads: bool = True
    """Whether the page's configuration is for uploads, too."""
    addresses: bool = True
    """Whether it says which address its client has."""
    patience: float = PATIENCE
    """Seconds that it may take to start."""


def nginx(place: Place, texts: list[str]) -> Command:
    """Also with compression."""
    server = put(
        texts[0],
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{place.port}; listen 127.0.0.1:{place.http2} http2;"),
        ("pubsub:9080", place.host),
        ("1h", f"{LIMIT}s"),
    )
    temporary = " ".join(
        f"{kind}_temp_path {place.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""
        daemon off; worker_processes 1; pid {place.folder}/pid; error_log stderr;
        events {{ worker_connections 4096; }}
        http {{ access_log off; {temporary} gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0;
        {server}
        }}"""
    return [program("nginx"), "-p", str(place.folder), "-e", "stderr", "-c", place.write("nginx.conf", config)]


def haproxy(place: Place, texts: list[str]) -> Command:
    """Also with compression."""
    binds = f"bind 127.0.0.1:{place.port}\n  bind 127.0.0.1:{place.http2} proto h2"
    text = put(
        texts[0],
        (
            "bind :443 ssl crt /etc/haproxy/site.pem alpn h2,http/1.1",
            f"{binds}\n  compression algo gzip\n  compression type text/event-stream",
        ),
        ("pubsub:9080", place.host),
        ("1h", f"{LIMIT}s"),
    )
    config = f"global\n  tune.h2.max-concurrent-streams 512\n\n{text}"
    return [program("haproxy"), "-db", "-q", "-f", place.write("haproxy.cfg", config)]


def caddy(place: Place, texts: list[str]) -> Command:
    """Its own compression is in the page."""
    text = put(texts[0], ("example.org", f"http://:{place.port}"), ("pubsub:9080", place.host))
    config = f"{{\n  admin off\n  auto_https off\n  servers {{\n    protocols h1 h2 h2c\n  }}\n}}\n{text}"
    return [in_environment("caddy"), "run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", config)]


def envoy(place: Place, texts: list[str]) -> Command:
    """The page has the part that matters, of the connection manager."""
    manager = put(texts[0], ("3600s", f"{LIMIT}s"))
    indented = "".join(f"          {line}\n" for line in manager.splitlines())
    host, _, port = place.host.rpartition(":")
    config = f"""
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {place.port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
{indented}
  clusters:
  - name: pubsub
    load_assignment:
      cluster_name: pubsub
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port}}}}}}}
"""
    path = place.write("envoy.yaml", config)
    return [in_environment("envoy"), "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]


def traefik(place: Place, texts: list[str]) -> Command:
    """Its static configuration and its routes."""
    routes = place.write("routes.yml", put(texts[1], ("pubsub:9080", place.host)))
    static = put(texts[0], (":80", f"127.0.0.1:{place.port}"), ("/etc/traefik/pubsub.yml", routes))
    text = f"{static}global: {{checkNewVersion: false, sendAnonymousUsage: false}}\nlog: {{level: ERROR}}\n"
    return [in_environment("traefik"), f"--configFile={place.write('traefik.yml', text)}"]


def apache(place: Place, texts: list[str]) -> Command:
    """Also with compression."""
    text = put(texts[0], ("*:443", f"127.0.0.1:{place.port}"), ("pubsub:9080", place.host), ("3600", str(LIMIT)))
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "reqtimeout", "deflate", "filter", "env")
    loaded = "\n".join(
        f"LoadModule {name}_module {path}"
        for name in modules
        if (path := Path(f"/usr/lib/apache2/modules/mod_{name}.so")).exists()
    )
    config = f"""
ServerRoot {place.folder}
ServerName test
PidFile pid
DefaultRuntimeDir {place.folder}
ErrorLog /dev/stderr
{loaded}
Listen 127.0.0.1:{place.port}
AddOutputFilterByType DEFLATE text/event-stream
{text}"""
    return [program("apache2"), "-X", "-f", place.write("apache.conf", config)]


def varnish(place: Place, texts: list[str]) -> Command:
    """With the parameters that the page wants."""
    host, _, port = place.host.rpartition(":")
    vcl = put(texts[0], ('"pubsub"', f'"{host}"'), ('"9080"', f'"{port}"'), ("1h", f"{LIMIT}s"))
    parameters = [word for word in section("Varnish").replace("`", " ").split() if "_timeout=" in word]
    given = [part for word in parameters for part in ("-p", word)]
    address = ["-a", f"127.0.0.1:{place.port}", "-n", str(place.folder), "-f", place.write("site.vcl", vcl)]
    return [program("varnishd"), "-F", "-j", "none", "-s", "malloc,16m", *address, *given]


def squid(place: Place, texts: list[str]) -> Command:
    """Nothing is cached or logged."""
    host, _, port = place.host.rpartition(":")
    text = put(
        texts[0],
        ("http_port 80", f"http_port 127.0.0.1:{place.port}"),
        ("peer pubsub parent 9080", f"peer {host} parent {port}"),
        ("1 hour", f"{LIMIT} seconds"),
    )
    folder = place.folder
    config = f"""{text}
pid_filename {folder}/pid
access_log none
cache_log {folder}/cache.log
cache_store_log none
coredump_dir {folder}
shutdown_lifetime 0 seconds
cache_effective_user {os.environ.get("USER", "root") if os.getuid() else "proxy"}
pinger_enable off
"""
    place.folder.chmod(0o777)
    return [program("squid"), "-N", "-n", f"test{place.port}", "-f", place.write("squid.conf", config)]


def lighttpd(place: Place, texts: list[str]) -> Command:
    """Without HTTP/2, as the page says."""
    host, _, port = place.host.rpartition(":")
    text = put(texts[0], ('"pubsub"', f'"{host}"'), ("9080", port))
    config = f"""
server.document-root = "{place.folder}"
server.bind = "127.0.0.1"
server.port = {place.port}
server.feature-flags = ("server.h2proto" => "disable")
{text}"""
    return [program("lighttpd"), "-D", "-f", place.write("lighttpd.conf", config)]


async def passes_on(url: str) -> bool:
    """Whether a request for a stream reaches the service."""
    async with aiohttp.ClientSession() as session, session.head(f"{url}/pubsub/ready") as answer:
        return answer.content_type == "text/event-stream"


def in_environment(name: str) -> str:
    """Return a program that a Python package brings, or the system has."""
    ours = Path(sys.prefix) / "bin" / name
    return str(ours) if ours.exists() else program(name)


SHORT = {
    "nginx": Program("nginx", "nginx", nginx, http2="own"),
    "haproxy": Program("HAProxy", "haproxy", haproxy, http2="own"),
    "envoy": Program("Envoy and Gateway API", "yaml", envoy, http2="same"),
    "caddy": Program("Caddy", "caddyfile", caddy, http2="same"),
}
MORE = {
    "apache": Program("Apache httpd", "apache", apache),
    "traefik": Program("Traefik", "yaml", traefik, http2="same"),
    "varnish": Program("Varnish", "vcl", varnish),
    "squid": Program("Squid", "squid", squid),
    "lighttpd": Program("lighttpd", "lighttpd", lighttpd),
    "http-proxy": Program("Node `http-proxy`", "js", http_proxy),
    "vite": Program("Vite", "js", vite),
    "nextjs-rewrites": Program("Next.js", "js", nextjs_rewrites, addresses=False, patience=150),
    "nextjs-handler": Program("Next.js", "js", nextjs_handler, uploads=False, addresses=False, patience=150),
    "fastapi": Program("FastAPI and Starlette", "python", fastapi, uploads=False),
    "django": Program("Django", "python", django, uploads=False),
}
PROGRAMS = SHORT | (MORE if FULL else {})


@dataclasses.dataclass(frozen=True)
class Running:
    """A program that runs."""

    name: str
    url: str
    http2: int | None
    """Where it takes HTTP/2 without TLS."""
    uploads: bool
    addresses: bool


@contextlib.asynccontextmanager
async def running(name: str, target: str, folder: Path, change: tuple[str, str] = ("", "")) -> AsyncIterator[Running]:
    """Run a program before a service; `change` puts other words for some of the page's."""
    what = (SHORT | MORE)[name]
    place = Place(folder, target.removeprefix("http://"))
    texts = blocks(what.heading, what.language)
    assert any(change[0] in text for text in texts), f"{change[0]!r} is not in the section {what.heading}"
    command = what.command(place, [text.replace(*change) if change[0] else text for text in texts])
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=folder)
    try:

        async def ready() -> bool:
            if process.returncode is not None:
                pytest.fail(f"{name} ended with {process.returncode}:\n{(folder / 'log').read_text()}")
            return await listens(place.port) and await passes_on(f"http://127.0.0.1:{place.port}")

        await until(ready, f"{name} to reach the service", what.patience)
        http2 = {"": None, "own": place.http2, "same": place.port}[what.http2]
        yield Running(name, f"http://127.0.0.1:{place.port}", http2, what.uploads, what.addresses)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()
