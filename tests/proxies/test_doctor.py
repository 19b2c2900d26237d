"""`restate-pubsub doctor` behind real proxies: nothing to say where they are right, and the line where one is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from proxies.conftest import ORIGIN
from proxies.page import section
from proxies.programs import Running, running
from restate_pubsub.commands.doctor.remedies import REMEDIES, SIGNS, anchor
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, query
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


async def test_what_is_not_the_service_is_said(service: Service) -> None:
    """A path that leads nowhere, a port that nobody listens on, a word that is no URL."""
    code, out = await service.command("doctor", f"{service.url}/elsewhere")
    assert 1 == code
    assert "FAULT first byte" in out
    code, out = await service.command("doctor", "http://127.0.0.1:9")
    assert 1 == code
    assert "cannot be reached" in out
    code, out = await service.command("doctor", "example.org")
    assert 2 == code
    assert "give the address that browsers use" in out


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
