"""`restate-pubsub stop`: end what an agent is saying."""

from __future__ import annotations

import json

import click

from restate_pubsub.commands.command import Command, client_of, load_settings, not_silent, run
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
@click.argument("topic")
@click.option("--id", "stream", help="The token stream to stop; without it, all that are unfinished are stopped.")
@click.option("--reason", help="What readers and the writer are told.")
@click.option(
    "--cancel", is_flag=True, help="Cancel the invocations, too, that write them: what comes after does not run."
)
def stop(topic: str, *, stream: str | None, reason: str | None, cancel: bool) -> None:
    """Stop the token streams of TOPIC for good; what they have written stays.

    Prints where the event `stop` is, and which streams are stopped. Where nothing is unfinished, nothing is written.
    """
    run(_stop(load_settings(), topic, stream, reason, cancel=cancel))


async def _stop(settings: Settings, topic: str, stream: str | None, reason: str | None, *, cancel: bool) -> None:
    async with client_of(settings) as client:
        with not_silent(f"stop topic {topic!r}", settings.ingress_url):
            done = await client.stop(topic, stream, reason=reason, cancel=cancel)
    answer = {"offset": done.offset, "stopped": done.stopped} | ({"cancelled": done.cancelled} if cancel else {})
    click.echo(json.dumps(answer))
