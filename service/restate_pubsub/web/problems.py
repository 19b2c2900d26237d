"""Errors as `application/problem+json` (RFC 9457): a stable type and code, and the offending value named."""

from __future__ import annotations

import http
import math
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from restate_pubsub.errors import OverLimit, Unauthorized
from restate_pubsub.protocol.names import PROBLEM_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from restate_pubsub.errors import PubsubError


def problem(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem document."""
    body = {
        "type": PROBLEM_TYPE + code,
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return JSONResponse(body, status, {"cache-control": "no-store", **(headers or {})}, "application/problem+json")


_HEADERS = {405: {"allow": "GET, HEAD"}, 503: {"retry-after": "1"}}


def problem_of(error: PubsubError, **more: Any) -> JSONResponse:
    """Return the problem document of one of this project's errors."""
    cause: PubsubError = getattr(error, "cause", error)
    headers = _HEADERS.get(cause.public_status)
    if isinstance(cause, OverLimit):
        headers = {"retry-after": str(math.ceil(cause.retry_after))}
    elif isinstance(cause, Unauthorized):
        headers = {"www-authenticate": 'Bearer error="invalid_token"' if cause.invalid else "Bearer"}
    return problem(cause.public_status, error.code, error.public, headers, **more)
