"""The description of the events: valid, and what streams of a running service say."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from clients.test_views import END, FINISHED, START, STARTED, STEP, TEXT, attempt, delta, said_in_run
from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.settings.fields import load
from restate_pubsub.web.described.asyncapi import asyncapi
from support.harness import ROOT, Service, call, get, publish

OFFICIAL = ROOT / "tests" / "clients" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"


def test_it_is_asyncapi() -> None:
    """By the official schema, which finds what is wrong."""
    official = Draft7Validator(json.loads(OFFICIAL.read_text()))
    document = asyncapi(load({}))
    official.validate(document)
    assert not official.is_valid(document | {"operations": {"topic": {"action": "send"}}})


async def told(url: str) -> list[tuple[dict[str, str], Any]]:
    """Return the events of a stream that ends or breaks off: their lines other than data, and their data."""
    text = b""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        while b"[DONE]" not in text:
            try:
                chunk = await response.content.readany()
            except aiohttp.ClientPayloadError:
                break
            if not chunk:
                break
            text += chunk
    events = []
    for block in text.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        lines.pop("retry", None)
        if "data" in lines:
            data = lines.pop("data")
            events.append((lines, data if data == "[DONE]" else json.loads(data)))
    return events


def kinds(document: Any, channel: str, events: list[tuple[dict[str, str], Any]]) -> list[set[str]]:
    """Return which messages of a channel each event can be."""
    messages = document["channels"][channel]["messages"]
    return [
        {
            name
            for name, message in messages.items()
            if Draft202012Validator(message["headers"]).is_valid(lines)
            and Draft202012Validator(message["payload"]).is_valid(data)
        }
        for lines, data in events
    ]


@pytest.fixture
async def document(service: Service) -> Any:
    """Return what the service says of its events."""
    status, found, _ = await get(f"{service.url}/client/asyncapi.json")
    assert status == 200
    return found


async def said(restate: RestateServer, topic: str) -> None:
    """Write all kinds of messages: plain, named, of a stream that is begun again, and stopped; the topic ends."""
    await publish(restate, topic, "plain", {"text": 1})
    assert (await call(restate, topic, "append", {"messages": [{"data": 1, "event": "price"}]}))[0] == 200
    await attempt(restate, topic, "a1", {"text": "one"})
    await publish(restate, topic, "between")
    await attempt(restate, topic, "a2", {"text": "two"})
    assert (await call(restate, topic, "stop", {"id": "step", "reason": "enough"}))[0] == 200
    assert (await call(restate, topic, "close"))[0] == 200


async def test_a_topic_says_what_is_described(
    restate: RestateServer, service: Service, document: Any, topic: str
) -> None:
    """Each event is one kind of message, and no other."""
    await said(restate, topic)
    found = kinds(document, "topic", await told(f"{service.url}/pubsub/{topic}?heartbeat=event"))
    assert all(len(one) == 1 for one in found), found
    assert {"message", "named", "restart", "stop", "end", "heartbeat"} == set().union(*found)
    assert (await call(restate, topic, "truncate", 2))[0] == 200
    assert [{"reset"}] == kinds(document, "topic", await told(f"{service.url}/pubsub/{topic}?offset=1"))[:1]


async def test_several_topics_say_what_is_described(
    restate: RestateServer, service: Service, document: Any, topic: str
) -> None:
    """With the topic in each."""
    for one in (topic, f"{topic}-2"):
        await said(restate, one)
    assert (await call(restate, topic, "truncate", 2))[0] == 200
    url = f"{service.url}/pubsub?topic={topic}&topic={topic}-2&offset=1"
    found = kinds(document, "several", await told(url))
    assert all(len(one) == 1 for one in found), found
    assert {"message", "restart", "reset", "end"} == set().union(*found)


async def test_views_say_what_is_described(restate: RestateServer, service: Service, document: Any, topic: str) -> None:
    """A chunk is one of the general kind, and perhaps a special one as well; nothing else is there."""
    await publish(restate, topic, START, STEP)
    await attempt(restate, topic, "a1", TEXT, delta("Hel"))
    await publish(restate, topic, {"type": "data-x", "data": 1})
    await attempt(restate, topic, "a2", TEXT, delta("Hello"))
    await publish(restate, topic, *END)
    found = kinds(document, "aiSdk", await told(f"{service.url}/pubsub/{topic}?view=ai-sdk&done=replay"))
    assert all(one <= {"done"} or "chunk" in one for one in found), found
    assert all(found)
    assert {"chunk", "resetStep", "done"} == set().union(*found)

    runs = f"{topic}-runs"
    await publish(restate, runs, STARTED)
    await attempt(restate, runs, "a1", *said_in_run("Hel"))
    await publish(restate, runs, {"type": "CUSTOM", "name": "x", "value": 1})
    await attempt(restate, runs, "a2", *said_in_run("Hello"))
    await publish(restate, runs, FINISHED)
    found = kinds(document, "agUi", await told(f"{service.url}/pubsub/{runs}?view=ag-ui"))
    assert all("event" in one for one in found), found
    assert {"event", "restart"} == set().union(*found)
