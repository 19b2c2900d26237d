"""`restate-pubsub metrics`."""

from __future__ import annotations

import click

from restate_pubsub.commands.command import Command


@click.command(cls=Command)
def metrics() -> None:
    """List every metric, as Markdown."""
    from restate_pubsub.telemetry.metrics import reference  # noqa: PLC0415 - keeps `--help` quick

    click.echo(reference(), nl=False)
