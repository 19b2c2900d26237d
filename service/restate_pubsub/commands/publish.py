"""`restate-pubsub publish`: a message, or one a line of standard input."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Sequence

import click

from restate_pubsub.client.pubsub_client import Appended, PubsubClient
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.commands.command import Command, client_of, load_settings, not_silent, run
from restate_pubsub.errors import PubsubError, StreamFailed, TooLarge
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import check_event
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
@click.argument("topic")
@click.argument("message", default="-")
@click.option("--event", help="The name of the event that browsers get.")
@click.option("--close", is_flag=True, help="End the topic with the last message.")
@click.option("--key", help="An idempotency key: repeated, the message is published once.")
def publish(topic: str, message: str, *, event: str | None, close: bool, key: str | None) -> None:
    """Publish MESSAGE (JSON) to TOPIC, or with `-` each line of standard input as one message, as it comes.

    Prints the offset of the first message and the one after the last. A line may have as many bytes as a message
    (PUBSUB_MESSAGE_MAX_BYTES); one that is refused ends the command, and what came before it stands.
    """
    check_event(event)
    run(_publish(load_settings(), topic, message, event, close=close, key=key))


class _Telling:
    """A client whose appends do not wait in silence."""

    def __init__(self, client: PubsubClient, url: str) -> None:
        self._client = client
        self._url = url

    async def append_encoded(
        self,
        topic: str,
        messages: Sequence[Message],
        *,
        close: bool = False,
        stream: StreamRef | None = None,
        join: str | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append a batch."""
        with not_silent(f"publish to topic {topic!r}", self._url):
            return await self._client.append_encoded(
                topic, messages, close=close, stream=stream, join=join, idempotency_key=idempotency_key
            )


async def _publish(
    settings: Settings, topic: str, message: str, event: str | None, *, close: bool, key: str | None
) -> None:
    async with client_of(settings) as client:
        telling = _Telling(client, settings.ingress_url)
        if message != "-":
            entry = Message(compact(message.encode(), client.limits.message_bytes), event)
            done = await telling.append_encoded(topic, [entry], close=close, idempotency_key=key)
            click.echo(json.dumps({"offset": done.offset, "nextOffset": done.next_offset}))
            return
        stream = TokenStream(telling, topic, client.limits, stream_id=key, resume=key is not None, close=close)
        number = 0
        try:
            async with stream:
                async for line in _stdin_lines(client.limits.message_bytes):
                    number += 1
                    if line.strip():
                        await stream.write_encoded(line, event=event)
        except StreamFailed:
            raise
        except PubsubError as error:
            error.message = f"line {number or 1}: {error}; {_before(stream)}"
            raise
        click.echo(json.dumps({"offset": stream.offset, "nextOffset": stream.next_offset}))


def _before(stream: TokenStream) -> str:
    if stream.next_offset is None:
        return "nothing before it was published"
    return f"the {stream.acknowledged} messages before it are published, up to offset {stream.next_offset}"


async def _stdin_lines(max_bytes: int) -> AsyncIterator[bytes]:
    """Yield standard input line by line; one with too many bytes is yielded cut, and is refused for its size."""
    if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        while line := sys.stdin.buffer.readline(max_bytes + 2):
            yield line.rstrip(b"\r\n")
        return
    # A pipe or a terminal may be silent for long; a thread that waits for it could not be interrupted.
    reader = asyncio.StreamReader(limit=max_bytes + 1)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            yield line.rstrip(b"\r\n")
    except ValueError:
        msg = f"The line has more than {max_bytes} bytes, which is the most that a message may have"
        raise TooLarge(msg) from None
