"""Where everything is that has a fixed path. The streams' own path is a setting, which may overlap none of these."""

from __future__ import annotations

LIVE, READY = "/health/live", "/health/ready"
METRICS = "/metrics"
CONSOLE = "/console"
PAGE_CLIENT = "/client/restate-pubsub.js"
OPENAPI, ASYNCAPI = "/client/openapi.json", "/client/asyncapi.json"

HEALTH = frozenset({LIVE, READY})
FOR_PAGES = frozenset({PAGE_CLIENT, OPENAPI, ASYNCAPI})
"""Beside the streams and not below their path, where they would hide topics. They need no token."""
