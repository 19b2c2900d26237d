"""What went wrong becomes an answer, in one place: a problem document, counted by its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from restate_pubsub.errors import PubsubError, TooMany
from restate_pubsub.web.problems import problem, problem_of


class Refused(PubsubError):
    """A request that nothing here takes, for a reason that HTTP alone knows."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """`code` is the problem's."""
        self.status = status
        self.code = code
        super().__init__(message)


class RequestTimeout(Refused):
    """The request's body stood still for too long."""

    def __init__(self, seconds: float) -> None:
        """It brought nothing for so long."""
        what = f"The body brought nothing for {seconds:g} s: send it faster, or a blank line in between"
        super().__init__(408, "request-timeout", what)


class WithMembers(PubsubError):
    """An error whose problem document says more than its text."""

    def __init__(self, error: PubsubError, **members: int | None) -> None:
        """`members` are added to the document of `error`."""
        super().__init__(str(error))
        self.error = error
        self.members = members


def not_found(path: str) -> Refused:
    """Return the error for a path that nothing is at."""
    return Refused(404, "not-found", f"There is nothing at {path!r}")


class Errors:
    """Makes answers of errors. `on_refused` is told the code of each."""

    def __init__(
        self, on_refused: Callable[[str], None], on_too_many: Callable[[Request], None] = lambda _request: None
    ) -> None:
        """Count by `on_refused`; `on_too_many` is told of each request that is over a limit of its client."""
        self.count = on_refused
        self._too_many = on_too_many

    def answer(self, error: PubsubError) -> Response:
        """Count an error, and return its problem document."""
        if isinstance(error, WithMembers):
            self.count(error.error.code)
            return problem_of(error.error, **error.members)
        self.count(error.code)
        return problem_of(error)

    def unexpected(self) -> Response:
        """Count a fault of ours, and return what its request is told: nothing about its inside."""
        self.count(PubsubError.code)
        return problem(500, PubsubError.code, "Something went wrong here; the log says what")

    def handlers(self) -> Mapping[Any, Callable[[Request, Any], Any]]:
        """Return Starlette's exception handlers: for this project's errors, and for what has no route."""

        async def ours(request: Request, error: PubsubError) -> Response:
            if isinstance(error, TooMany):
                self._too_many(request)
            return self.answer(error)

        async def routing(request: Request, error: HTTPException) -> Response:
            if error.status_code == 404:
                return self.answer(not_found(request.scope["path"]))
            code, detail = "invalid-request", str(error.detail)
            if error.status_code == 405:
                code, detail = "method-not-allowed", f"{request.method} is not possible at {request.scope['path']!r}"
            self.count(code)
            return problem(error.status_code, code, detail, error.headers)

        return {PubsubError: ours, HTTPException: routing}
