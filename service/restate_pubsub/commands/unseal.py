"""`restate-pubsub unseal`: turn topics back into the form of the TypeScript object."""

from __future__ import annotations

import asyncio
from collections import Counter

import click

from restate_pubsub.commands.command import Command, client_of, load_settings, not_silent, run
from restate_pubsub.commands.registration import RegistrationFailed
from restate_pubsub.restate_admin import RestateAdmin, Strangers
from restate_pubsub.settings.fields import Settings

ROUNDS, PAUSE_SECONDS = 60, 0.5
"""So often it is looked for calls that are left, and so far apart: one that was ended may be listed for a moment."""


@click.command(cls=Command)
@click.argument("topics", nargs=-1)
@click.option(
    "--finish", is_flag=True, help="Once the TypeScript object is registered: end the calls that it does not know."
)
def unseal(topics: tuple[str, ...], *, finish: bool) -> None:
    """Turn TOPICS back into the form that `@restatedev/pubsub` reads: each message in a key of its own.

    The service must run with PUBSUB_PAGES=false. A topic can be read and written meanwhile.

    A topic has calls of its own for later, which clear what it does not need any more. The TypeScript object has no
    such handlers: when the time comes, Restate tries the call again and again, and nobody can write to the topic. So
    run this with --finish, and without topics, as soon as that object is registered.
    """
    if finish == bool(topics):
        msg = "give the topics to turn back; or only --finish, once the TypeScript object is registered"
        raise click.UsageError(msg)
    settings = load_settings()
    run(_finish(settings) if finish else _unseal(settings, topics))


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


async def _finish(settings: Settings) -> None:
    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    ended: Counter[str] = Counter()
    async with RestateAdmin(settings.admin_url, token) as admin:
        found = await _strangers(admin, settings.object_name)
        for _ in range(ROUNDS):
            for call in found.lost:
                ended[call.handler] += await admin.kill(call.invocation)
            if not found.lost and not found.elsewhere:
                break
            await asyncio.sleep(PAUSE_SECONDS)
            found = await _strangers(admin, settings.object_name)
    if found.elsewhere:
        call = found.elsewhere[0]
        how = ": ".join(filter(None, (call.status, call.failure)))
        what = f"{call.handler} of topic {call.topic!r} has begun in another program and does not end there ({how})"
        msg = f"{what}: see that it does, or kill {call.invocation}; then run this again"
        raise RegistrationFailed(msg)
    if found.lost:
        call = found.lost[0]
        msg = f"calls keep coming that it does not know ({call.handler} of topic {call.topic!r}): stop who makes them"
        raise RegistrationFailed(msg)
    calls = ", ".join(f"{count} {handler}" for handler, count in sorted(ended.items()) if count) or "none"
    click.echo(f"calls that the object at {found.url} does not know, ended: {calls}")


async def _strangers(admin: RestateAdmin, name: str) -> Strangers:
    found = await admin.strangers(name)
    if found is None or "unseal" in found.handlers:
        served = "is not registered" if found is None else f"is still this program's, at {found.url}"
        msg = f"the object {name!r} {served}: register the TypeScript object first, with force"
        raise RegistrationFailed(msg)
    return found
