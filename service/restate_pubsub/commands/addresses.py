"""Where this service is, as told by its settings: what `register` tells Restate, and what `dev` tells people."""

from __future__ import annotations

from restate_pubsub.settings.fields import Settings


def restate_endpoint(settings: Settings) -> str:
    """Return the URL of the Restate endpoint on this machine."""
    # Of two addresses the first serves only the streams; the last one always serves Restate.
    return address(settings.bind[-1]) + settings.restate_path


def address(bind: str) -> str:
    """Return the URL at which a listen address is reached from this machine."""
    host, _, port = bind.rpartition(":")
    if host in ("", "0.0.0.0", "[::]"):  # noqa: S104 - these are read, not bound
        host = "localhost"
    return f"http://{host}:{port}"
