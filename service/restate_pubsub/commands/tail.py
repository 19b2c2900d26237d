"""`restate-pubsub tail`."""

from __future__ import annotations

import json

import click

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.commands.command import Command, client_of, load_settings, run
from restate_pubsub.errors import ConfigError, OffsetGone
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
@click.argument("topic")
@click.option(
    "--offset", default="0", show_default=True, help="Where to begin: an offset, `latest`, or -K for the last K."
)
@click.option("--full", is_flag=True, help="Print offset and event with each message.")
def tail(topic: str, offset: str, *, full: bool) -> None:
    """Print TOPIC's messages, one a line, and go on as they come.

    Survives disconnects and restarts. Where messages are gone (retention, truncation) it says so and goes on with the
    first that there is. Ends at the end of a closed topic; Ctrl-C ends it before.
    """
    run(_tail(load_settings(), topic, offset, full=full))


async def _tail(settings: Settings, topic: str, offset: str, *, full: bool) -> None:
    async with client_of(settings) as client:
        at = await _first(client, topic, offset)
        while True:
            try:
                async for message in client.pull(topic, at):
                    at, event, data = message.offset + 1, message.event, message.data
                    line = {"offset": message.offset, "event": event, "data": data} if full else data
                    click.echo(json.dumps(line, ensure_ascii=False))
            except OffsetGone as gone:
                click.echo(f"offsets {gone.offset} to {gone.head - 1} are gone: going on at {gone.head}", err=True)
                at = gone.head
            else:
                return


async def _first(client: PubsubClient, topic: str, offset: str) -> int | None:
    if offset == "latest":
        return None
    try:
        number = int(offset)
    except ValueError:
        msg = f"--offset {offset}: use an offset, `latest`, or -K for the last K messages"
        raise ConfigError(msg) from None
    if number >= 0:
        return number
    info = await client.info(topic)
    return max(int(info["head"]), int(info["tail"]) + number)
