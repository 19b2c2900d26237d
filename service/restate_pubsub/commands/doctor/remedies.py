"""Which line of which program's configuration mends a fault: those of docs/proxies.md."""

from __future__ import annotations

from collections.abc import Mapping

PAGE = "docs/proxies.md"

REMEDIES: Mapping[str, Mapping[str, str]] = {
    "held back": {
        "nginx": "proxy_buffering off;",
        "lighttpd": "server.stream-response-body = 2",
    },
    "late": {"HAProxy": "option http-no-delay"},
    "cut": {
        "nginx": "proxy_read_timeout 1h;",
        "Apache httpd": "ProxyTimeout 3600",
        "HAProxy": "timeout server 1h",
        "Envoy and Gateway API": "timeout: 0s",
        "Varnish": "-p send_timeout=3600",
        "Squid": "read_timeout 1 hour",
        "AWS ALB": "idle_timeout.timeout_seconds=3600",
    },
    "uploads held back": {
        "nginx": "proxy_http_version 1.1; proxy_request_buffering off;",
        "Apache httpd": "SetEnv proxy-prefetch-nonblocking 1",
        "lighttpd": "server.stream-request-body = 2",
        "ingress-nginx": 'nginx.ingress.kubernetes.io/proxy-request-buffering: "off"',
    },
    "uploads cut": {
        "nginx": "client_body_timeout 1h;",
        "Apache httpd": "RequestReadTimeout body=0",
        "HAProxy": "timeout client 1h",
        "Traefik": "respondingTimeouts: {readTimeout: 0}",
    },
    "few streams": {
        "nginx": "http2_max_concurrent_streams 512;",
        "Apache httpd": "Protocols http/1.1",
        "HAProxy": "tune.h2.max-concurrent-streams 512",
        "Envoy and Gateway API": "http2_protocol_options: {max_concurrent_streams: 512}",
        "Traefik": "http2: {maxConcurrentStreams: 512}",
        "lighttpd": 'server.feature-flags = ("server.h2proto" => "disable")',
    },
    "no address": {
        "nginx": "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "HAProxy": "option forwardfor",
        "Envoy and Gateway API": "use_remote_address: true",
        "Node `http-proxy`": "xfwd: true",
        "Next.js": "leave Next.js out of `PUBSUB_TRUSTED_PROXIES`",
    },
}
"""By fault, then by the heading of the program's section."""

SIGNS: tuple[tuple[str, str], ...] = (
    ("nginx", "nginx"),
    ("apache", "Apache httpd"),
    ("envoy", "Envoy and Gateway API"),
    ("caddy", "Caddy"),
    ("varnish", "Varnish"),
    ("squid", "Squid"),
    ("lighttpd", "lighttpd"),
    ("cloudflare", "Cloudflare"),
    ("awselb", "AWS ALB"),
    ("next.js", "Next.js"),
)


def recognised(headers: Mapping[str, str]) -> list[str]:
    """Return the programs that an answer's headers name, by their sections' headings. Many do not say."""
    told = " ".join(headers.get(name, "") for name in ("server", "via", "x-powered-by")).lower()
    return [program for sign, program in SIGNS if sign in told]


def remedies(fault: str, programs: list[str]) -> list[str]:
    """Return lines that say how to mend a fault: for the programs that were recognised, or for all it may be."""
    known = REMEDIES[fault]
    likely = [program for program in programs if program in known] or list(known)
    return [f"{program}: {known[program]} ({PAGE}#{anchor(program)})" for program in likely]


def anchor(heading: str) -> str:
    """Return a heading's anchor."""
    return "".join(sign for sign in heading.lower().replace(" ", "-") if sign.isalnum() or sign in "-_")
