"""What docs/proxies.md says of a line is so: without it, the fault is there that the page names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from proxies.place import LIMIT
from proxies.programs import MORE, PROGRAMS, running
from proxies.trials import LIVE, lateness, pauses, post_lines, statuses, upload
from restate_pubsub.commands.doctor.remedies import anchor
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, publish, stream

HELD = 1.0
"""Seconds in which something would have come by far, if it were not held back."""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nginx", "proxy_request_buffering off;"),
        *([("apache", "SetEnv proxy-prefetch-nonblocking 1")] if "apache" in PROGRAMS else []),
    ],
)
async def test_without_it_an_upload_arrives_whole(
    service: Service, tmp_path: Path, topic: str, name: str, line: str
) -> None:
    """Nothing of it is there before its end."""
    async with running(name, service.url, tmp_path, (line, "")) as proxy:
        with pytest.raises(TimeoutError):
            await upload(proxy.url, topic, HELD)


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_an_upload_that_is_silent_past_the_limit_is_ended(
    service: Service, tmp_path: Path, topic: str, name: str
) -> None:
    """That is what blank lines are for."""
    async with running(name, service.url, tmp_path) as proxy:
        try:
            status, _ = await post_lines(proxy.url, topic, pauses(2 * LIMIT, keep_alive=False))
        except aiohttp.ClientError:
            return  # cut
        assert status in (408, 502, 504)


async def test_without_no_delay_haproxy_holds_each_event_back(
    restate: RestateServer, service: Service, tmp_path: Path, topic: str
) -> None:
    """For more than events may be late."""
    line = "option http-no-delay"
    async with running("haproxy", service.url, tmp_path, (line, "")) as proxy:
        assert await lateness(restate, service, proxy.url, topic) > LIVE


async def test_envoy_s_route_has_a_time_out_for_the_whole_answer(service: Service, tmp_path: Path, topic: str) -> None:
    """Heartbeats do not help; here it is shorter than by default."""
    async with (
        running("envoy", service.url, tmp_path, ("timeout: 0s", "timeout: 2s")) as proxy,
        stream(f"{proxy.url}/pubsub/{topic}?heartbeat=event") as reader,
    ):
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await reader.take(10, HELD + 2)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nginx", "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
        ("haproxy", "option forwardfor"),
        ("envoy", "use_remote_address: true"),
    ],
)
async def test_without_it_a_client_may_invent_its_address(
    strict: Service, tmp_path: Path, topic: str, name: str, line: str
) -> None:
    """Behind a proxy that passes on what the client wrote, and is trusted, no limit holds."""
    await strict.has_streams(0)
    async with running(name, strict.url, tmp_path, (line, "")) as proxy:
        invented = [f"192.0.2.{at}" for at in range(3)]
        assert [200, 200, 200] == await statuses(proxy.url, topic, "127.0.0.2", invented)


@pytest.mark.skipif("lighttpd" not in PROGRAMS, reason=f"`make test-proxies` runs {', '.join(MORE)}")
async def test_without_stream_response_body_lighttpd_sends_nothing(
    restate: RestateServer, service: Service, tmp_path: Path, topic: str
) -> None:
    """Not even the head."""
    line = "server.stream-response-body = 2"
    async with running("lighttpd", service.url, tmp_path, (line, "")) as proxy:
        await publish(restate, topic, "held")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HELD), stream(f"{proxy.url}/pubsub/{topic}") as reader:
                await reader.next()


def test_every_program_of_the_page_s_table_has_its_section() -> None:
    """And what is run is said to be."""
    text = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
    for program in PROGRAMS.values():
        link = f"(#{anchor(program.heading)})"
        row = next(row for row in text.splitlines() if row.startswith("| [") and link in row)
        assert row.endswith("| yes |")
