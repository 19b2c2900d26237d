"""The library at work in an environment of its own: `python library_at_work.py INGRESS ADMIN PORT [object]`.

It needs a Restate with the service's object `pubsub`. It publishes from outside and from a handler, streams tokens, and
reads all of it; with `object` it serves an object of its own, and does the same with that one. It prints `works`.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any

import aiohttp
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

import restate_pubsub

ingress, admin, port, *more = sys.argv[1:]
NAME = f"library{secrets.token_hex(4)}"
OBJECT = NAME if more == ["object"] else "pubsub"

agent = restate.Service(f"agent{NAME}")
publish = restate_pubsub.create_pubsub_publisher(OBJECT)


@agent.handler()
async def say(ctx: restate.Context, topic: str) -> str:
    """Publish from a handler, with and without the name of an event."""
    publish(ctx, topic, {"from": "a handler"})
    publish(ctx, topic, {"done": True}, event="done")
    return "said"


async def register(session: aiohttp.ClientSession) -> None:
    """Make Restate discover what this process serves, once it listens."""
    for _ in range(100):
        body = {"uri": f"http://127.0.0.1:{port}", "force": True}
        async with session.post(f"{admin}/deployments", json=body) as answer:
            if answer.status in (200, 201):
                return
            last = await answer.text()
        await asyncio.sleep(0.1)
    sys.exit(f"Restate does not register this: {last}")


async def use(session: aiohttp.ClientSession) -> None:
    """Write in every way, and read."""
    topic = f"t{secrets.token_hex(6)}"
    async with restate_pubsub.create_pubsub_client(ingress, OBJECT) as client:
        assert await client.publish(topic, {"text": "hi"}, idempotency_key="one") == 0
        assert await client.publish(topic, {"text": "hi"}, idempotency_key="one") == 0
        assert await client.append(topic, [1, 2.5, ({"name": "search"}, "tool")]) == (1, 4)
        async with client.stream(topic, id="a stream") as stream:
            for word in ("one", "two", "three"):
                await stream.write({"delta": word})
        async with session.post(f"{ingress}/agent{NAME}/say", json=topic) as answer:
            assert answer.status == 200, await answer.text()
        found: list[Any] = []
        async for _, data, event in client.pull(topic, offset=0):
            found.append((data, event) if event else data)
            if len(found) == 9:
                break
        tokens = [{"delta": word} for word in ("one", "two", "three")]
        said = [{"from": "a handler"}, ({"done": True}, "done")]
        assert found == [{"text": "hi"}, 1, 2.5, ({"name": "search"}, "tool"), *tokens, *said], found
        await client.close(topic)
        try:
            await client.publish(topic, "late")
        except restate_pubsub.TopicClosed:
            pass
        else:
            sys.exit("a closed topic took a message")


async def main() -> None:
    """Serve, register, use, and end."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    services: list[Any] = [agent]
    if OBJECT == NAME:
        services.append(restate_pubsub.create_pubsub_object(NAME))
    done = asyncio.Event()
    serving = asyncio.create_task(serve(restate.app(services), config, shutdown_trigger=done.wait))
    async with aiohttp.ClientSession() as session:
        await register(session)
        await use(session)
    done.set()
    await serving
    print("works")


asyncio.run(asyncio.wait_for(main(), 60))
