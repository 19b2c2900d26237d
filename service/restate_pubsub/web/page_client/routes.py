"""`GET /client/restate-pubsub.js`: a module for pages without a build, of the same version as the service.

A page of any origin may import it: it holds nothing of this service's. The file is made by `make client`, and kept, so
that nothing here needs Node.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from starlette.routing import BaseRoute, Route

from restate_pubsub.web.kept_file import KeptFile
from restate_pubsub.web.paths import PAGE_CLIENT

_CONTENT = (files("restate_pubsub.web.page_client") / "restate-pubsub.js").read_bytes()


def routes() -> Sequence[BaseRoute]:
    """Return what to mount."""
    return [Route(PAGE_CLIENT, KeptFile(_CONTENT, "text/javascript; charset=utf-8").answer)]
