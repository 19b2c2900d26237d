"""Hostile input against a real service: no 5xx, no hang, no growth, and everybody else is served.

Bounded to about a minute in all. Bytes go over raw sockets, so that no client library mends them first.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, topic_name

SECONDS = 10.0
"""An answer that takes longer is a hang."""


def fuzz(examples: int) -> settings:
    """Return how to look for bad input; always the same examples, so that what is found can be found again."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module")
async def target(restate: RestateServer, service: Service) -> AsyncIterator[Service]:
    """Return a service with the HTTP door open; the object runs in the other one."""
    assert service.process is not None
    target = Service(restate, PUBSUB_PUBLISH_ENABLED="true", PUBSUB_PUBLISH_RATE_PER_CLIENT="100000")
    target.env |= {"PUBSUB_STREAM_RATE": "100000", "PUBSUB_STREAM_RATE_PER_CLIENT": "100000"}
    target.env |= {"PUBSUB_MESSAGE_RATE_PER_CLIENT": "100000000", "PUBSUB_BYTE_RATE_PER_CLIENT": "1GiB"}
    await target.start(register=False)
    yield target
    await target.stop()


@pytest.fixture(autouse=True)
def unharmed(target: Service, service: Service) -> Iterator[None]:
    """After each test: both processes live, nothing was logged that nobody expected, and every stream is closed."""
    yield
    for each in (target, service):
        assert each.process is not None
        assert each.process.returncode is None
        assert "Traceback" not in each.log
        assert '"level":"error"' not in each.log.replace(" ", "")
    deadline = time.monotonic() + SECONDS
    while metric(target, "restate_pubsub_streams") != 0:
        assert time.monotonic() < deadline, "streams are left open"
        time.sleep(0.05)


def metric(service: Service, name: str) -> float:
    _, _, body = exchange(service, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    found = re.search(rf"^{name} (\S+)$", body.decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def memory(service: Service) -> int:
    """Return the resident memory of a service, in bytes."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def exchange(service: Service, *parts: bytes, stop_at: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Send bytes and read until the end, or until `stop_at` has come; return status (0: none), head and body."""
    with socket.create_connection(("127.0.0.1", service.port), SECONDS) as sock:
        got = b""
        try:
            for part in parts:
                sock.sendall(part)
            if stop_at is None:
                sock.shutdown(socket.SHUT_WR)
            while stop_at is None or stop_at not in got:
                piece = sock.recv(65536)
                if not piece:
                    break
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was refused before it was read to its end
    head, _, body = got.partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return int(match[1]) if match else 0, head, body


def request(
    service: Service,
    method: str,
    target: bytes,
    body: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> tuple[int, bytes, bytes]:
    """Send one request as it is; a stream is left at its first byte."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"host: x", b"connection: close"]
    lines += [name + b": " + value for name, value in headers or []]
    if body or method in ("POST", "PUT"):
        lines.append(b"content-length: %d" % len(body))
    sent = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return exchange(service, sent, stop_at=b"retry:")


def fine(answer: tuple[int, bytes, bytes]) -> tuple[int, bytes, bytes]:
    """Check that an answer is one of ours: never a 5xx, and a refusal is a problem document."""
    status, head, body = answer
    assert status < 500, (head, body)
    if status >= 400 and b"problem+json" in head and body:
        assert status == json.loads(body)["status"]
    return answer


# --- raw bytes -------------------------------------------------------------------------------------------------

WORDS = b"""
GET|POST|DELETE|PRI|OPTIONS|CONNECT| |/|/pubsub/t|/restate/invoke/pubsub/publish|http://x/|*|HTTP/1.1|HTTP/1.0|HTTP/9.9
SM|host: x|transfer-encoding: chunked|transfer-encoding: identity, chunked|content-length: 5|content-length: -1
content-length: 99999999999999999999|expect: 100-continue|upgrade: h2c|upgrade: websocket|connection: upgrade
http2-settings: AAMAAABkAAQAAP__|ffffffffffffffff|-1|content-type: application/json|last-event-id: 1
"""
FRAGMENTS = [
    *WORDS.strip().replace(b"\n", b"|").split(b"|"),
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff\xfe",
    b"Host: x\r\nHost: y",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"a" * 9000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x00\x00\x06\x04\x00\x00\x00\x00\x00",
    b"\x16\x03\x01\x02\x00",
]


@fuzz(150)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=30), min_size=1, max_size=12))
def test_no_bytes_upset_the_server(target: Service, parts: list[bytes]) -> None:
    """Whatever they are, the connection ends with a 4xx or with nothing."""
    joined = b"".join(parts)
    status, head, body = exchange(target, joined, stop_at=None)
    assert status < 500 or status in (501, 505), (joined, head, body)


ODD_PATHS = b"/pubsub /pubsub/ / // /pubsub/% /pubsub/%zz /pubsub/%00 /metrics /health/ready /restate/discover \
/restate/invoke/pubsub/publish /restate/..%2f /openapi.json".split()
NAMES = b"last-event-id content-type idempotency-key accept authorization origin cookie range x-forwarded-for \
content-encoding x-restate-jwt-v1".split()
VALUES_KNOWN = [b"application/json", b"application/x-ndjson", b"-1", b"1", b"9" * 400, b"\xff", b"null", b"*"]
BODIES_KNOWN = [b"{}", b"[1", b"1\n2\n", b'"\xc3', b"{" * 500, b"\n" * 500]
PRINTABLE = st.binary(max_size=20).map(lambda raw: bytes(byte for byte in raw if byte > 31 and byte != 127).strip())


class Asked(NamedTuple):
    """One request."""

    method: str
    path: bytes
    query: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


ASKED = st.builds(
    Asked,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]),
    path=st.one_of(
        st.binary(min_size=1, max_size=40).map(lambda raw: b"/pubsub/" + quote(raw, safe="/").encode()),
        st.text(max_size=30).map(lambda text: b"/pubsub/" + quote(text, safe="").encode()),
        st.sampled_from(ODD_PATHS),
    ),
    query=st.text(alphabet="offset=&latestricu-1%09;+/?", max_size=30),
    headers=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES_KNOWN) | PRINTABLE), max_size=4),
    body=st.binary(max_size=60) | st.sampled_from(BODIES_KNOWN),
)


@fuzz(200)
@given(ASKED)
def test_no_request_upsets_the_routes(target: Service, asked: Asked) -> None:
    """Paths, queries, headers and bodies of every kind: an answer below 500, within seconds."""
    path = asked.path + (b"?" + asked.query.encode() if asked.query else b"")
    body = asked.body if asked.method in ("POST", "PUT", "PATCH") else b""
    fine(request(target, asked.method, path, body, asked.headers))


@pytest.mark.parametrize(
    "value",
    [b"-1", b"1.5", b"1e3", b"0x10", b"9" * 16, b"9" * 5000, b"\xd9\xa1", b"\xc2\xb2", b"1 2", b"NaN", b"null", b"1,1",
     b"%31", b"+1", b"--1", b"\xff", b"latest"],
)  # fmt: skip
def test_last_event_id_is_a_number_or_a_400(target: Service, value: bytes) -> None:
    """Digits of other scripts, huge numbers, half a number: none is taken for an offset."""
    path = f"/pubsub/{topic_name()}".encode()
    status, _, body = fine(request(target, "GET", path, headers=[(b"last-event-id", value)]))
    assert status == 400
    assert b"Last-Event-ID" in body


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /x HT",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /pubsub/t HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_connections_whose_client_has_gone_are_closed(target: Service, sent: bytes) -> None:
    """Before a request, in one, between two, and in a stream: no file is left open."""
    assert target.process is not None
    files = Path(f"/proc/{target.process.pid}/fd")
    before = len(list(files.iterdir()))
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", target.port), SECONDS) as sock:
            sock.sendall(sent)
            if sent.endswith(b"\n"):
                assert sock.recv(100)
    deadline = time.monotonic() + SECONDS
    while len(list(files.iterdir())) > before + 10:
        assert time.monotonic() < deadline, "connections are left open"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("POST", "/metrics", 405),
        ("PUT", "/nothing", 404),
        ("POST", "/pubsub/t?close=x", 400),
        ("POST", "/pubsub/t?linger=x", 400),
    ],
)
def test_a_body_that_nobody_asked_for_stalls_nothing(target: Service, method: str, path: str, status: int) -> None:
    """It never ends; the answer comes at once, and then the connection is closed."""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", target.port), SECONDS) as sock:
        sock.sendall(head)
        assert sock.recv(100).startswith(b"HTTP/1.1 %d" % status)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(1000):
                sock.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            while sock.recv(65536):
                pass


# --- what would reach others -----------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["a\r\nx-evil: 1", "a\nevent: end\ndata: {}\n\n", "a\0b", "\u2028", "a\x1b[31m"])
def test_a_topic_cannot_write_headers_or_events(target: Service, topic: str) -> None:
    """It is in no header; in a problem document it is escaped."""
    path = b"/pubsub/" + quote(topic, safe="").encode()
    for headers in ([], [(b"last-event-id", b"x")]):
        status, head, body = fine(request(target, "GET", path, headers=headers))
        assert status in (200, 400)
        assert b"x-evil" not in head.lower()
        assert b"event: end" not in body


@pytest.mark.parametrize("event", ["a\nid: 9", "a\r\ndata: 1", "a b", "", "reset", "ä", "x" * 65, "a\0"])
def test_an_event_name_cannot_write_lines(restate: RestateServer, service: Service, event: str) -> None:
    """Refused by the object, so no stream ever carries one."""
    assert service.process is not None
    body = json.dumps({"messages": [{"data": 1, "event": event}]}).encode()
    status, text = invoke(restate, topic_name(), "append", body)
    assert status == 400, text


def test_a_message_cannot_write_lines(target: Service) -> None:
    """Line ends in a message are escaped, or white space that is taken away."""
    topic = topic_name()
    path = f"/pubsub/{topic}".encode()
    kind = [(b"content-type", b"application/json")]
    body = b'{"a":\r\n\n"\\n\\nevent: end\\r\xe2\x80\xa8",\r"b"\n:1}'
    assert fine(request(target, "POST", path, body, kind))[0] == 200
    _, _, got = exchange(target, b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n", stop_at=b"id: 1\n")
    sent = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path
    _, _, got = exchange(target, sent, stop_at=b"}\n\n")
    assert b'id: 1\ndata: {"a":"\\n\\nevent: end\\r\xe2\x80\xa8","b":1}\n\n' in got


# --- bodies that explode ---------------------------------------------------------------------------------------

EXPLODING = {
    "deep-arrays": (b"[" * 400_000 + b"]" * 400_000, 400),
    "deep-objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "unclosed": (b"[" * 900_000, 400),
    "deep-in-a-string": (b'"' + b"[" * 900_000 + b'"', 200),
    "huge-exponent": (b"1e999999999", 200),
    "huge-integer": (b"9" * 900_000, 200),
    "huge-fraction": (b"0." + b"3" * 900_000, 200),
    "many-keys": (b"{" + b",".join(b'"k%d":0' % at for at in range(60_000)) + b"}", 200),
    "one-key-many-times": (b"{" + b",".join([b'"k":0'] * 100_000) + b"}", 200),
    "escapes": (b'"' + b"\\u0000" * 150_000 + b'"', 200),
    "half-surrogates": (b'"' + b"\\ud800" * 150_000 + b'"', 200),
    "half-a-character": (b'"\xc3"', 400),
    "nul": (b"\0" * 1000, 400),
    "byte-order-mark": (b"\xef\xbb\xbf1", 400),
    "utf-16": ('{"a": 1}'.encode("utf-16"), 400),
    "too-large": (b'"' + b"x" * (1024 * 1024) + b'"', 413),
}


@pytest.mark.parametrize("name", EXPLODING)
def test_json_that_explodes_is_carried_or_refused(target: Service, restate: RestateServer, name: str) -> None:
    """Through the door and through Restate alike, in bounded time, and the topic goes on."""
    body, expected = EXPLODING[name]
    topic = topic_name()
    kind = [(b"content-type", b"application/json")]
    began = time.monotonic()
    status, _, text = fine(request(target, "POST", f"/pubsub/{topic}".encode(), body, kind))
    assert (status == expected) or (status == 0 and expected == 413), text[:300]
    assert expected == invoke(restate, topic, "publish", body)[0]
    assert time.monotonic() - began < SECONDS
    assert invoke(restate, topic, "publish", b"1")[0] == 200


def ndjson(target: Service, topic: str, body: Iterator[bytes] | list[bytes]) -> tuple[int, Any]:
    """Stream a body in chunks; return status and decoded answer."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the answer came before the end of the body
        connection.request(
            "POST", f"/pubsub/{topic}", body, {"content-type": "application/x-ndjson"}, encode_chunked=True
        )
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, json.loads(text)


def test_a_line_without_an_end_is_refused_before_it_takes_memory(target: Service) -> None:
    """64 MiB without a line feed."""
    before = memory(target)
    try:
        status, _ = ndjson(target, topic_name(), (b"x" * 65536 for _ in range(1024)))
    except (ConnectionResetError, BrokenPipeError):
        status = 413  # the connection was closed on the rest of the body
    assert status == 413
    assert memory(target) - before < 32 * 1024 * 1024


@pytest.mark.parametrize(
    ("parts", "status", "count"),
    [
        ([b'"\xc3', b'\xa4"\n'], 200, 1),
        ([b'"\xc3'], 400, 0),
        ([b'1\n"\xc3"\n2\n'], 400, 1),
        ([b"1\r\n2\r\n"], 200, 2),
        ([b"1", b"2", b"\n", b"3"], 200, 2),
        ([b"\n \n\r\n\t\n" * 10_000, b"1\n"], 200, 1),
        ([b"\n" * 65536] * 32, 200, 0),
        ([b"1\n{\n"], 400, 1),
    ],
)
def test_lines_may_be_cut_anywhere(target: Service, parts: list[bytes], status: int, count: int) -> None:
    """In the middle of a character, between messages; what is whole before a bad line is published."""
    answer, body = ndjson(target, topic_name(), parts)
    assert (status, count) == (answer, body.get("count"))


def test_a_million_tiny_lines_are_published_in_bounded_memory(target: Service) -> None:
    """The sender is slowed down to what Restate takes; others publish meanwhile."""
    before = memory(target)
    topic = topic_name()
    status, body = ndjson(target, topic, (b"1\n" * 10_000 for _ in range(100)))
    assert (status, body["count"], body["nextOffset"]) == (200, 1_000_000, 1_000_000)
    assert memory(target) - before < 128 * 1024 * 1024


# --- the object's handlers -------------------------------------------------------------------------------------


def invoke(restate: RestateServer, topic: str, handler: str, body: bytes) -> tuple[int, bytes]:
    """Call a handler over the ingress; a hang is a failure."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(restate.ingress_url).port, timeout=SECONDS)
    connection.request("POST", f"/pubsub/{quote(topic, safe='')}/{handler}", body, {"content-type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text


NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53, 2**63, 2**64, -1, 0, 1, 10**400])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=10)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
FIELDS = st.sampled_from(
    ["messages", "close", "stream", "offset", "limit", "timeout", "subscriber", "id", "cancel", "data", "event", "head"]
)
REQUESTS = st.dictionaries(FIELDS, VALUES, max_size=4).map(lambda value: json.dumps(value).encode())
HOSTILE_TOPIC = topic_name()


@fuzz(120)
@given(
    handler=st.sampled_from(["publish", "append", "pull", "subscribe", "truncate", "close", "delete", "info"]),
    body=REQUESTS | st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()),
)
def test_no_input_upsets_a_handler(restate: RestateServer, service: Service, handler: str, body: bytes) -> None:
    """Each is done or refused at once; a handler that failed for good would block its topic."""
    assert service.process is not None
    if handler == "pull":  # a pull that waits is no hang, if it says for how long
        try:
            asked = json.loads(body)
            body = json.dumps(asked | {"timeout": 0}).encode() if isinstance(asked, dict) else body
        except ValueError:
            pass
    status, text = invoke(restate, HOSTILE_TOPIC, handler, body)
    assert status < 500, (handler, body, text)


@pytest.mark.parametrize("handler", ["sweep", "expire"])
def test_the_handlers_for_the_object_itself_cannot_be_called(
    restate: RestateServer, service: Service, handler: str
) -> None:
    """They are private to Restate."""
    assert service.process is not None
    assert invoke(restate, topic_name(), handler, b"{}")[0] in (400, 403, 404)
