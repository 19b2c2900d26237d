"""The trials: each tries one thing at the public address and says what it found."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from restate_pubsub.commands.doctor.finding import Finding, Level
from restate_pubsub.commands.doctor.remedies import recognised, remedies
from restate_pubsub.commands.doctor.site import NDJSON, Event, Site, events

PATIENCE = 10.0
"""Seconds after which what has not come is held back."""
LATE = 0.1
"""Seconds after its acknowledgement by which an event is late."""
LINES = 5
UPLOAD_PATIENCE = 5.0
END_TRIES = 4
INVENTED = "192.0.2.1, 192.0.2.2"
"""Addresses that nobody has (RFC 5737), as a client would invent them.

Two: who appends makes three of them, who replaces makes one, and who only fills in where there is none keeps two.
"""
OPENING = b": open\n"
"""The first line of every stream."""
ELSEWHERE = "give the URL that topics are appended to, such as https://example.org/pubsub; a proxy must pass it on"
ASKED_HEADERS = "authorization, last-event-id, traceparent, baggage, sentry-trace"

Publish = Callable[[object], Awaitable[None]]
"""Writes one message to the doctor's topic."""


async def first_byte(site: Site) -> list[Finding]:
    """Open a stream: status, head, how soon something comes, and what stands in between."""
    mend: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE):
            return await _opened(site)
    except TimeoutError:
        text = f"nothing within {PATIENCE:g} s: something holds the answer back"
        mend = remedies("held back", site.programs)
    except aiohttp.ClientSSLError as error:
        text = f"{site.base} cannot be reached over TLS: {error}"
    except aiohttp.ClientResponseError as error:
        text = f"what listens at {site.base} does not speak HTTP: {' '.join(error.message.split())}"
    except (OSError, ValueError, aiohttp.ClientError) as error:
        text = f"{site.base} cannot be reached: {error}"
    return [Finding("FAULT", "first byte", text, mend)]


async def _opened(site: Site) -> list[Finding]:
    began = time.monotonic()
    async with site.stream("heartbeat=event") as answer:
        site.programs = recognised({name.lower(): value for name, value in answer.headers.items()})
        if answer.status != 200 or answer.content_type != "text/event-stream":
            return [await _refused(site, answer)]
        if (line := await answer.content.readline()) != OPENING:
            return [_strange(site, line)]
        took = time.monotonic() - began
        found = [Finding("ok", "first byte", f"after {took:.2f} s, HTTP/{_version(answer)}{_between(site)}")]
        return found + _head(answer)


def _strange(site: Site, line: bytes) -> Finding:
    """Return what a stream is that does not begin as those of this service."""
    if not line:
        text = f"the stream ends before its first byte{_between(site)}"
        return Finding("FAULT", "first byte", text, remedies("cut", site.programs))
    if line.startswith(b"retry:"):
        text = f"the service is away, and a proxy says when to come back{_between(site)}"
        return Finding("FAULT", "first byte", text, ["start the service, or let the proxy find it"])
    said = line.decode(errors="replace").strip()[:80]
    return Finding("FAULT", "first byte", f"a stream, but not of this service: it begins with {said!r}", [ELSEWHERE])


async def _refused(site: Site, answer: aiohttp.ClientResponse) -> Finding:
    text = await answer.text(errors="replace")
    try:
        problem = json.loads(text)
        said = f"{problem['code']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return _foreign(site, answer)
    mend = []
    if answer.status == 401 and not site.token:
        mend = ["give a token that may read and write the topic: --token, or RESTATE_PUBSUB_TOKEN"]
    elif answer.status == 401 and problem["code"] == "unauthorized" and "invalid" not in _challenge(answer):
        mend = ["the token was sent and has not arrived: something in between takes Authorization away"]
    elif answer.status == 403:
        mend = ["give the beginning of topics that the token permits: --prefix"]
    elif answer.status == 404:
        mend = [ELSEWHERE, "or the proxy changes the path: PUBSUB_SSE_PATH is what arrives at the service"]
    return Finding("FAULT", "token" if answer.status in (401, 403) else "first byte", f"{answer.status} {said}", mend)


def _foreign(site: Site, answer: aiohttp.ClientResponse) -> Finding:
    """Return what an answer is that this service never gives."""
    text = f"{answer.status} {answer.content_type}, and not from this service{_between(site)}"
    target = answer.headers.get("location")
    if 300 <= answer.status < 400 and target is not None:
        return Finding(
            "FAULT", "first byte", f"{text}: it redirects to {target}", ["give the address that it leads to"]
        )
    return Finding("FAULT", "first byte", text, [ELSEWHERE] if answer.status < 500 else [])


def _challenge(answer: aiohttp.ClientResponse) -> str:
    return answer.headers.get("www-authenticate", "")


def _version(answer: aiohttp.ClientResponse) -> str:
    return "?" if answer.version is None else f"{answer.version.major}.{answer.version.minor}"


def _between(site: Site) -> str:
    return f", through {', '.join(site.programs)}" if site.programs else ""


def _head(answer: aiohttp.ClientResponse) -> list[Finding]:
    coding = answer.headers.get("content-encoding")
    if coding:
        text = f"the stream is compressed ({coding}) although it says no-transform: see below if events still come"
        return [Finding("note", "compression", text)]
    if "no-transform" not in answer.headers.get("cache-control", ""):
        text = "something in between has replaced Cache-Control: no-store, no-transform"
        return [Finding("FAULT", "compression", text, ["pass the service's Cache-Control on as it is"])]
    return [Finding("ok", "compression", "left alone")]


async def without_a_token(site: Site) -> list[Finding]:
    """Ask once more without the token, if there is one."""
    if site.token is None:
        return [Finding("note", "token", "no token is needed: whoever reaches this address reads every topic")]
    token, site.token = site.token, None
    try:
        async with asyncio.timeout(PATIENCE), site.stream() as answer:
            if answer.status == 401:
                return [Finding("ok", "token", "needed, and accepted")]
            return [Finding("note", "token", f"not needed: {answer.status} without it")]
    finally:
        site.token = token


async def one_by_one(site: Site, publish: Publish, *, over_http: bool) -> list[Finding]:
    """Publish messages one after another: each must come at once, and before the next."""
    late: list[float] = []
    try:
        async with asyncio.timeout(3 * PATIENCE), site.stream() as answer:
            coming = events(answer)
            for at in range(LINES):
                waiting = asyncio.ensure_future(anext(coming))
                try:
                    await publish({"doctor": at})
                    acknowledged = time.monotonic()
                    event = await asyncio.wait_for(waiting, PATIENCE)
                finally:
                    waiting.cancel()
                late.append(max(event.at - acknowledged, 0.0))
    except TimeoutError:
        text = f"{len(late)} of {LINES} came within {PATIENCE:g} s: something holds them back"
        other = [] if late or over_http else ["or RESTATE_INGRESS_URL, where they were published, is another Restate's"]
        return [Finding("FAULT", "events", text, remedies("held back", site.programs) + other)]
    except (StopAsyncIteration, aiohttp.ClientError):
        text = f"the stream was cut after {len(late)} events"
        return [Finding("FAULT", "events", text, remedies("cut", site.programs))]
    middle = statistics.median(late)
    if middle > LATE:
        text = f"each comes {middle * 1000:.0f} ms after its acknowledgement"
        return [Finding("FAULT", "events", text, remedies("late", site.programs))]
    return [Finding("ok", "events", f"one by one, {middle * 1000:.0f} ms after their acknowledgement")]


async def heartbeats(site: Site) -> list[Finding]:
    """Where nothing can be published: wait for the second heartbeat."""
    async with site.stream("heartbeat=event") as answer:
        coming = events(answer)
        first = await asyncio.wait_for(anext(coming), PATIENCE)
        seconds = float(first.data["seconds"])
        try:
            await asyncio.wait_for(anext(coming), 1.5 * seconds + 1)
        except (TimeoutError, StopAsyncIteration, aiohttp.ClientError):
            text = f"no heartbeat within {1.5 * seconds:g} s: held back, or cut"
            return [Finding("FAULT", "events", text, remedies("held back", site.programs))]
    text = "heartbeats come as they should; nothing could be published here, so how late events are is not known"
    return [Finding("note", "events", text)]


async def resumption(site: Site) -> list[Finding]:
    """Go on in the middle, as a browser does: by the header."""
    async with asyncio.timeout(PATIENCE), site.stream(last_event_id="2") as answer:
        event = await anext(events(answer))
    if event.id == "3":
        return [Finding("ok", "resumption", "Last-Event-ID arrives")]
    text = f"Last-Event-ID: 2 led to the event {event.id}"
    return [Finding("FAULT", "resumption", text, ["pass the request's header Last-Event-ID on"])]


async def end(site: Site, close: Callable[[], Awaitable[None]]) -> list[Finding]:
    """End the topic: readers must learn of it, and get 204 then."""
    last = Event("", "", None, 0.0)
    try:
        async with asyncio.timeout(PATIENCE), site.stream() as answer:
            await close()
            async for event in events(answer):
                last = event
        status = await _status_after(site, last.id)
    except TimeoutError:
        text = "the stream stays open after the topic's end" if last.name == "end" else "the end does not come"
        return [Finding("FAULT", "end", text, remedies("held back", site.programs))]
    if (last.name, status) == ("end", 204):
        return [Finding("ok", "end", "the event `end`, then 204")]
    return [Finding("FAULT", "end", f"the last event was {last.name or 'none'}, then {status} instead of 204")]


async def _status_after(site: Site, last_id: str) -> int:
    """Return how a reader is answered that has everything. A service whose Restate is busy may say `end` once more."""
    status = 0
    for _ in range(END_TRIES):
        async with asyncio.timeout(PATIENCE), site.stream(last_event_id=last_id) as answer:
            status = answer.status
            if status == 204:
                break
            async for _event in events(answer):
                pass
    return status


async def upload(site: Site) -> list[Finding]:
    """Send lines one after another: each must be there before the next is sent."""
    arrived: asyncio.Queue[Event] = asyncio.Queue()
    seen: list[int] = []

    async def lines() -> AsyncIterator[bytes]:
        for at in range(2):
            yield b'{"doctor":"line %d"}\n' % at
            try:
                await asyncio.wait_for(arrived.get(), UPLOAD_PATIENCE)
            except TimeoutError:
                return
            seen.append(at)

    async def read() -> None:
        async with site.stream("offset=latest") as answer:
            opened.set()
            async for event in events(answer):
                arrived.put_nowait(event)

    opened = asyncio.Event()
    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(3 * PATIENCE):
            await opened.wait()
            async with site.request("POST", data=lines(), **{"content-type": NDJSON["content-type"]}) as answer:
                status = answer.status
                text = await answer.text(errors="replace")
    except TimeoutError:
        return [Finding("FAULT", "uploads", "no answer", remedies("uploads held back", site.programs))]
    except aiohttp.ClientError as error:
        how, fault = ("cut", "uploads cut") if seen else ("cut before a line of it arrived", "uploads held back")
        return [Finding("FAULT", "uploads", f"{how}: {error}", remedies(fault, site.programs))]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    if status != 200:
        return [Finding("FAULT", "uploads", f"{status}: {text[:200]}")]
    if not seen:
        text = "a body arrives whole, at its end"
        return [Finding("FAULT", "uploads", text, remedies("uploads held back", site.programs))]
    return [Finding("ok", "uploads", "a line is there before the next is sent")]


async def address(site: Site) -> list[Finding]:
    """Ask what arrives in X-Forwarded-For, without anything and with addresses that are invented."""
    told = []
    for headers in ({}, {"x_forwarded_for": INVENTED}):
        async with asyncio.timeout(PATIENCE), site.request("HEAD", **headers) as answer:
            told.append(answer.headers.get("pubsub-forwarded", ""))
    try:
        entries, trusted = (int(part.partition("=")[2]) for part in told[0].split(";"))
        with_two = int(told[1].partition(";")[0].partition("=")[2])
    except ValueError:
        return [Finding("note", "client address", "not known: the answer to HEAD does not say")]
    if entries == with_two == 0:  # without a proxy the invented ones would arrive
        text = "something in between takes X-Forwarded-For away: all clients count as one"
        mend = remedies("no address", site.programs) if not site.programs else []
        return [Finding("FAULT", "client address", text, ["let it append the address that it saw", *mend])]
    if (entries == 0 and with_two) or with_two not in (entries, entries + 2):
        text = "X-Forwarded-For passes as the client wrote it: no proxy adds what it saw"
        level: Level = "FAULT" if trusted or site.programs else "note"
        mend = remedies("no address", site.programs)
        if trusted:
            text += f", and PUBSUB_TRUSTED_PROXIES={trusted} believes it: limits are for those who do not invent one"
            mend.append(f"the service: PUBSUB_TRUSTED_PROXIES={max(entries - 1, 0)}, if that cannot be")
        return [Finding(level, "client address", text, mend if level == "FAULT" else [])]
    if entries == trusted:
        return [Finding("ok", "client address", f"PUBSUB_TRUSTED_PROXIES={trusted} is right")]
    what = "whoever writes the header chooses an address" if trusted > entries else "all clients count as one"
    text = f"{entries} prox{'y adds' if entries == 1 else 'ies add'} to X-Forwarded-For, {trusted} are trusted: {what}"
    return [Finding("FAULT", "client address", text, [f"the service: PUBSUB_TRUSTED_PROXIES={entries}"])]


async def cors(site: Site, origin: str) -> list[Finding]:
    """Ask as a page of another origin does."""
    mend = [f"the service: PUBSUB_CORS_ORIGINS={origin}", "or something in between answers OPTIONS itself"]
    async with asyncio.timeout(PATIENCE), site.stream(origin=origin) as answer:
        if answer.headers.get("access-control-allow-origin") not in (origin, "*"):
            return [Finding("FAULT", "CORS", f"pages of {origin} may not read", mend)]
        cookies = answer.headers.get("access-control-allow-credentials") == "true"
    asked = {"origin": origin, "access-control-request-method": "GET", "access-control-request-headers": ASKED_HEADERS}
    token, site.token = site.token, None  # a browser sends none with a preflight
    try:
        async with asyncio.timeout(PATIENCE), site.request("OPTIONS", **asked) as answer:
            allowed = answer.headers.get("access-control-allow-headers", "").lower()
    finally:
        site.token = token
    missing = [name for name in ASKED_HEADERS.split(", ") if name not in allowed]
    if missing:
        return [Finding("FAULT", "CORS", f"a preflight does not allow {', '.join(missing)}", mend[1:])]
    return [Finding("ok", "CORS", f"pages of {origin} may read{', with cookies' if cookies else ''}")]


async def idle(site: Site, seconds: float) -> list[Finding]:
    """Keep a stream open in which only heartbeats come."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds), site.stream("offset=latest") as answer:
            while await answer.content.readany():
                pass
    except TimeoutError:
        return [Finding("ok", "idle stream", f"open after {seconds:g} s with nothing but heartbeats")]
    except aiohttp.ClientError:
        pass
    text = f"cut after {time.monotonic() - began:.0f} s with nothing but heartbeats"
    return [Finding("FAULT", "idle stream", text, remedies("cut", site.programs))]


async def idle_upload(site: Site, seconds: float) -> list[Finding]:
    """Keep an upload open in which nothing comes."""
    began = time.monotonic()
    over = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield b"\n"
        await over.wait()

    try:
        async with (
            asyncio.timeout(seconds),
            site.request("POST", data=silent(), **{"content-type": NDJSON["content-type"]}) as answer,
        ):
            how = f"answered {answer.status}"
    except TimeoutError:
        return [Finding("ok", "idle upload", f"open after {seconds:g} s of silence")]
    except aiohttp.ClientError:
        how = "cut"
    text = f"{how} after {time.monotonic() - began:.0f} s of silence: send blank lines more often than that"
    return [Finding("note", "idle upload", text, remedies("uploads cut", site.programs))]
