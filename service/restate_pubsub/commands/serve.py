"""`restate-pubsub serve`."""

from __future__ import annotations

import os

import click

from restate_pubsub.commands.command import Command, load_settings, run
from restate_pubsub.settings.fields import Settings


@click.command(cls=Command)
def serve() -> None:
    """Run the service: the Restate endpoint and the streams.

    It listens on PUBSUB_BIND, stops on SIGTERM or Ctrl-C within PUBSUB_DRAIN_TIMEOUT, and must be registered with
    Restate once (`restate-pubsub register`).
    """
    from restate_pubsub.telemetry.logs import configure  # noqa: PLC0415 - keeps `--help` quick

    settings = load_settings(strict=True)
    configure(settings)
    run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from restate_pubsub.server import serving  # noqa: PLC0415
    from restate_pubsub.server.app import create_service  # noqa: PLC0415
    from restate_pubsub.telemetry.tracing.asked import tracing_from  # noqa: PLC0415

    sockets = serving.listen(settings.listens, send_timeout=settings.send_timeout)
    service = create_service(settings, ports=serving.ports_of(sockets), tracing=tracing_from(os.environ))
    await serving.serve(service, settings, sockets)
