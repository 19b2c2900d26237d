"""`restate-pubsub dev`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import urlsplit

import click

from restate_pubsub.commands.addresses import address, restate_endpoint
from restate_pubsub.commands.command import Command, load_settings, run
from restate_pubsub.commands.further_replicas import further_replicas, settings_of
from restate_pubsub.commands.register import register_at
from restate_pubsub.settings.fields import Settings

LOOPBACK_BIND = "127.0.0.1:9080"


@click.command(cls=Command)
@click.option("--base-dir", default=".restate", show_default=True, help="Keep the local Restate's data in this folder.")
@click.option(
    "--node-port",
    default=5122,
    show_default=True,
    help="Let Restate talk to itself on this port; each Restate has one.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="Run this many processes of the service; each further one listens on the next ports.",
)
@click.option("--public", is_flag=True, help="Listen on all interfaces, Restate too: for a network that you trust.")
def dev(base_dir: str, node_port: int, replicas: int, *, public: bool) -> None:
    """Run everything on this machine: a local Restate server, the service, and its registration.

    The ports are those of RESTATE_INGRESS_URL, RESTATE_ADMIN_URL, PUBSUB_BIND and --node-port; only this machine
    reaches them. A second `dev` needs a folder and four ports of its own.
    Of several replicas the first runs all writes, and hands them to the others as pods of a cluster do.
    Ctrl-C ends all of it.
    """
    from restate_pubsub.telemetry.logs import configure  # noqa: PLC0415 - keeps `--help` quick

    defaults = {} if public else {"PUBSUB_BIND": LOOPBACK_BIND}
    settings = load_settings(strict=True, **defaults)
    if replicas > 1:
        settings = load_settings(strict=True, **{**defaults, **settings_of(settings, 0)})
    configure(settings)
    run(_dev(settings, Path(base_dir), node_port, replicas, public=public))


async def _dev(settings: Settings, base_dir: Path, node_port: int, replicas: int, *, public: bool) -> None:
    from restate_pubsub.commands.local_restate import RestateServer  # noqa: PLC0415
    from restate_pubsub.server.app import create_service  # noqa: PLC0415
    from restate_pubsub.server.serving import listen, ports_of, serve  # noqa: PLC0415
    from restate_pubsub.telemetry.tracing.asked import tracing_from  # noqa: PLC0415

    sockets = listen(settings.listens, send_timeout=settings.send_timeout)
    ingress, admin = urlsplit(settings.ingress_url).port or 80, urlsplit(settings.admin_url).port or 80
    restate_server = RestateServer(base_dir, ingress_port=ingress, admin_port=admin, node_port=node_port, public=public)
    click.echo(f"starting restate-server, its data in {base_dir}/ …", err=True)
    try:
        await restate_server.start()
        service = create_service(settings, ports=ports_of(sockets), tracing=tracing_from(os.environ))
        serving = asyncio.create_task(serve(service, settings, sockets))
        registering = asyncio.create_task(register_at(settings, restate_endpoint(settings), force=True, wait=30))
        await asyncio.wait({serving, registering}, return_when=asyncio.FIRST_COMPLETED)
        async with further_replicas(settings, os.environ, replicas - 1):
            if not serving.done():
                await registering
                _say_what_to_try(settings, replicas)
            await serving
    finally:
        await restate_server.stop()


def _say_what_to_try(settings: Settings, replicas: int) -> None:
    here = address(settings.bind[0])
    others = [address(settings_of(settings, number)["PUBSUB_BIND"].partition(",")[0]) for number in range(1, replicas)]
    further = f"\nThe streams are at {', '.join(others)} as well: other replicas, which get what this one writes.\n"
    click.echo(
        f"""
Ready. Follow a topic in one terminal:

  curl -N {here}{settings.sse_path}/demo

and write to it from another:

  curl {settings.ingress_url}/{settings.object_name}/demo/publish \\
    -H 'content-type: application/json' -d '{{"role":"user","content":"hi"}}'

Restate's UI: {settings.admin_url}    metrics: {address(settings.bind[-1])}/metrics    Ctrl-C ends all of it.
"""
        + (further if others else "")
    )
