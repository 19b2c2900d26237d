"""What the agents here can do, in the words of no framework."""

from __future__ import annotations

import asyncio
import json

from restate_pubsub import PubsubClient


async def travel_days(km: float, km_per_hour: float) -> float:
    """Return how many days a journey takes."""
    await asyncio.sleep(0.8)  # long enough to be seen
    return round(km / km_per_hour / 24, 2)


async def look_at_topic(client: PubsubClient, topic: str) -> str:
    """Return where the log of a topic begins and ends, and how many bytes it has, as JSON."""
    info = await client.info(topic)
    return json.dumps({name: info[name] for name in ("head", "tail", "bytes")})
