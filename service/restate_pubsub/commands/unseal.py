"""`restate-pubsub unseal`: turn topics back into the form of the TypeScript object."""

from __future__ import annotations

import click

from restate_pubsub.commands.command import Command, client_of, load_settings, not_silent, run
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
@click.argument("topics", nargs=-1, required=True)
def unseal(topics: tuple[str, ...]) -> None:
    """Turn TOPICS back into the form that `@restatedev/pubsub` reads: each message in a key of its own.

    The service must run with PUBSUB_PAGES=false. A topic can be read and written meanwhile.
    """
    run(_unseal(load_settings(), topics))


async def _unseal(settings: Settings, topics: tuple[str, ...]) -> None:
    async with client_of(settings) as client:
        for topic in topics:
            with not_silent(f"unseal topic {topic!r}", settings.ingress_url):
                if (await client.bounds(topic)).tail == 0:
                    click.echo(f"{topic}: there is no such topic, or nothing was ever written to it", err=True)
                    continue
                pages = 0
                async for done in client.unseal(topic):
                    pages += done
            click.echo(f"{topic}: {pages} pages turned back")
