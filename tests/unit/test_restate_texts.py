"""Restate's raw texts, as they were seen, and the sentences that they become."""

from __future__ import annotations

import pytest

from restate_pubsub.restate_texts import Failure, why_not_called


@pytest.mark.parametrize(
    ("raw", "failure"),
    [
        (
            (
                "[META0003] [META0003] error when calling 'http://127.0.0.1:9/': h2 pool connection error: "
                "Connection refused (os error 111)"
            ),
            Failure("unreachable", "http://127.0.0.1:9", "connection refused"),
        ),
        (
            (
                "[META0003] [META0003] error when calling 'http://nowhere.invalid:9/': h2 pool connection error: "
                "failed to lookup address information: Name does not resolve"
            ),
            Failure("unreachable", "http://nowhere.invalid:9", "its name cannot be resolved"),
        ),
        (
            '[META0003] [META0003] got status code \'401 Unauthorized\'. Response headers: {"server": "x"}. Body: ',
            Failure("signature", None, "it answers 401"),
        ),
        ("unexpected http status code: 401 Unauthorized", Failure("signature", None, "it answers 401")),
        (
            (
                "[META0003] [META0003] got status code '404'. Make sure the provided URI has the correct path where "
                'the Restate SDK endpoint is mounted. Response headers: {"server": "x"}. Body: '
            ),
            Failure("answer", None, "it answers 404"),
        ),
        ("something new", Failure("other", None, "something new")),
    ],
)
def test_a_deployment_that_restate_cannot_call(raw: str, failure: Failure) -> None:
    """No code in brackets, no headers, no number of an operating system's error."""
    assert why_not_called(raw) == failure
