"""An agent as a Restate service of its own process, for tests: it talks to a topic from inside a durable step."""

from __future__ import annotations

import asyncio
import sys

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub import create_pubsub_client, create_pubsub_publisher

port, ingress, attempt, tokens = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])

agent = restate.Service("agent")
publish = create_pubsub_publisher("pubsub")


@agent.handler()
async def answer(ctx: restate.Context, topic: str) -> str:
    """Say the tokens of this attempt, then what one says after."""

    async def talk() -> str:
        words = [f"{attempt}{at}" for at in range(tokens)]
        async with create_pubsub_client(ingress) as client, client.stream(topic, id=ctx.request().id) as stream:
            for word in words:
                await stream.write({"delta": word})
                await asyncio.sleep(0.02)  # a model takes its time
        return " ".join(words)

    text = await ctx.run_typed("answer", talk)
    publish(ctx, topic, {"role": "assistant"}, event="done")
    return text


config = Config()
config.bind = [f"127.0.0.1:{port}"]
asyncio.run(serve(restate.app([agent]), config))
