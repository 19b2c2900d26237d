"""A service whose handler asks a person: `python asking_agent.py PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub import ask

asker = restate.Service("asker")


@asker.handler("ask")
async def _ask(ctx: restate.Context, job: dict[str, Any]) -> Any:
    return await ask(ctx, job["topic"], job["question"], timeout=job["timeout"])


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    asyncio.run(serve(restate.app([asker]), config))
