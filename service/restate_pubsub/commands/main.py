"""The command. Exit codes: 0 done, 1 failed, 2 a wrong word or setting, 130 interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import click

from restate_pubsub.client.pubsub_client import PubsubClient, create_pubsub_client
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import ConfigError, InvalidRequest, OffsetGone, PubsubError
from restate_pubsub.protocol.json_text import compact
from restate_pubsub.protocol.messages import Message
from restate_pubsub.protocol.names import check_event
from restate_pubsub.protocol.urls import redacted
from restate_pubsub.settings import fields as settings_module
from restate_pubsub.settings.fields import Settings

FAILED, WRONG, INTERRUPTED = 1, 2, 130
MAX_LINE_BYTES = 32 * 1024 * 1024


class _Command(click.Command):
    """A command whose expected errors are one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
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


def _settings(*, strict: bool = False) -> Settings:
    return settings_module.load(os.environ, strict=strict)


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until Ctrl-C.

    asyncio's own way with Ctrl-C does not wake the loop: a signal that comes just before it goes to sleep would wait
    for whatever wakes it next.
    """

    async def interruptible() -> None:
        task = asyncio.ensure_future(main)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        await task

    try:
        asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _client(settings: Settings) -> PubsubClient:
    from restate_pubsub.server.app import limits_of  # noqa: PLC0415 - keeps `--help` quick

    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    return create_pubsub_client(settings.ingress_url, settings.object_name, token=token, limits=limits_of(settings))


_HELP = """Durable topics in Restate, live streams in the browser.

Settings come from the environment; `restate-pubsub settings` lists them. The first steps:

\b
  restate-pubsub dev                           a local Restate, this service, connected
  restate-pubsub tail demo                     follow a topic
  restate-pubsub publish demo '{"text":"hi"}'  write to it
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="restate-pubsub")
def main() -> None:
    """Group the commands."""


@main.command(cls=_Command)
def serve() -> None:
    """Run the service: the Restate endpoint and the streams.

    It listens on PUBSUB_BIND, stops on SIGTERM or Ctrl-C within PUBSUB_DRAIN_TIMEOUT, and must be registered with
    Restate once (`restate-pubsub register`).
    """
    from restate_pubsub.telemetry.logs import configure  # noqa: PLC0415 - keeps `--help` quick

    settings = _settings(strict=True)
    configure(settings)
    _run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from restate_pubsub.server.app import create_service  # noqa: PLC0415
    from restate_pubsub.server.serving import listen, serve  # noqa: PLC0415

    sockets = listen(settings.listens, send_timeout=settings.send_timeout)
    await serve(create_service(settings), settings, sockets)


@main.command(cls=_Command)
@click.option("--url", help="This service's Restate endpoint as Restate reaches it.  [default: from PUBSUB_BIND]")
@click.option("--force", is_flag=True, help="Take the object over from another deployment, or change its type.")
@click.option("--wait", default="60s", show_default=True, help="How long to wait for Restate and the service.")
@click.option(
    "--await-rollout", is_flag=True, help="Wait until what is discovered is this version with these settings."
)
def register(url: str | None, *, force: bool, wait: str, await_rollout: bool) -> None:
    """Register the object with Restate at RESTATE_ADMIN_URL.

    Waits for Restate and for the service, may be repeated, and makes Restate discover changed handlers.
    """
    from restate_pubsub.settings.units import parse_duration  # noqa: PLC0415

    settings = _settings()
    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        msg = f"--wait {wait}: {error}"
        raise ConfigError(msg) from None
    manifest = None
    if await_rollout:
        from restate_pubsub.server.app import create_object  # noqa: PLC0415
        from restate_pubsub.topic.virtual_object import manifest_of  # noqa: PLC0415

        manifest = manifest_of(create_object(settings))
    _run(_register(settings, url or _own_url(settings), force=force, wait=seconds, manifest=manifest))


def _own_url(settings: Settings) -> str:
    # Of two addresses the first serves only the streams (`doors.py`); the last one always serves Restate.
    return _url(settings.bind[-1]) + settings.restate_path


def _url(bind: str) -> str:
    host, _, port = bind.rpartition(":")
    if host in ("", "0.0.0.0", "[::]"):  # noqa: S104 - these are read, not bound
        host = "localhost"
    return f"http://{host}:{port}"


async def _register(settings: Settings, url: str, *, force: bool, wait: float, manifest: str | None = None) -> None:
    from restate_pubsub.commands.registration import Registrar  # noqa: PLC0415

    token = settings.auth_token.get_secret_value() if settings.auth_token else None
    registrar = Registrar(settings.admin_url, token, say=lambda line: click.echo(redacted(line), err=True))
    done = await registrar.register(url, settings.object_name, force=force, wait=wait, manifest=manifest)
    click.echo(
        f"{done.change}: object {done.name} (revision {done.revision}) at {done.url}, deployment {done.deployment}"
    )
    click.echo(f"handlers: {', '.join(done.handlers)}")


@main.command(cls=_Command)
@click.option("--base-dir", default=".restate", show_default=True, help="Where the local Restate keeps its data.")
def dev(base_dir: str) -> None:
    """Run everything on this machine: a local Restate server, the service, and its registration.

    The ports are those of RESTATE_INGRESS_URL, RESTATE_ADMIN_URL and PUBSUB_BIND. Ctrl-C ends all of it.
    """
    from restate_pubsub.telemetry.logs import configure  # noqa: PLC0415

    settings = _settings(strict=True)
    configure(settings)
    _run(_dev(settings, Path(base_dir)))


async def _dev(settings: Settings, base_dir: Path) -> None:
    from urllib.parse import urlsplit  # noqa: PLC0415

    from restate_pubsub.commands.local_restate import RestateServer  # noqa: PLC0415
    from restate_pubsub.server.app import create_service  # noqa: PLC0415
    from restate_pubsub.server.serving import listen, serve  # noqa: PLC0415

    sockets = listen(settings.listens, send_timeout=settings.send_timeout)
    ingress, admin = urlsplit(settings.ingress_url).port or 80, urlsplit(settings.admin_url).port or 80
    restate_server = RestateServer(base_dir, ingress_port=ingress, admin_port=admin)
    click.echo(f"starting restate-server, its data in {base_dir}/ …", err=True)
    await restate_server.start()
    try:
        serving = asyncio.create_task(serve(create_service(settings), settings, sockets))
        registering = asyncio.create_task(_register(settings, _own_url(settings), force=True, wait=30))
        await asyncio.wait({serving, registering}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await registering
            _say_what_to_try(settings)
        await serving
    finally:
        await restate_server.stop()


def _say_what_to_try(settings: Settings) -> None:
    here = _url(settings.bind[0])
    click.echo(
        f"""
Ready. Follow a topic in one terminal:

  curl -N {here}{settings.sse_path}/demo

and write to it from another:

  curl {settings.ingress_url}/{settings.object_name}/demo/publish \\
    -H 'content-type: application/json' -d '{{"role":"user","content":"hi"}}'

Restate's UI: {settings.admin_url}    metrics: {_url(settings.bind[-1])}/metrics    Ctrl-C ends all of it.
"""
    )


@main.command(cls=_Command)
@click.argument("topic")
@click.argument("message", default="-")
@click.option("--event", help="The name of the event that browsers get.")
@click.option("--close", is_flag=True, help="End the topic with the last message.")
@click.option("--key", help="An idempotency key: repeated, the message is published once.")
def publish(topic: str, message: str, *, event: str | None, close: bool, key: str | None) -> None:
    """Publish MESSAGE (JSON) to TOPIC, or with `-` each line of standard input as one message, as it comes.

    Prints the offset of the first message and the one after the last.
    """
    check_event(event)
    _run(_publish(_settings(), topic, message, event, close=close, key=key))


async def _publish(
    settings: Settings, topic: str, message: str, event: str | None, *, close: bool, key: str | None
) -> None:
    async with _client(settings) as client:
        if message != "-":
            entry = Message(compact(message.encode(), client.limits.message_bytes), event)
            done = await client.append_encoded(topic, [entry], close=close, idempotency_key=key)
            click.echo(json.dumps({"offset": done.offset, "nextOffset": done.next_offset}))
            return
        stream = TokenStream(client, topic, client.limits, stream_id=key, resume=key is not None, close=close)
        async with stream:
            await _write_lines(stream, event)
        click.echo(json.dumps({"offset": stream.offset, "nextOffset": stream.next_offset}))


async def _write_lines(stream: TokenStream, event: str | None) -> None:
    """Write standard input line by line, as it comes; a broken line ends it, what came before stands."""
    number = 0
    async for line in _stdin_lines():
        number += 1
        try:
            if line.strip():
                await stream.write_encoded(line, event=event)
        except InvalidRequest as error:
            error.message = f"line {number}: {error}"
            raise


async def _stdin_lines() -> AsyncIterator[bytes]:
    if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        for line in sys.stdin.buffer:
            yield line
        return
    # A pipe or a terminal may be silent for long; a thread that waits for it could not be interrupted.
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            yield line
    except ValueError:
        msg = f"a line has more than {MAX_LINE_BYTES} bytes"
        raise InvalidRequest(msg) from None


@main.command(cls=_Command)
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
    _run(_tail(_settings(), topic, offset, full=full))


async def _tail(settings: Settings, topic: str, offset: str, *, full: bool) -> None:
    async with _client(settings) as client:
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


@main.command("settings", cls=_Command)
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "env"]), default="text", show_default=True, help="How."
)
def list_settings(form: str) -> None:
    """List every setting: its variable, default, and what it is for."""
    from restate_pubsub.settings import reference as settings_docs  # noqa: PLC0415

    write = {"text": settings_docs.table, "markdown": settings_docs.markdown, "env": settings_docs.environment_file}
    click.echo(write[form](settings_module.variables()), nl=False)


@main.command("metrics", cls=_Command)
def list_metrics() -> None:
    """List every metric, as Markdown."""
    from restate_pubsub.telemetry.metrics import reference  # noqa: PLC0415

    click.echo(reference(), nl=False)


if __name__ == "__main__":
    main()
