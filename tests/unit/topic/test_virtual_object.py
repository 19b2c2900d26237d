"""The object behind the SDK's own application, asked as a Restate server asks."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import restate

from restate_pubsub import create_pubsub_object
from support.invocations import given, start


async def invoke(handler: str, version: int, body: bytes) -> bytes:
    """Return what the endpoint answers to an invocation in a version of the protocol."""
    answer = b""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal answer
        answer += message.get("body", b"")

    kind = f"application/vnd.restate.invocation.v{version}".encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/invoke/pubsub/{handler}",
        "headers": [(b"content-type", kind)],
    }
    await restate.app([create_pubsub_object()], "bidi")(scope, receive, send)
    return answer


@pytest.mark.parametrize("version", [5, 6, 7])
@pytest.mark.parametrize(
    ("handler", "body", "text"),
    [
        ("publish", start(b"topic") + given(b"{no JSON"), b"The message is not JSON"),
        ("publish", start(b"topic") + given(b"\xff"), b"The message is not"),
        ("publish", start(b"") + given(b"1"), b"The topic is empty"),
        ("pull", start(b"topic") + given(b'"no position"'), b"pull: Expected"),
    ],
    ids=["no JSON", "no UTF-8", "no topic", "no position"],
)
async def test_a_refusal_is_said_in_every_protocol(
    caplog: pytest.LogCaptureFixture, handler: str, body: bytes, text: bytes, version: int
) -> None:
    """With its code where the protocol has a place for it. A failure instead would be tried again for ever."""
    answer = await invoke(handler, version, body)
    assert text in answer, answer
    assert (version > 5) == (b"code" in answer)
    assert [] == [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
