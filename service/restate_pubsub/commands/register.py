"""`restate-pubsub register`."""

from __future__ import annotations

import click

from restate_pubsub.commands.addresses import restate_endpoint
from restate_pubsub.commands.command import Command, load_settings, run
from restate_pubsub.errors import ConfigError
from restate_pubsub.protocol.urls import redacted
from restate_pubsub.settings.fields import Settings
from restate_pubsub.settings.units import parse_duration


@click.command(cls=Command)
@click.option("--url", help="This service's Restate endpoint as Restate reaches it.  [default: from PUBSUB_BIND]")
@click.option("--force", is_flag=True, help="Take the object over from another deployment, or change its type.")
@click.option("--wait", default="60s", show_default=True, help="Wait this long for Restate and the service.")
@click.option(
    "--await-rollout", is_flag=True, help="Wait until what is discovered is this version with these settings."
)
def register(url: str | None, *, force: bool, wait: str, await_rollout: bool) -> None:
    """Register the object with Restate at RESTATE_ADMIN_URL.

    Waits for Restate and for the service, may be repeated, and makes Restate discover changed handlers.
    """
    settings = load_settings()
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        msg = f"--wait {wait}: {error}"
        raise ConfigError(msg) from None
    manifest = None
    if await_rollout:
        from restate_pubsub.server.app import create_object  # noqa: PLC0415 - keeps `--help` quick
        from restate_pubsub.topic.virtual_object import manifest_of  # noqa: PLC0415

        manifest = manifest_of(create_object(settings))
    run(register_at(settings, url or restate_endpoint(settings), force=force, wait=seconds, manifest=manifest))


async def register_at(settings: Settings, url: str, *, force: bool, wait: float, manifest: str | None = None) -> None:
    """Register what `url` serves, and print what Restate has now."""
    from restate_pubsub.commands.registration import Registrar  # noqa: PLC0415

    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    registrar = Registrar(settings.admin_url, token, say=lambda line: click.echo(redacted(line), err=True))
    done = await registrar.register(url, settings.object_name, force=force, wait=wait, manifest=manifest)
    click.echo(
        f"{done.change}: object {done.name} (revision {done.revision}) at {done.url}, deployment {done.deployment}"
    )
    click.echo(f"handlers: {', '.join(done.handlers)}")
