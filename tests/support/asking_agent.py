"""A service whose handlers ask a person, or think: `python asking_agent.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub import ask, create_pubsub_client, create_pubsub_publisher

asker = restate.Service("asker")


@asker.handler("ask")
async def _ask(ctx: restate.Context, job: dict[str, Any]) -> Any:
    return await ask(ctx, job["topic"], job["question"], timeout=job["timeout"])


@asker.handler("think")
async def _think(ctx: restate.Context, job: dict[str, Any]) -> None:
    """Write one token, think for ever, and then write what the next step says."""
    topic = job["topic"]
    async with create_pubsub_client(job["ingress"]) as client:
        stream = client.stream(topic, step=ctx)

        async def thinks() -> None:
            async with stream:
                await stream.write({"step": f"{ctx.request().id}/1"})
                await asyncio.Event().wait()

        await ctx.run_typed("think", thinks)
        create_pubsub_publisher()(ctx, topic, "the next step")


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    asyncio.run(serve(restate.app([asker]), config))
