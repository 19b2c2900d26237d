"""The command: which trials are made, in which order, and what is printed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import click

from restate_pubsub.commands.command import Command, client_of, load_settings, run
from restate_pubsub.commands.doctor import http2, trials
from restate_pubsub.commands.doctor.finding import Finding
from restate_pubsub.commands.doctor.remedies import PAGE
from restate_pubsub.commands.doctor.site import Site, site
from restate_pubsub.errors import ConfigError, PubsubError
from restate_pubsub.settings.fields import Settings
from restate_pubsub.settings.origins import check_origins
from restate_pubsub.settings.units import parse_duration


@click.command(cls=Command)
@click.argument("url")
@click.option("--origin", help="Try whether pages of this origin may read.")
@click.option("--token", envvar="RESTATE_PUBSUB_TOKEN", show_envvar=True, help="An access token.")
@click.option("--prefix", default="doctor-", show_default=True, help="How the doctor's own topic begins.")
@click.option("--idle", help="Also keep a stream and an upload idle for this long, such as 3m.")
def doctor(url: str, *, origin: str | None, token: str | None, prefix: str, idle: str | None) -> None:
    """Try what stands between the service at the public URL and its readers, and say what mends each fault.

    URL is that of the streams without a topic (https://example.org/pubsub), or of the host. Messages are published
    over HTTP where that is enabled, else through Restate where RESTATE_INGRESS_URL reaches it, to a topic of the
    doctor's own that is deleted at the end. Ends with 1 if there is a fault.
    """
    settings = load_settings()
    base = _base(url, settings.sse_path)
    if origin is not None:
        _check_origin(origin)
    if token is not None and not token.strip().isprintable():
        msg = "--token, or RESTATE_PUBSUB_TOKEN, is not one line of text: give the access token alone"
        raise ConfigError(msg)
    try:
        seconds = parse_duration(idle) if idle else 0.0
    except ValueError as error:
        msg = f"--idle {idle}: {error}"
        raise ConfigError(msg) from None
    run(_examine(settings, site(base, f"{prefix}{secrets.token_hex(6)}", token and token.strip()), origin, seconds))


def _check_origin(origin: str) -> None:
    try:
        check_origins([origin])
    except ValueError as error:
        msg = f"--origin {origin}: {error}"
        raise ConfigError(msg) from None


def _base(url: str, sse_path: str) -> str:
    """Return the URL that a topic is appended to.

    Raises:
        ConfigError: it is no address of streams.

    """
    wrong = ""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        parts, wrong = urlsplit(""), f": {error}"
    if parts.query or parts.fragment:
        wrong = ", without ? and #"
    if parts.scheme not in ("http", "https") or not parts.hostname or wrong:
        msg = f"{url}: give the address that browsers use, such as https://example.org/pubsub{wrong}"
        raise ConfigError(msg)
    return url.rstrip("/") if parts.path.strip("/") else url.rstrip("/") + sse_path


async def _examine(
    settings: Settings, open_site: contextlib.AbstractAsyncContextManager[Site], origin: str | None, idle: float
) -> None:
    faults = 0
    async with open_site as where:
        async for finding in _findings(settings, where, origin, idle):
            click.echo(str(finding))
            faults += finding.level == "FAULT"
    if faults:
        msg = f"{faults} fault{'s' if faults > 1 else ''}; {PAGE} has the whole configuration of each program"
        raise PubsubError(msg)


async def _findings(settings: Settings, site: Site, origin: str | None, idle: float) -> AsyncIterator[Finding]:
    found = await trials.first_byte(site)
    for finding in found:
        yield finding
    if not any(finding.subject == "compression" for finding in found):
        return  # there is no stream to try anything with
    async with _writer(settings, site) as writer:
        for trial in _trials(site, writer, origin, idle):
            for finding in await _tried(trial):
                yield finding


async def _tried(trial: tuple[str, Callable[[], Awaitable[list[Finding]]]]) -> list[Finding]:
    name, make = trial
    try:
        return await make()
    except (TimeoutError, StopAsyncIteration, OSError, aiohttp.ClientError) as error:
        return [Finding("FAULT", name, f"failed: {str(error) or type(error).__name__}")]


def _trials(
    site: Site, writer: _Writer | None, origin: str | None, idle: float
) -> list[tuple[str, Callable[[], Awaitable[list[Finding]]]]]:
    made: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("token", lambda: trials.without_a_token(site)),
        ("client address", lambda: trials.address(site)),
        ("HTTP/2", lambda: http2.streams(site)),
    ]
    if origin:
        made.append(("CORS", lambda: trials.cors(site, origin)))
    if writer is None:
        made.append(("events", lambda: trials.heartbeats(site)))
    else:
        made += [
            ("events", lambda: trials.one_by_one(site, writer.publish, over_http=writer.over_http)),
            ("resumption", lambda: trials.resumption(site)),
        ]
    if writer is not None and writer.over_http:
        made.append(("uploads", lambda: trials.upload(site)))
    if idle:
        made.append(("idle stream", lambda: trials.idle(site, idle)))
        if writer is not None and writer.over_http:
            made.append(("idle upload", lambda: trials.idle_upload(site, idle)))
    if writer is not None:
        made.append(("end", lambda: trials.end(site, writer.close)))
    return made


@dataclass(frozen=True)
class _Writer:
    """Writes to the doctor's topic, in whichever way there is."""

    publish: Callable[[object], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    over_http: bool


@contextlib.asynccontextmanager
async def _writer(settings: Settings, site: Site) -> AsyncIterator[_Writer | None]:
    """Return what writes, None if nothing does; the topic is deleted afterwards."""

    async def post(message: object, query: str = "") -> None:
        body = json.dumps(message).encode()
        async with site.request("POST", query, data=body, **{"content-type": "application/json"}) as answer:
            if answer.status != 200:
                msg = f"HTTP publishing answers {answer.status}: {(await answer.text(errors='replace'))[:300]}"
                raise PubsubError(msg)

    async def close() -> None:
        await post({"doctor": "end"}, "close=true")

    if await _deleted(site):
        try:
            yield _Writer(post, close, over_http=True)
        finally:
            await _deleted(site)
        return
    async with client_of(settings) as client:
        try:
            async with asyncio.timeout(trials.PATIENCE):
                await client.delete(site.topic)
        except (PubsubError, TimeoutError):
            yield None
            return

        async def publish(message: object) -> None:
            await client.publish(site.topic, message)

        async def close_topic() -> None:
            await client.close(site.topic)

        try:
            yield _Writer(publish, close_topic, over_http=False)
        finally:
            await client.delete(site.topic)


async def _deleted(site: Site) -> bool:
    """Delete the doctor's topic over HTTP; return whether the service lets it."""
    try:
        async with asyncio.timeout(trials.PATIENCE), site.request("DELETE") as answer:
            return answer.status == 204
    except (TimeoutError, OSError, aiohttp.ClientError):
        return False
