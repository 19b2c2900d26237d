"""The application of docs/fastapi.md, pasted into a file and run as the page says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from restate_pubsub import create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Service, free_port, listens, stream
from support.waiting import until

PAGE = (ROOT / "docs" / "fastapi.md").read_text()


class Running(NamedTuple):
    """The application as a process."""

    url: str
    process: asyncio.subprocess.Process


@contextlib.asynccontextmanager
async def running(restate: RestateServer, folder: Path) -> AsyncIterator[Running]:
    """Paste, start, and end it if the test has not."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (command,) = re.findall(r"^(uvicorn .*)$", PAGE, re.MULTILINE)
    (folder / "app.py").write_text(code)
    port = free_port()
    env = os.environ | {"RESTATE_INGRESS_URL": restate.ingress_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *shlex.split(command), "--port", str(port), cwd=folder, env=env
    )
    try:
        await until(lambda: listens(port), "the application to listen")
        yield Running(f"http://127.0.0.1:{port}", process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def app(restate: RestateServer, service: Service, tmp_path: Path) -> AsyncIterator[Running]:
    """Return the running application; the service serves the object."""
    assert service.process is not None
    async with running(restate, tmp_path) as app:
        yield app


async def post(app: Running, chat: str, message: Any, **headers: str) -> tuple[int, Any]:
    """Publish as a page does."""
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{app.url}/chats/{chat}", json=message, headers=headers) as response:
            return response.status, await response.json()


async def test_what_is_published_is_on_the_stream_from_where_a_reader_was(app: Running, topic: str) -> None:
    """With ids, from the start, from an offset, and after `Last-Event-ID`; a repeated key counts once."""
    for number in range(3):
        assert await post(app, topic, {"n": number}, **{"Idempotency-Key": str(number)}) == (201, {"offset": number})
    assert await post(app, topic, {"n": 2}, **{"Idempotency-Key": "2"}) == (201, {"offset": 2})
    async with stream(f"{app.url}/chats/{topic}") as reader:
        assert [(event.id, event.data) for event in await reader.take(3)] == [
            (str(number + 1), {"n": number}) for number in range(3)
        ]
        await post(app, topic, {"n": 3})
        assert (await reader.next()).data == {"n": 3}
    async with stream(f"{app.url}/chats/{topic}?offset=0", last_event_id="2") as reader:
        assert (await reader.next()).data == {"n": 2}


async def test_the_end_is_said_and_then_204(restate: RestateServer, app: Running, topic: str) -> None:
    """And a write to a closed topic is a 409 with its code."""
    await post(app, topic, {"n": 0})
    async with create_pubsub_client(restate.ingress_url) as client:
        await client.close(f"chat/{topic}")
    async with stream(f"{app.url}/chats/{topic}") as reader:
        assert [event.event for event in await reader.to_end()] == ["message", "end"]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{app.url}/chats/{topic}", headers={"Last-Event-ID": "1"}) as response:
            assert response.status == 204
    status, body = await post(app, topic, {"n": 1})
    assert (status, body["code"]) == (409, "topic-closed")


async def test_it_stops_with_streams_open(app: Running, topic: str) -> None:
    """Within the time that the command gives, and its client is closed by `lifespan`."""
    await post(app, topic, {"n": 0})
    async with stream(f"{app.url}/chats/{topic}") as reader:
        await reader.next()
        app.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(app.process.wait(), 20)
