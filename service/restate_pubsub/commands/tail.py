"""`restate-pubsub tail`: a topic's messages, a line each, as they were written."""

from __future__ import annotations

import json

import click

from restate_pubsub.commands.command import Command, client_of, load_settings, not_silent, run
from restate_pubsub.errors import ConfigError, OffsetGone
from restate_pubsub.ingress.answers import Bounds
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
@click.argument("topic")
@click.option(
    "--offset", default="0", show_default=True, help="Where to begin: an offset, `latest`, or -K for the last K."
)
@click.option("--full", is_flag=True, help="Print offset and event with each message.")
@click.option("--joined", is_flag=True, help="Print what continues one message as one, where the writer said so.")
def tail(topic: str, offset: str, *, full: bool, joined: bool) -> None:
    """Print TOPIC's messages, one a line, and go on as they come.

    A message is printed as the JSON text that it was written as. Survives disconnects and restarts, and says on
    standard error what it waits for. Where messages are gone (retention, truncation) it says so and goes on with the
    first that there is. Ends at the end of a closed topic; Ctrl-C ends it before.
    """
    run(_tail(load_settings(), topic, offset, full=full, joined=joined))


async def _tail(settings: Settings, topic: str, offset: str, *, full: bool, joined: bool) -> None:
    wanted = _wanted(offset)
    async with client_of(settings) as client:
        with not_silent(f"tail of topic {topic!r}", settings.ingress_url):
            bounds = await client.bounds(topic)
        at = _first(wanted, bounds)
        while True:
            try:
                async for batch in client.batches(topic, at, join=joined):
                    at = batch.next_offset
                    if batch.messages:
                        click.echo(b"".join(_lines(batch, full=full)), nl=False)
            except OffsetGone as gone:
                click.echo(f"offsets {gone.offset} to {gone.head - 1} are gone: going on at {gone.head}", err=True)
                at = gone.head
            else:
                return


def _lines(batch: Batch, *, full: bool) -> list[bytes]:
    return [_line(at, message, full=full) for at, message in batch.placed()]


def _line(offset: int, message: Message, *, full: bool) -> bytes:
    # Line feeds in what somebody else wrote into the state are white space between tokens.
    data = (message.data or b"null").replace(b"\r", b" ").replace(b"\n", b" ")
    if not full:
        return data + b"\n"
    return b'{"offset":%d,"event":%b,"data":%b}\n' % (offset, json.dumps(message.event).encode(), data)


def _wanted(offset: str) -> int | None:
    """Read `--offset`; None for the latest."""
    if offset == "latest":
        return None
    try:
        return int(offset)
    except ValueError:
        msg = f"--offset {offset}: use an offset, `latest`, or -K for the last K messages"
        raise ConfigError(msg) from None


def _first(wanted: int | None, bounds: Bounds) -> int:
    if wanted is None:
        return bounds.tail
    return wanted if wanted >= 0 else max(bounds.head, bounds.tail + wanted)
