"""Bodies that nobody read are thrown away before the answer ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restate_pubsub.web.middleware.unread_body import LINGER_BYTES, DrainUnreadBody


async def answer_at_once(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Body:
    """A request's body in parts, then the end of the connection."""

    def __init__(self, parts: int, size: int) -> None:
        self.left = parts
        self.size = size
        self.gone = asyncio.Event()

    async def __call__(self) -> Any:
        if self.left == 0:
            self.gone.set()
            return {"type": "http.disconnect"}
        self.left -= 1
        return {"type": "http.request", "body": b"x" * self.size, "more_body": self.left > 0}


async def run(path: str, body: Body) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = DrainUnreadBody(answer_at_once, restate_path="/restate")
    await app({"type": "http", "path": path}, body, send)
    return sent


async def test_the_rest_is_taken_before_the_answer_ends() -> None:
    """The sender comes to its end, and can read the answer."""
    body = Body(50, 1000)
    sent = await run("/pubsub/t", body)
    assert body.left == 0
    assert [True, False] == [message["more_body"] for message in sent[1:]]
    assert b"done" == b"".join(message["body"] for message in sent[1:])


async def test_what_is_endless_is_taken_until_the_connection_is_gone() -> None:
    """After a bounded amount the answer ends; who still sends then is not waited for."""
    body = Body(40, LINGER_BYTES // 16)
    sent = await run("/pubsub/t", body)
    assert sent[-1]["more_body"] is False
    assert body.left > 0
    await asyncio.wait_for(body.gone.wait(), 5)


@pytest.mark.parametrize("path", ["/restate/invoke/pubsub/publish"])
async def test_an_invocation_is_left_alone(path: str) -> None:
    """Restate's requests and answers run at the same time."""
    body = Body(3, 10)
    sent = await run(path, body)
    assert body.left == 3
    assert len(sent) == 2
