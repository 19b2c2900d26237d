"""`restate-pubsub publish`."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator

import click

from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.commands.command import Command, client_of, load_settings, run
from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import check_event
from restate_pubsub.settings.fields import Settings

MAX_LINE_BYTES = 32 * 1024 * 1024


@click.command(cls=Command)
@click.argument("topic")
@click.argument("message", default="-")
@click.option("--event", help="The name of the event that browsers get.")
@click.option("--close", is_flag=True, help="End the topic with the last message.")
@click.option("--key", help="An idempotency key: repeated, the message is published once.")
def publish(topic: str, message: str, *, event: str | None, close: bool, key: str | None) -> None:
    """Publish MESSAGE (JSON) to TOPIC, or with `-` each line of standard input as one message, as it comes.

    Prints the offset of the first message and the one after the last.
    """
    check_event(event)
    run(_publish(load_settings(), topic, message, event, close=close, key=key))


async def _publish(
    settings: Settings, topic: str, message: str, event: str | None, *, close: bool, key: str | None
) -> None:
    async with client_of(settings) as client:
        if message != "-":
            entry = Message(compact(message.encode(), client.limits.message_bytes), event)
            done = await client.append_encoded(topic, [entry], close=close, idempotency_key=key)
            click.echo(json.dumps({"offset": done.offset, "nextOffset": done.next_offset}))
            return
        stream = TokenStream(client, topic, client.limits, stream_id=key, resume=key is not None, close=close)
        async with stream:
            await _write_lines(stream, event)
        click.echo(json.dumps({"offset": stream.offset, "nextOffset": stream.next_offset}))


async def _write_lines(stream: TokenStream, event: str | None) -> None:
    """Write standard input line by line, as it comes; a broken line ends it, what came before stands."""
    number = 0
    async for line in _stdin_lines():
        number += 1
        try:
            if line.strip():
                await stream.write_encoded(line, event=event)
        except InvalidRequest as error:
            error.message = f"line {number}: {error}"
            raise


async def _stdin_lines() -> AsyncIterator[bytes]:
    if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        for line in sys.stdin.buffer:
            yield line
        return
    # A pipe or a terminal may be silent for long; a thread that waits for it could not be interrupted.
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            yield line
    except ValueError:
        msg = f"a line has more than {MAX_LINE_BYTES} bytes"
        raise InvalidRequest(msg) from None
