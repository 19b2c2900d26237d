"""Streams and uploads through each program of docs/proxies.md, with the configuration that the page gives."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from proxies.conftest import BEAT
from proxies.place import LIMIT
from proxies.programs import Running, running
from proxies.trials import LIVE, lateness, pauses, post_lines, statuses, upload
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Event, Service, Stream, call, get, publish, stream
from support.http2 import Http2Client
from support.waiting import until


@pytest.mark.parametrize("compression", ["identity", "gzip"])
async def test_events_come_at_once(
    restate: RestateServer, service: Service, proxy: Running, topic: str, compression: str
) -> None:
    """One by one, beside a reader without a proxy; compression leaves them alone, or passes each on as it comes."""
    late = await lateness(restate, service, proxy.url, topic, compression)
    assert late < LIVE


async def test_silence_past_the_limit_of_the_proxy_ends_nothing(
    restate: RestateServer, proxy: Running, topic: str
) -> None:
    """Heartbeats keep the stream, also when its last byte was sent longer ago than the limit."""
    async with stream(f"{proxy.url}/pubsub/{topic}?heartbeat=event") as reader:
        beats = await reader.take(1 + 2 * LIMIT)
        assert {"heartbeat"} == {beat.event for beat in beats}
        await publish(restate, topic, "after")
        assert "after" == (await next_message(reader)).data


async def next_message(reader: Stream) -> Event:
    while (event := await reader.next()).event == "heartbeat":
        pass
    return event


async def test_a_killed_service_ends_the_stream_and_the_reader_goes_on(
    restate: RestateServer, service: Service, proxy: Running, topic: str
) -> None:
    """However tidily the proxy ends it: there was no `end`, so it was a cut."""
    async with stream(f"{proxy.url}/pubsub/{topic}") as reader:
        await publish(restate, topic, 0)
        assert 0 == (await reader.next()).data
        await service.kill()
        try:
            with pytest.raises((EOFError, aiohttp.ClientError)):
                await reader.next(2 * BEAT + LIMIT)
        finally:
            await service.start()
    await publish(restate, topic, 1)

    async def back() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/pubsub/{topic}") as answer:
            return answer.status == 200 and b"retry: 3000\n\n" != await answer.content.readany()

    await until(back, "the proxy to reach the service again")
    async with stream(f"{proxy.url}/pubsub/{topic}", last_event_id=reader.last_id) as again:
        assert (1, "2") == ((event := await again.next()).data, event.id)


async def test_an_ended_topic_ends_the_stream_and_is_204_then(
    restate: RestateServer, proxy: Running, topic: str
) -> None:
    """Which stops an `EventSource`."""
    async with stream(f"{proxy.url}/pubsub/{topic}") as reader:
        await publish(restate, topic, "last")
        await call(restate, topic, "close")
        assert ["message", "end"] == [event.event for event in await reader.to_end()]
    status, body, _ = await get(f"{proxy.url}/pubsub/{topic}", last_event_id=reader.last_id)
    assert (204, b"") == (status, body)


async def test_a_client_that_has_gone_is_noticed(service: Service, proxy: Running, topic: str) -> None:
    """By the second heartbeat after."""
    await service.has_streams(0)
    async with stream(f"{proxy.url}/pubsub/{topic}"):
        await service.has_streams(1)
    await service.has_streams(0, seconds=2 * BEAT + 1)


async def test_lines_of_an_upload_arrive_while_it_lasts(proxy: Running, topic: str) -> None:
    """A message is there before the next one is sent."""
    if not proxy.uploads:
        pytest.skip(f"{proxy.name} of the page is for streams alone")
    assert {"offset": 0, "nextOffset": 3, "count": 3} == await upload(proxy.url, topic)


async def test_blank_lines_keep_an_upload_that_has_nothing_to_say(proxy: Running, topic: str) -> None:
    """For longer than the limit of the proxy; they are no messages."""
    if not proxy.uploads:
        pytest.skip(f"{proxy.name} of the page is for streams alone")
    silence = pauses(2 * LIMIT, keep_alive=True)
    assert (200, {"offset": 0, "nextOffset": 2, "count": 2}) == await post_lines(proxy.url, topic, silence)


@pytest.mark.parametrize("slash", ["/", "%2F"])
async def test_a_topic_may_have_a_slash(restate: RestateServer, proxy: Running, topic: str, slash: str) -> None:
    """As it stands in the path, or escaped."""
    await publish(restate, f"{topic}/of it", "here")
    async with stream(f"{proxy.url}/pubsub/{topic}{slash}of%20it") as reader:
        assert "here" == (await reader.next()).data


async def test_one_connection_carries_150_streams(restate: RestateServer, proxy: Running, topic: str) -> None:
    """Over HTTP/2; each gets the message."""
    if proxy.http2 is None:
        pytest.skip(f"{proxy.name} is used without HTTP/2")
    async with Http2Client.connect(proxy.http2) as client:
        path = f"/pubsub/{topic}".encode()
        streams = [client.open(path, flush=False) for _ in range(150)]
        client.flush()
        await client.until(lambda: all(b"retry" in client.bodies[each] for each in streams), "all streams", 30)
        await publish(restate, topic, "for all")
        await client.until(lambda: all(b"for all" in client.bodies[each] for each in streams), "the message", 30)


async def test_a_client_counts_by_its_own_address(strict: Service, proxy: Running, tmp_path: Path, topic: str) -> None:
    """Not by the proxy's, and not by one that it invents, unless the page says that the program passes that on."""
    await strict.has_streams(0)
    async with running(proxy.name, strict.url, tmp_path) as before:
        invented = [f"192.0.2.{at}" for at in range(3)]
        async with stream(f"{before.url}/pubsub/{topic}", x_forwarded_for="192.0.2.0"):
            expected = [200, 200, 429 if proxy.addresses else 200]
            assert expected == await statuses(before.url, topic, "127.0.0.2", invented)
