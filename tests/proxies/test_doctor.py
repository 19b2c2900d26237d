"""`restate-pubsub doctor` behind real proxies: nothing to say where they are right, and the line where one is not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxies.conftest import ORIGIN
from proxies.page import section
from proxies.place import LIMIT
from proxies.programs import Running, running
from restate_pubsub.commands.doctor import trials
from restate_pubsub.commands.doctor.remedies import REMEDIES, SIGNS, anchor
from restate_pubsub.commands.doctor.site import site
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, query
from support.odd_servers import odd
from support.tokens import SECRET, token

SUBJECTS = ("first byte", "client address", "CORS", "events", "resumption", "uploads", "idle stream", "end")


async def test_it_finds_nothing_behind_a_proxy_that_is_right(service: Service, proxy: Running) -> None:
    """Each trial is made, and says what it found. Only where the page says so the client's address does not arrive."""
    cors = ["--origin", ORIGIN] if proxy.uploads else []
    code, out = await service.command("doctor", proxy.url, *cors, "--idle", "2s")
    faults = [line[6:22].strip() for line in out.splitlines() if line.startswith("FAULT")]
    assert ((0, []) if proxy.addresses else (1, ["client address"])) == (code, faults), out
    for subject in set(SUBJECTS) - set(faults) - (set() if proxy.uploads else {"CORS", "uploads"}):
        assert f"ok    {subject:<16}" in out, out
    assert ("one connection carries 150 streams" in out) == (proxy.http2 is not None and proxy.name != "nginx")


@pytest.mark.parametrize(
    ("name", "change", "subject"),
    [
        ("nginx", ("proxy_request_buffering off;", ""), "uploads"),
        ("nginx", ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", ""), "client address"),
        ("haproxy", ("option http-no-delay", ""), "events"),
        ("haproxy", ("option forwardfor", ""), "client address"),
        ("nginx", ("proxy_http_version 1.1;", "proxy_http_version 1.0;"), "uploads"),
        ("envoy", ("use_remote_address: true", ""), "client address"),
        ("envoy", ("max_concurrent_streams: 512", "max_concurrent_streams: 20"), "HTTP/2"),
        ("envoy", ("timeout: 0s", "timeout: 3s"), "idle stream"),
    ],
)
async def test_a_fault_comes_with_the_line_that_mends_it(
    service: Service, tmp_path: Path, name: str, change: tuple[str, str], subject: str
) -> None:
    """It is the only fault, and the line is the one that was changed."""
    async with running(name, service.url, tmp_path, change) as proxy:
        idle = ["--idle", "10s"] if subject == "idle stream" else []
        code, out = await service.command("doctor", proxy.url, *idle)
    assert 1 == code, out
    faults = [line for line in out.splitlines() if line.startswith("FAULT")]
    assert [subject] == [line[6:22].strip() for line in faults], out
    mends = [line.strip() for line in out.splitlines() if line.strip().startswith("->")]
    assert any(change[0] in line and "docs/proxies.md#" in line for line in mends), out


@pytest.mark.parametrize(("name", "line"), [("nginx", "proxy_read_timeout 1h;"), ("haproxy", "timeout server 1h")])
async def test_a_limit_below_the_heartbeat_is_a_fault(
    restate: RestateServer, tmp_path: Path, name: str, line: str
) -> None:
    """Here the page's, which the tests shorten, before a service whose heartbeat is longer than that."""
    slow = Service(restate, PUBSUB_HEARTBEAT=f"{4 * LIMIT}s", PUBSUB_TRUSTED_PROXIES="1")
    await slow.start(register=False)
    try:
        async with running(name, slow.url, tmp_path) as proxy:
            code, out = await slow.command("doctor", proxy.url, "--idle", f"{3 * LIMIT}s")
    finally:
        await slow.stop()
    assert 1 == code
    assert "FAULT idle stream" in out, out
    assert any(line in mend for mend in out.splitlines() if mend.strip().startswith("->")), out


@pytest.mark.parametrize("trusted", ["0", "1"])
async def test_a_proxy_that_takes_addresses_away_is_a_fault(
    restate: RestateServer, tmp_path: Path, trusted: str
) -> None:
    """Whatever the service trusts: everybody has the proxy's address."""
    line = "reverse_proxy /pubsub* pubsub:9080"
    change = (line, f"{line} {{\n header_up -X-Forwarded-For\n}}")
    plain = await Service(restate, PUBSUB_TRUSTED_PROXIES=trusted).start(register=False)
    try:
        async with running("caddy", plain.url, tmp_path, change) as proxy:
            code, out = await plain.command("doctor", proxy.url)
    finally:
        await plain.stop()
    assert 1 == code
    assert "FAULT client address  something in between takes X-Forwarded-For away: all clients count as one" in out


async def test_trust_in_proxies_that_are_not_there_is_a_fault(service: Service) -> None:
    """Asked directly, a service that believes one proxy believes what the client writes."""
    code, out = await service.command("doctor", service.url)
    assert 1 == code
    assert "PUBSUB_TRUSTED_PROXIES=1 believes it" in out


async def test_too_little_trust_is_a_fault(restate: RestateServer, tmp_path: Path) -> None:
    """It says what the setting should be."""
    plain = await Service(restate).start(register=False)
    try:
        async with running("caddy", plain.url, tmp_path) as proxy:
            code, out = await plain.command("doctor", proxy.url)
    finally:
        await plain.stop()
    assert 1 == code
    assert "-> the service: PUBSUB_TRUSTED_PROXIES=1" in out


async def test_a_page_that_may_not_read_is_told(service: Service) -> None:
    """With the setting."""
    _, out = await service.command("doctor", service.url, "--origin", "https://other.example")
    assert "-> the service: PUBSUB_CORS_ORIGINS=https://other.example" in out


async def test_a_token_is_asked_for_and_tried(restate: RestateServer) -> None:
    """It is taken from the environment, so that it is in no list of processes."""
    locked = await Service(restate, PUBSUB_JWT_KEY=SECRET, PUBSUB_PUBLISH_ENABLED="true").start(register=False)
    try:
        code, out = await locked.command("doctor", locked.url)
        assert 1 == code
        assert "--token, or RESTATE_PUBSUB_TOKEN" in out
        good = token(subscribe=["mine/*"], publish=["mine/*"], exp=time.time() + 60)
        code, out = await locked.command("doctor", locked.url, env={"RESTATE_PUBSUB_TOKEN": good})
        assert 1 == code
        assert "--prefix" in out
        code, out = await locked.command("doctor", locked.url, "--prefix=mine/", env={"RESTATE_PUBSUB_TOKEN": good})
        assert 0 == code, out
        assert "needed, and accepted" in out
    finally:
        await locked.stop()


async def test_it_leaves_no_topic(restate: RestateServer, service: Service) -> None:
    """What it has written is deleted: only the counter stays, as of every topic."""
    _, out = await service.command("doctor", service.url, "--prefix", "left-")
    assert "ok    end" in out
    rows = await query(restate, "select service_key, key from state where service_key like 'left-%'")
    assert ["messagesMetadata"] == [row["key"] for row in rows]


HTML, STREAM = "text/html", "text/event-stream"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, HTML, b"<p>every path is this page"), "200 text/html, and not from this service"),
        ((502, HTML, b"<p>Bad Gateway"), "502 text/html, and not from this service"),
        ((404, "application/json", b"{}"), "404 application/json, and not from this service"),
        ((200, STREAM, b"data: hello\n\n"), "a stream, but not of this service: it begins with 'data: hello'"),
        ((200, STREAM, b"retry: 3000\n\n"), "the service is away, and a proxy says when to come back"),
        ((200, STREAM, b""), "the stream ends before its first byte"),
    ],
)
async def test_a_stranger_is_told_apart_and_left_alone(
    service: Service, answer: tuple[int, str, bytes], said: str
) -> None:
    """It is asked once; nothing is written to it or deleted there."""
    async with odd(lambda _request: answer) as server:
        code, out = await service.command("doctor", server.url)
    assert (1, ["GET"]) == (code, [method for method, _ in server.asked])
    assert f"FAULT first byte      {said}\n" in out


@pytest.mark.parametrize(("ends", "level"), [(1, "ok"), (3, "ok"), (99, "FAULT")])
async def test_an_end_that_is_said_again_is_no_fault(ends: int, level: str) -> None:
    """As by a service whose Restate is busy; 204 has to come all the same."""
    said = itertools.chain([(200, STREAM, b": open\n\nid: 1\nevent: end\ndata: {}\n\n")] * ends, [(204, "", b"")])

    async def close() -> None:
        pass

    async with odd(lambda _request: next(said)) as server, site(server.url, "t", None) as there:
        found = await trials.end(there, close)
    assert [level] == [finding.level for finding in found]


async def test_a_redirect_is_said(service: Service) -> None:
    """To what it leads: a browser would follow it for every stream, and an upload would be lost."""
    async with saying(b"HTTP/1.1 301 M\r\nlocation: https://example.org/pubsub/t\r\n\r\n") as url:
        _, out = await service.command("doctor", url)
    assert "redirects to https://example.org/pubsub/t\n" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "does not speak HTTP"),
        (b"", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\n: o", "cannot be reached"),
    ],
)
async def test_what_is_no_web_server_is_said(service: Service, given: bytes, said: str) -> None:
    """In a line, as every fault."""
    async with saying(given) as url:
        code, out = await service.command("doctor", url)
    assert 1 == code
    assert said in out
    assert "Traceback" not in out


async def test_another_path_is_told_from_another_program(service: Service) -> None:
    """Also a scheme, and a port where nobody listens."""
    code, out = await service.command("doctor", f"{service.url}/elsewhere")
    assert 1 == code
    assert "FAULT first byte      404 not-found" in out
    assert "PUBSUB_SSE_PATH is what arrives" in out
    _, out = await service.command("doctor", service.url.replace("http:", "https:"))
    assert "cannot be reached over TLS" in out
    _, out = await service.command("doctor", "http://127.0.0.1:9")
    assert "cannot be reached" in out


@pytest.mark.parametrize(
    "words",
    [
        ["example.org"],
        ["http://127.0.0.1:99999"],
        ["http://127.0.0.1:here"],
        ["https://example.org/pubsub?offset=0"],
        ["https://example.org/pubsub#top"],
        ["https://example.org", "--origin", "app.example.org"],
        ["https://example.org", "--origin", "https://app.example.org/page"],
        ["https://example.org", "--token", "of\ntwo lines"],
        ["https://example.org", "--idle", "long"],
    ],
)
async def test_a_wrong_word_is_said_before_anything_is_asked(service: Service, words: list[str]) -> None:
    """With what it should be."""
    code, out = await service.command("doctor", *words)
    assert 2 == code
    assert out.startswith(f"error: {words[1] if len(words) > 1 else words[0]}")
    assert "Traceback" not in out


@contextlib.asynccontextmanager
async def saying(given: bytes) -> AsyncIterator[str]:
    """Run what says the same to everybody who asks anything, and hangs up."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(given)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def test_every_remedy_is_on_the_page() -> None:
    """In the section that it is linked to."""
    assert [] == [
        (program, line)
        for known in REMEDIES.values()
        for program, line in known.items()
        if line not in section(program)
    ]
    assert [] == [program for _, program in SIGNS if not section(program)]
    assert "node-http-proxy" == anchor("Node `http-proxy`")
