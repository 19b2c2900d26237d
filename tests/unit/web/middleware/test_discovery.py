"""What a Restate server is shown when it discovers the object, by the forms that it understands."""

from __future__ import annotations

import json
from typing import Any

import pytest
import restate

from restate_pubsub.topic.virtual_object import create_pubsub_object, manifest_of, preloading
from restate_pubsub.web.middleware.discovery import Discovery

FIRST = ["messagesMetadata", "subscription"]


async def discovered(newest: int) -> Any:
    """Return the object as a server is shown it that understands the forms up to `newest`."""
    pubsub = create_pubsub_object()
    app = Discovery(restate.app([pubsub], "bidi"), restate.app([preloading(pubsub)], "bidi"))
    accept = ", ".join(f"application/vnd.restate.endpointmanifest.v{form}+json" for form in range(1, newest + 1))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/restate/discover",
        "http_version": "2",
        "headers": [(b"accept", accept.encode())],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    (found,) = json.loads(sent[1]["body"])["services"]
    return found


@pytest.mark.parametrize("newest", [4, 5])
async def test_a_server_that_can_send_state_along_is_asked_to(newest: int) -> None:
    """What a write reads first, to handlers that run alone on their topic; an older server must not see the list."""
    found = await discovered(newest)
    assert found["enableLazyState"] is True
    for handler in found["handlers"]:
        preloads = newest == 5 and handler["ty"] == "EXCLUSIVE"
        assert (FIRST if preloads else None) == handler.get("eagerStateKeysWhitelist"), handler["name"]


async def test_both_forms_are_of_the_same_object() -> None:
    """A registration and the readiness tell a version by its fingerprint, whichever form was shown."""
    older, newer = await discovered(4), await discovered(5)
    assert older["metadata"] == newer["metadata"]
    assert [one["name"] for one in older["handlers"]] == [one["name"] for one in newer["handlers"]]
    pubsub = create_pubsub_object()
    assert manifest_of(pubsub) == manifest_of(preloading(pubsub))
