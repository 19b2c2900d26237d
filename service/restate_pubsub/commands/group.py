"""The group of all commands."""

from __future__ import annotations

import click

from restate_pubsub.commands.dev import dev
from restate_pubsub.commands.doctor.command import doctor
from restate_pubsub.commands.metrics import metrics
from restate_pubsub.commands.publish import publish
from restate_pubsub.commands.register import register
from restate_pubsub.commands.serve import serve
from restate_pubsub.commands.settings import settings
from restate_pubsub.commands.size import size
from restate_pubsub.commands.stop import stop
from restate_pubsub.commands.tail import tail
from restate_pubsub.commands.unseal import unseal

HELP = """Durable topics in Restate, live streams in the browser.

Settings come from the environment; `restate-pubsub settings` lists them. The first steps:

\b
  restate-pubsub dev                           a local Restate, this service, connected
  restate-pubsub tail demo                     follow a topic
  restate-pubsub publish demo '{"text":"hi"}'  write to it

Exit codes: 0 done; 1 refused, failed, or Restate stayed away; 2 a wrong word, option or setting; 130 ended by Ctrl-C.
"""


@click.group(
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[serve, register, dev, publish, tail, stop, doctor, unseal, size, settings, metrics],
)
@click.version_option(package_name="restate-pubsub")
def group() -> None:
    """Group the commands."""
