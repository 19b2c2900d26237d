"""Connections to a real process: HTTP/2 that everybody shares, clients that vanish, and clients that do nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, free_port, get, stream, topic_name
from support.http2 import Http2Client
from support.waiting import until

INVOKE = b"POST /restate/invoke/connections/publish HTTP/1.1\r\nhost: t\r\n"
NDJSON = [(b"content-type", b"application/x-ndjson")]
CALL = [(b"content-type", b"application/vnd.restate.invocation.v5")]


@pytest.fixture(scope="module")
async def target(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with short limits for connections, and one port for everything."""
    env = {
        "PUBSUB_OBJECT_NAME": "connections",
        "PUBSUB_PUBLISH_ENABLED": "true",
        "PUBSUB_STREAM_RATE": "100000",
        "PUBSUB_STREAM_RATE_PER_CLIENT": "100000",
        "PUBSUB_PUBLISH_RATE_PER_CLIENT": "100000",
        "PUBSUB_MAX_STREAMS_PER_CLIENT": "3000",
        "PUBSUB_REQUEST_TIMEOUT": "1s",
        "PUBSUB_BODY_TIMEOUT": "1s",
        "PUBSUB_KEEP_ALIVE_TIMEOUT": "1s",
        "PUBSUB_LOG_LEVEL": "debug",
    }
    service = await Service(restate, env=env).start()
    yield service
    await service.stop()


@pytest.fixture(autouse=True)
async def unharmed(target: Service) -> AsyncIterator[None]:
    """After each test the process lives, has no stream, and has logged nothing that is not for debugging."""
    before = len(target.log)
    yield
    await until(lambda: no_streams(target), "all streams to be closed")
    logged = target.log[before:]
    assert "Traceback" not in logged
    assert not re.search(r'"level": ?"(warning|error|critical)"', logged), logged[-2000:]


async def no_streams(service: Service) -> bool:
    return await service.metric("restate_pubsub_streams") == 0


def proc(service: Service) -> tuple[int, int]:
    """Return a process's resident memory in bytes, and how many files it has open."""
    assert service.process is not None
    folder = Path(f"/proc/{service.process.pid}")
    found = re.search(r"VmRSS:\s+(\d+) kB", (folder / "status").read_text())
    assert found is not None
    return int(found[1]) * 1024, len(list((folder / "fd").iterdir()))


async def test_streams_of_clients_that_vanish_leave_nothing(target: Service) -> None:
    """No stream, no file, and no memory that grows with how often it happens."""
    sizes = []
    for _ in range(4):
        topic = topic_name()
        for _ in range(4):
            async with Http2Client.connect(target.port) as client:
                for _ in range(150):
                    client.open(f"/pubsub/{topic}".encode(), flush=False)
                client.flush()
                await client.until(lambda c=client: len(c.bodies) == 150, "all streams")  # type: ignore[misc]
                client.vanish()
        await until(lambda: no_streams(target), "all streams to be closed")
        sizes.append(proc(target)[0])
    assert sizes[-1] - sizes[1] < 6 * 1024 * 1024, sizes
    await until(lambda: proc(target)[1] < 80, "all files to be closed")
    assert await target.metric("restate_pubsub_connections_lost_total") > 0


async def test_what_one_does_wrong_on_a_shared_connection_reaches_nobody_else(
    target: Service, restate: RestateServer, topic: str
) -> None:
    """More than a thousand streams, and requests that break rules: everybody gets what is published afterwards."""
    refused = await target.metric("restate_pubsub_refused_total")
    async with Http2Client.connect(target.port) as client:
        readers = [client.open(f"/pubsub/{topic}".encode(), flush=False) for _ in range(1100)]
        client.flush()
        await client.until(lambda: len(client.bodies) == 1100, "all streams", 60)
        bad = [
            client.send([(b":method", b"CONNECT"), (b":authority", b"x:443")]),
            client.open("/pubsub/ä".encode()),
            client.open(b"/pubsub/t", b"G\xcbT"),
            client.open(b"/pubsub/t", b"POST", [(b"content-length", b"5")]),
            client.open(b"/nothing"),
            client.open(b"/metrics", b"POST"),
        ]
        await client.until(lambda: all(each in client.ended | client.resets.keys() for each in bad), "the refusals")
        status, answer = await call(restate, topic, "publish", "after", name="connections")
        assert 200 == status, answer
        await client.until(lambda: all(b"after" in client.bodies[each] for each in readers), "the message", 60)
        client.vanish()
    assert refused + len(bad) == await target.metric("restate_pubsub_refused_total")


async def test_an_upload_that_nobody_reads_stops_nobody_else(target: Service, topic: str) -> None:
    """On the same connection: a stream's window bounds what waits of it."""
    async with Http2Client.connect(target.port) as client:
        upload = client.open(f"/pubsub/{topic}".encode(), b"POST", NDJSON, end=False)
        sent = 0
        for _ in range(200):
            room = min(client.h2.local_flow_control_window(upload), 8000)
            if room < 100:
                break
            client.h2.send_data(upload, b'"%s"\n' % (b"x" * (room - 3)))
            client.flush()
            sent += 1
        assert (200, b'{"status":"live"}') == await client.answer(client.open(b"/health/live"))
        client.h2.end_stream(upload)
        client.flush()
        status, body = await client.answer(upload)
        assert 200 == status, body
        assert b'"count":%d' % sent in body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 0),
        (b"GET /pubsub/t HTTP/1.1\r\nx: ", 408),
        (b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n", 200),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 0),
        (b"POST /pubsub/t HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n1", 408),
        (INVOKE + b"%b: %b\r\ncontent-length: 99\r\n\r\n" % CALL[0], 408),
        (INVOKE + b"content-length: 99\r\n\r\n", 415),
        (b"POST /restate/none HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nhost: t\r\ncontent-length: 99\r\n\r\n", 405),
    ],
    ids=["nothing", "head", "idle", "http2", "body", "invocation", "no invocation", "no handler", "metrics"],
)  # fmt: skip
async def test_a_client_that_does_nothing_is_not_waited_for(target: Service, sent: bytes, status: int) -> None:
    """Whatever it holds back; the answer says so where there is a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(sent)
    got = b""
    async with asyncio.timeout(8):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                got += data
    writer.close()
    if status:
        assert got.startswith(b"HTTP/1.1 %d " % status)


async def test_restate_is_spared(target: Service, restate: RestateServer, topic: str) -> None:
    """Its connection to the only port there is stays, idle or not; so does a stream."""
    await publish_to(restate, topic, 1)
    async with stream(target.topic_url(topic)) as reader:
        assert 1 == (await reader.next()).data
        before = connections_of(target)
        await asyncio.sleep(3)
        assert before & connections_of(target), "Restate's connections were closed"
        waiting = asyncio.create_task(call(restate, topic_name(), "pull", {"timeout": 3}, name="connections"))
        await publish_to(restate, topic, 2)
        assert 2 == (await reader.next()).data
        assert 408 == (await waiting)[0]


async def publish_to(restate: RestateServer, topic: str, message: Any) -> None:
    status, answer = await call(restate, topic, "publish", message, name="connections")
    assert 200 == status, answer


def connections_of(service: Service) -> set[str]:
    """Return the clients' ends of a service's connections."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in table]
    return {field[2] for field in fields if field[1].endswith(f":{service.port:04X}") and field[3] == "01"}


@pytest.mark.parametrize("body", [b"", b"garbage", b"\x00" * 100, b"\xff" * 100])
async def test_garbage_for_the_restate_endpoint_is_one_refusal(target: Service, body: bytes) -> None:
    """Over both versions of HTTP."""
    async with Http2Client.connect(target.port) as client:
        asked = client.open(b"/restate/invoke/connections/publish", b"POST", CALL, end=not body)
        if body:
            client.h2.send_data(asked, body, end_stream=True)
            client.flush()
        assert 400 == (await client.answer(asked))[0]


async def test_what_proves_who_somebody_is_stands_in_no_log(target: Service, topic: str) -> None:
    """Over both versions of HTTP, at the level for debugging: neither the header, nor the cookie, nor the query."""
    secrets = [b"Bearer in-a-header", b"pubsub=in-a-cookie", b"in-a-query"]
    path = f"/pubsub/{topic}?access_token=".encode() + secrets[2]
    more = [(b"authorization", secrets[0]), (b"cookie", secrets[1])]
    async with Http2Client.connect(target.port) as client:
        await client.begun(client.open(path, more=more), b"retry")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n" % path + b"".join(b"%b: %b\r\n" % pair for pair in more) + b"\r\n")
    await asyncio.wait_for(reader.readuntil(b"retry"), 10)
    writer.transport.abort()
    await until(lambda: no_streams(target), "all streams to be closed")
    assert [] == [secret for secret in secrets if secret.decode() in target.log]


async def test_an_absolute_target_is_a_stream_like_any_other(
    target: Service, restate: RestateServer, topic: str
) -> None:
    """As a client asks that takes this for a proxy."""
    await publish_to(restate, topic, "here")
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(f"GET http://example.org/pubsub/{topic} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert b"here" in await asyncio.wait_for(reader.readuntil(b"here"), 10)
    writer.transport.abort()


async def test_under_another_server_the_public_port_is_public(restate: RestateServer, tmp_path: Path) -> None:
    """The layers belong to the application: `restate_pubsub.asgi:app` has them as well."""
    public, internal = free_port(), free_port()
    binds = [f"127.0.0.1:{public}", f"127.0.0.1:{internal}"]
    service = Service(restate, port=internal, PUBSUB_BIND=",".join(binds))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hypercorn", "restate_pubsub.asgi:app", "-b", binds[0], "-b", binds[1],
            env=service.env, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        await until(lambda: service.answers("/health/live"), "the server")
        for path in ("/metrics", "/restate/discover", "/console"):
            status, problem, _ = await get(f"http://127.0.0.1:{public}{path}")
            assert (404, "not-found") == (status, problem["code"])
        assert 200 == (await get(f"http://127.0.0.1:{internal}/metrics"))[0]
        assert "open to anybody" in log.read_text()
        assert 3 == await service.metric("restate_pubsub_refused_total")
    finally:
        process.terminate()
        await process.wait()
    assert "Traceback" not in log.read_text()


# --- small requests that cost much ------------------------------------------------------------------------------


def cpu(service: Service) -> float:
    """Return the seconds of CPU that a process has used."""
    assert service.process is not None
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


SMALL, TIMES = 12_000, 5
Made = Callable[[int], tuple[list[tuple[bytes, bytes]], bytes]]


def body_of(kind: bytes, text: Callable[[int], bytes]) -> Made:
    return lambda size: ([(b"content-type", kind)], text(size))


def header_of(name: bytes, text: Callable[[int], bytes]) -> Made:
    return lambda size: ([(name, text(size))], b"")


TEXTS: dict[str, Callable[[int], bytes]] = {
    "an unclosed string": lambda size: b"[" * 129 + b'\\"' * (size // 2),
    "quotes": lambda size: b"[" * 129 + b'"' * size,
    "backslashes": lambda size: b"[" * 129 + b'"' + b"\\" * size,
    "brackets": lambda size: b"[" * size,
    "digits": lambda size: b"9" * size,
    "an exponent": lambda size: b"1e" + b"9" * size,
    "escapes": lambda size: b'"' + b"\\ud800" * (size // 6) + b'"',
    "white space": lambda size: b" " * size + b"x",
}
ENTRIES: dict[str, Made] = {
    **{f"json: {name}": body_of(b"application/json", text) for name, text in TEXTS.items()},
    **{f"ndjson: {name}": body_of(b"application/x-ndjson", text) for name, text in TEXTS.items()},
    "ndjson: empty lines": body_of(b"application/x-ndjson", lambda size: b"\n" * size),
    **{
        f"header: {name.decode()}": header_of(name, lambda size: b"Bearer " + b".a=;, " * (size // 6))
        for name in (b"authorization", b"cookie", b"origin", b"accept", b"content-type", b"idempotency-key")
    },
    "header: forwarded": header_of(b"x-forwarded-for", lambda size: b"1.1.1.1, " * (size // 9)),
    "header: last-event-id": header_of(b"last-event-id", lambda size: b"9" * size),
    "header: a token": header_of(b"authorization", lambda size: b"Bearer " + b"e." * (size // 2)),
}


@pytest.fixture(scope="module")
async def guarded(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service that wants tokens, looks at origins, and has proxies before it."""
    env = {
        "PUBSUB_JWT_KEY": "my-token" * 4,
        "PUBSUB_JWT_QUERY": "true",
        "PUBSUB_CORS_ORIGINS": "https://*.example.org",
        "PUBSUB_TRUSTED_PROXIES": "2",
        "PUBSUB_PUBLISH_ENABLED": "true",
        "PUBSUB_PUBLISH_RATE_PER_CLIENT": "100000",
    }
    service = await Service(restate, env=env).start(register=False)
    yield service
    await service.stop()


async def cost(service: Service, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> float:
    """Return the CPU of four such requests."""
    begin = cpu(service)
    async with Http2Client.connect(service.port) as client:
        for _ in range(4):
            asked = client.open(path, b"POST", headers, end=not body)
            left = body
            while left:
                room = min(client.h2.local_flow_control_window(asked), client.h2.max_outbound_frame_size, len(left))
                if not room:
                    await client.until(lambda s=asked: client.h2.local_flow_control_window(s) > 0, "room")  # type: ignore[misc]
                    continue
                client.h2.send_data(asked, left[:room], end_stream=room == len(left))
                client.flush()
                left = left[room:]
            await client.until(lambda s=asked: s in client.ended or s in client.resets, "the answer", 60)  # type: ignore[misc]
    return cpu(service) - begin


async def is_linear(service: Service, path: Callable[[int], bytes], made: Made) -> None:
    small = await cost(service, path(SMALL), *made(SMALL))
    large = await cost(service, path(SMALL * TIMES), *made(SMALL * TIMES))
    # Quadratic would be 25 times as much. What is hardly to be measured is no fault.
    assert large < max(0.2, 12 * small), f"{small:.2f} s of CPU for {SMALL} bytes, {large:.2f} s for {TIMES} times that"


@pytest.mark.parametrize("name", ENTRIES)
async def test_what_comes_in_costs_in_proportion_to_its_size(target: Service, guarded: Service, name: str) -> None:
    """Whatever looks at it: five times the bytes are not twenty-five times the work."""
    service = guarded if name.startswith("header") else target
    await is_linear(service, lambda _: f"/pubsub/{topic_name()}".encode(), ENTRIES[name])


@pytest.mark.parametrize("query", ["access_token=", "offset=", "lastEventId=", "strict=", "x&", "%", "+", "a=b;"])
async def test_a_query_costs_in_proportion_to_its_size(guarded: Service, query: str) -> None:
    """The same of the address."""

    def path(size: int) -> bytes:
        return f"/pubsub/t?{query * (size // len(query)) if query[-1] != '=' else query + '9.' * (size // 2)}".encode()

    await is_linear(guarded, path, lambda _: ([], b""))


async def test_a_topic_s_name_costs_in_proportion_to_its_size(guarded: Service) -> None:
    """Escaped or not."""
    for text in (b"a", b"%2F", b"/", b"%FF"):
        await is_linear(guarded, lambda size, text=text: b"/pubsub/" + text * (size // len(text)), lambda _: ([], b""))  # type: ignore[misc]
