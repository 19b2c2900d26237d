"""Requests that never reach the application: their answer is a problem document as well."""

from __future__ import annotations

from restate_pubsub.web.problems import problem


class Refusal:
    """The answer to a request that is none."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """`code` is a problem's, and counted."""
        answer = problem(status, code, detail)
        self.status = status
        self.code = code
        self.body = bytes(answer.body)
        self.headers = answer.raw_headers
