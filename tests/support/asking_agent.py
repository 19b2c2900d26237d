"""A service whose handlers ask a person, or think: `python asking_agent.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub import answer, ask, create_pubsub_client, create_pubsub_publisher, stop, withdraw
from restate_pubsub.errors import StreamStopped

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


@asker.handler("control")
async def _control(ctx: restate.Context, job: dict[str, Any]) -> Any:
    topic = job["topic"]
    if job["do"] == "stop":
        return await stop(ctx, topic, job.get("id"), reason=job.get("reason"))
    if job["do"] == "answer":
        return await answer(ctx, topic, job["id"], job["data"])
    return await withdraw(ctx, topic, job["id"])


@asker.handler("wait")
async def _wait(ctx: restate.Context, job: dict[str, Any]) -> str:
    """Let a model think that never says a word, until somebody stops it."""
    async with create_pubsub_client(job["ingress"]) as client:
        stream = client.stream(job["topic"], step=ctx)

        async def thinks() -> str:
            async with stream:
                await stream.write("let me think")
                model = asyncio.create_task(asyncio.Event().wait())
                either: set[asyncio.Future[Any]] = {model, stream.stopped}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                model.cancel()
            return "all was said"

        try:
            return await ctx.run_typed("think", refused_for_good(thinks))
        except restate.TerminalError as error:
            return error.message


def refused_for_good(step: Callable[[], Coroutine[Any, Any, str]]) -> Callable[[], Coroutine[Any, Any, str]]:
    """Let a final refusal end a durable step."""

    async def run() -> str:
        try:
            return await step()
        except StreamStopped as error:
            raise restate.TerminalError(error.message, error.status) from error

    return run


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    asyncio.run(serve(restate.app([asker]), config))
