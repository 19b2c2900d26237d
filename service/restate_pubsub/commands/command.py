"""What the commands share: expected errors as one line, exit codes, settings, a loop that Ctrl-C ends.

Exit codes: 0 done, 1 failed, 2 a wrong word or setting, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

import click

from restate_pubsub.client.pubsub_client import PubsubClient, create_pubsub_client
from restate_pubsub.errors import ConfigError, PubsubError
from restate_pubsub.protocol.urls import redacted
from restate_pubsub.settings import fields
from restate_pubsub.settings.fields import Settings

FAILED, WRONG, INTERRUPTED = 1, 2, 130
SILENCE_SECONDS = 1.0
"""A command that has had no answer for so long says that it waits."""


class Command(click.Command):
    """A command whose expected errors are one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and turn an error into a line and an exit code."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(f"error: {redacted(str(error))}", err=True)
            ctx.exit(WRONG)
        except (PubsubError, OSError) as error:
            click.echo(f"error: {redacted(str(error))}", err=True)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def load_settings(*, strict: bool = False, **defaults: str) -> Settings:
    """Read the settings from the environment; `strict` is for what serves (`fields.load`).

    `defaults` are for variables that are not set.
    """
    given = {name: value for name, value in defaults.items() if not os.environ.get(name)}
    return fields.load({**os.environ, **given}, strict=strict)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until Ctrl-C or SIGTERM: then what the coroutine has started ends, too.

    asyncio's own way with Ctrl-C does not wake the loop: a signal that comes just before it goes to sleep would wait
    for whatever wakes it next.
    """

    async def interruptible() -> None:
        task = asyncio.ensure_future(main)
        for signum in (signal.SIGINT, signal.SIGTERM):  # what serves takes both over, to drain
            asyncio.get_running_loop().add_signal_handler(signum, task.cancel)
        await task

    try:
        asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def client_of(settings: Settings) -> PubsubClient:
    """Return a client of the object that these settings name; its warnings go to standard error, a line each."""
    from restate_pubsub.server.app import limits_of  # noqa: PLC0415 - keeps `--help` quick

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("restate_pubsub.client").handlers = [handler]
    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    return create_pubsub_client(settings.ingress_url, settings.object_name, token=token, limits=limits_of(settings))


@contextlib.contextmanager
def not_silent(what: str, url: str) -> Iterator[None]:
    """Say on standard error that Restate is being waited for, if that takes long."""
    text = f"{what}: waiting for Restate at {url} …"
    timer = asyncio.get_running_loop().call_later(SILENCE_SECONDS, lambda: click.echo(text, err=True))
    try:
        yield
    finally:
        timer.cancel()
