"""What people write instead: Starlette, and a Redis stream for each topic, in some sixty lines.

`python starlette_redis.py PORT REDIS_PORT`: `POST /{topic}` publishes, `GET /{topic}` streams from `Last-Event-ID` on.
One task a topic follows Redis for all its readers, each of whom has a queue.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

KEPT = 20_000
WAIT_MS = 15_000

store: Any = redis.asyncio.Redis(port=int(sys.argv[2]), max_connections=100_000)
Item = tuple[tuple[int, int], bytes]


class Topic:
    """Who reads a topic, and the task that follows it."""

    def __init__(self, name: str) -> None:
        self.readers: set[asyncio.Queue[Item]] = set()
        self.began = asyncio.Event()
        self.task = asyncio.create_task(follow(name, self))


topics: dict[str, Topic] = {}


def number(entry: bytes) -> tuple[int, int]:
    """Return an entry's id as Redis orders it."""
    stamp, _, count = entry.partition(b"-")
    return int(stamp), int(count)


def item(entry: bytes, fields: dict[bytes, bytes]) -> Item:
    """Return the frame of a message, and its place."""
    return number(entry), b"id: %b\ndata: %b\n\n" % (entry, fields[b"data"])


async def follow(name: str, topic: Topic) -> None:
    """Hand what is new to every reader of a topic."""
    last = await store.xrevrange(name, count=1)
    at = last[0][0] if last else b"0-0"
    topic.began.set()
    while True:
        for _, entries in await store.xread({name: at}, count=1000, block=WAIT_MS):
            for at, fields in entries:
                for queue in topic.readers:
                    queue.put_nowait(item(at, fields))


async def events(name: str, after: bytes) -> AsyncIterator[bytes]:
    """Yield frames: first what is there, then what comes."""
    queue: asyncio.Queue[Item] = asyncio.Queue()
    if name not in topics:
        topics[name] = Topic(name)
    topic = topics[name]
    topic.readers.add(queue)
    try:
        yield b": hi\n"
        at = number(after)
        await topic.began.wait()  # what comes from here on is in the queue
        for entry, fields in await store.xrange(name, min=b"(" + after):
            at, frame = item(entry, fields)
            yield frame
        while True:
            try:
                place, frame = await asyncio.wait_for(queue.get(), WAIT_MS / 1000)
            except TimeoutError:
                yield b": beat\n"
                continue
            if place > at:
                at = place
                yield frame
    finally:
        topic.readers.discard(queue)
        if not topic.readers and topics.get(name) is topic:
            topics.pop(name).task.cancel()


async def stream(request: Request) -> Response:
    """Answer with a topic's messages."""
    after = request.headers.get("last-event-id", "0-0").encode()
    return StreamingResponse(events(request.path_params["topic"], after), media_type="text/event-stream")


async def publish(request: Request) -> Response:
    """Store one message."""
    await store.xadd(request.path_params["topic"], {"data": await request.body()}, maxlen=KEPT)
    return Response(status_code=204)


app = Starlette(routes=[Route("/{topic}", stream, methods=["GET"]), Route("/{topic}", publish, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, log_level="warning", access_log=False)
