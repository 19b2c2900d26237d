"""`restate-pubsub settings`."""

from __future__ import annotations

import click

from restate_pubsub.commands.command import Command
from restate_pubsub.settings import fields, reference

WRITE = {"text": reference.table, "markdown": reference.markdown, "env": reference.environment_file}


@click.command(cls=Command)
@click.option(
    "--format", "form", type=click.Choice([*WRITE]), default="text", show_default=True, help="Print the list as this."
)
def settings(form: str) -> None:
    """List every setting: its variable, default, and what it is for."""
    click.echo(WRITE[form](fields.variables()), nl=False)
