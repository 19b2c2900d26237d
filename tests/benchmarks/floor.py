"""The floor of a publish: an exclusive handler that does nothing, served as the service serves its own.

`python floor.py PORT`
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import restate
from hypercorn.asyncio import serve
from restate import ObjectContext, VirtualObject
from restate.serde import BytesSerde

from restate_pubsub.server.serving import config_for, listen

floor = VirtualObject("floor", state_preload=False, journal_retention=timedelta(0))


@floor.handler(idempotency_retention=timedelta(0), input_serde=BytesSerde(), output_serde=BytesSerde())
async def publish(_ctx: ObjectContext, _raw: bytes) -> bytes:
    """Do nothing."""
    return b"{}"


if __name__ == "__main__":
    app = restate.app([floor], "bidi")
    asyncio.run(serve(app, config_for(listen([f"127.0.0.1:{sys.argv[1]}"], send_timeout=30.0), drain=1.0)))
