"""Readers of Server-Sent Events that others made, each used as its own README does, in a browser, in Node and here.

What leaves it to its caller to come back is in the loop that its caller would write.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import openai
from aiohttp_sse_client2.client import EventSource
from httpx_sse import SSEError, aconnect_sse
from playwright.async_api import Page

from support.node import NODE
from support.waiting import PATIENCE, until

FOLDER = Path(__file__).parent
FILES = {"/npm": FOLDER / "node_modules", "/readers": FOLDER}
"""What the page needs from its origin."""

Say = Callable[[dict[str, Any]], None]

PAGE = """<!doctype html><title>readers</title><script type="importmap">{"imports": {
  "@microsoft/fetch-event-source": "/npm/@microsoft/fetch-event-source/lib/esm/index.js",
  "react-native-sse": "/npm/react-native-sse/src/EventSource.js",
  "reconnecting-eventsource": "/npm/reconnecting-eventsource/build/esm/reconnecting-eventsource.js"
}}</script><script type="module">
  import { read } from "/readers/readers.mjs";
  window.start = (name, url, close) => { read(name, url, window.say, close); };
</script>"""

RETRY = 0.05
"""Seconds that a caller waits before it comes back."""


class Reading:
    """What a reader has handed to its caller so far."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def say(self, said: dict[str, Any]) -> None:
        """Note it."""
        self.said.append(said)

    @property
    def events(self) -> list[tuple[str, str]]:
        """Names and data, as they were handed out."""
        return [(said["event"], said["data"]) for said in self.said if "event" in said]

    @property
    def over(self) -> str | None:
        """Why it will not come back by itself."""
        return next((said["over"] for said in self.said if "over" in said), None)

    async def has(self, count: int) -> list[tuple[str, str]]:
        """Wait until it has handed out so many events; return all."""
        await until(lambda: len(self.events) >= count, f"{count} events, of which there are {self.said}", PATIENCE)
        return self.events


# --- Python: a coroutine each -----------------------------------------------------------------------------------


async def httpx_sse(url: str, say: Say) -> None:
    """It knows ids, and nothing of reconnecting."""
    last = ""
    async with httpx.AsyncClient(timeout=httpx.Timeout(5, read=None)) as client:
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            with contextlib.suppress(httpx.TransportError):
                async with aconnect_sse(client, "GET", url, headers=headers) as source:
                    try:
                        async for event in source.aiter_sse():
                            say({"event": event.event, "data": event.data})
                            last = event.id
                    except SSEError:  # no stream: a 204
                        return say({"over": f"status {source.response.status_code}"})
            await asyncio.sleep(RETRY)


async def openai_stream(url: str, say: Say) -> None:
    """It hides ids and names, so its caller counts; what its caller sees is JSON, decoded."""
    count = 0
    async with openai.AsyncOpenAI(api_key="none", base_url=url.partition("/pubsub/")[0], max_retries=0) as client:
        while True:
            with contextlib.suppress(openai.APIConnectionError):
                stream = await client.get(
                    f"{url}&offset={count}" if count else url,
                    cast_to=object,
                    stream=True,
                    stream_cls=openai.AsyncStream[object],
                )
                status = stream.response.status_code
                try:
                    async for data in stream:
                        say({"event": "message", "data": json.dumps(data, separators=(",", ":"))})
                        count += 1
                except json.JSONDecodeError:  # a block without data
                    return say({"over": "not JSON"})
                if status != 200:
                    return say({"over": f"status {status}"})
            await asyncio.sleep(RETRY)


async def aiohttp_sse_client2(url: str, say: Say) -> None:
    """It comes back by itself after a tidy end only; an exception it leaves to its caller."""
    last = ""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as session:
        while True:
            try:
                headers = {"Last-Event-Id": last} if last else {}
                async with EventSource(url, session=session, headers=headers) as source:
                    async for event in source:
                        say({"event": event.type or "message", "data": event.data})
                        last = event.last_event_id
            except ConnectionAbortedError as error:  # neither 200 nor an error status
                return say({"over": str(error)})
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(RETRY)


PYTHON = {"httpx-sse": httpx_sse, "openai": openai_stream, "aiohttp-sse-client2": aiohttp_sse_client2}
NODE_PACKAGES = ("eventsource", "@sanity/eventsource", "eventsource-client")
BROWSER = (
    "EventSource",
    "reconnecting-eventsource",
    "event-source-polyfill",
    "react-native-sse",
    "@microsoft/fetch-event-source",
)


@contextlib.asynccontextmanager
async def reading(name: str, url: str, page: Page, *, close: bool = False) -> AsyncIterator[Reading]:
    """Let a reader read `url`, of the page's origin; one in JavaScript may `close` at `end`."""
    log = Reading()
    async with contextlib.AsyncExitStack() as stack:
        if name in PYTHON:
            task = asyncio.create_task(PYTHON[name](url, log.say))
            stack.push_async_callback(_cancelled, task)
        elif name in NODE_PACKAGES:
            words = [name, url, *(["--close"] if close else [])]
            process = await asyncio.create_subprocess_exec(
                NODE, FOLDER / "readers.mjs", *words, stdout=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(_killed, process)
            stack.push_async_callback(_cancelled, asyncio.create_task(_lines(process, log)))
        else:
            await page.expose_function("say", log.say)
            await page.goto(url.partition("/pubsub/")[0])
            await page.wait_for_function("() => Boolean(window.start)")
            await page.evaluate("(words) => start(...words)", [name, url, close])
        yield log


async def _lines(process: asyncio.subprocess.Process, log: Reading) -> None:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        log.say(json.loads(line))


async def _killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
