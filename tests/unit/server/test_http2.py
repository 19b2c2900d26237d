"""HTTP/2: a request that is not what it should be fails alone, and a client that goes leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from restate_pubsub.server.hypercorn_fixes import UNLIMITED, ServerConfig
from restate_pubsub.server.hypercorn_fixes.http2 import RESTATE_FRAME_BYTES, RESTATE_WINDOW_BYTES
from restate_pubsub.server.hypercorn_fixes.http2_frames import TolerantConnection
from support.http2 import Http2Client
from support.waiting import until
from unit.server.conftest import Serving


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> object:
    """No test here is a reason to log anything."""
    caplog.set_level(logging.INFO)
    yield
    assert [] == [
        record.getMessage() for record in caplog.get_records("call") if record.exc_info or record.levelno > logging.INFO
    ]


@pytest.mark.parametrize("path", [b"/stream", b"/busy"])
@pytest.mark.parametrize("streams", [1, 3, 100])
async def test_streams_whose_client_vanishes_leave_nothing(serving: Serving, path: bytes, streams: int) -> None:
    """No task, whatever is being sent to the client when it goes."""
    async with serving() as server:
        async with Http2Client.connect(server.port) as client:
            for _ in range(streams):
                client.open(path)
            await client.until(lambda: len(client.bodies) == streams, "all streams")
            client.vanish()
            await server.nothing_left()
        assert streams == server.app.ended


async def test_a_client_that_takes_nothing_and_vanishes_leaves_nothing(serving: Serving) -> None:
    """Whoever waits for it to take something is let go."""
    async with serving() as server:
        async with Http2Client.connect(server.port, window=0) as client:
            for _ in range(50):
                client.open(b"/busy")
            await client.until(lambda: len(client.heads) == 50, "all streams")
            client.vanish()
            await server.nothing_left()


async def test_a_connection_carries_many_streams(serving: Serving) -> None:
    """The 1,001st as well as the first."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        streams = [client.open(b"/stream", flush=False) for _ in range(1500)]
        client.flush()
        await client.until(lambda: all(client.bodies[stream] for stream in streams), "all streams")
        assert (200, b"done") == await client.answer(client.open())


def _cost(requests: int) -> float:
    """Return the CPU seconds that so many requests take, which are open together."""
    client = TolerantConnection(ServerConfig(), streams=UNLIMITED)
    client.initiate_connection()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
    client.receive_data(preface)
    encoder = Encoder()
    frames = [
        HeadersFrame(2 * n + 1, encoder.encode(_head()), flags=["END_HEADERS", "END_STREAM"]).serialize()
        for n in range(requests)
    ]
    begin = time.process_time()
    for frame in frames:
        assert client.receive_data(frame)
    return time.process_time() - begin


def test_requests_cost_in_proportion_to_their_number() -> None:
    """However many are open: twice as many take twice as long, and not four times."""
    _cost(100)
    ratio = min(_cost(4000) for _ in range(3)) / min(_cost(2000) for _ in range(3))
    assert ratio < 3


def test_streams_that_have_closed_are_forgotten() -> None:
    """A connection that lasts holds what is open."""
    server = TolerantConnection(ServerConfig(), streams=UNLIMITED)
    server.initiate_connection()
    server.receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
    encoder = Encoder()
    for n in range(2000):
        block = encoder.encode(_head())
        server.receive_data(HeadersFrame(2 * n + 1, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
        server.send_headers(2 * n + 1, [(b":status", b"204")], end_stream=True)
    assert len(server.streams) < 600


async def test_many_requests_at_once_let_others_in_between(serving: Serving) -> None:
    """A few are begun in one turn of the event loop."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        for _ in range(1500):
            client.open(b"/stream", flush=False)
        client.flush()
        most = before = 0
        async with asyncio.timeout(20):
            while before < 1500:
                await asyncio.sleep(0)
                most, before = max(most, len(server.app.scopes) - before), len(server.app.scopes)
        assert most <= 64


async def test_a_request_too_many_is_refused_alone(serving: Serving) -> None:
    """It may be sent again at once on another connection, and on this one when there is room."""
    async with serving(streams=10) as server, Http2Client.connect(server.port) as client:
        streams = [client.open(b"/stream") for _ in range(10)]
        await client.until(lambda: all(client.bodies[stream] for stream in streams), "all streams")
        assert 10 == client.h2.remote_settings.max_concurrent_streams
        refused = _beyond(client)
        await client.until(lambda: refused in client.resets, "the refusal")
        assert {refused: ErrorCodes.REFUSED_STREAM} == client.resets
        client.h2.reset_stream(streams[0])
        client.flush()
        assert (200, b"done") == await client.answer(client.open())


def _beyond(client: Http2Client) -> int:
    """Send a request that the announced number does not allow."""
    client.h2.remote_settings.acknowledge()
    client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = UNLIMITED
    client.h2.remote_settings.acknowledge()
    return client.open()


async def test_restate_may_have_any_number_of_requests(serving: Serving) -> None:
    """Its connection is told when its first call was accepted, and may leave answers where they are."""
    async with (
        serving(streams=3, unread=0.1, spares=lambda path, _status: path == "/call") as server,
        Http2Client.connect(server.port) as client,
    ):
        await client.answer(client.open(b"/call"))
        await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == UNLIMITED, "the number")
        streams = [client.open(b"/stream") for _ in range(20)]
        await client.until(lambda: all(client.bodies[stream] for stream in streams), "all streams")


@pytest.mark.parametrize("limited", [True, False])
async def test_restate_may_send_much_at_once(serving: Serving, limited: bool) -> None:  # noqa: FBT001
    """A topic's state comes along with a call; to everybody else the windows of the protocol are announced."""
    ports = None if limited else frozenset({1})
    async with (
        serving(spares=lambda path, _status: path == "/call", ports=ports) as server,
        Http2Client.connect(server.port) as restate,
        Http2Client.connect(server.port) as other,
    ):
        for client, path in ((restate, b"/call"), (other, b"/")):
            await client.answer(client.open(path))
        found, others = restate.h2.remote_settings, other.h2.remote_settings
        await restate.until(lambda: restate.h2.outbound_flow_control_window > RESTATE_WINDOW_BYTES, "the window")
        assert (RESTATE_WINDOW_BYTES, RESTATE_FRAME_BYTES) == (found.initial_window_size, found.max_frame_size)
        assert (65_535, 16_384) == (others.initial_window_size, others.max_frame_size)


@pytest.mark.parametrize("path", [b"/", b"/stream", b"/busy", b"/large"])
async def test_an_answer_that_its_client_does_not_take_is_broken_off_alone(serving: Serving, path: bytes) -> None:
    """It opens no window, so the answers would stay; what it does take goes on."""
    async with serving(unread=0.3) as server, Http2Client.connect(server.port, window=0) as client:
        taken = client.open(b"/busy")
        unread = [client.open(path) for _ in range(20)]
        async with asyncio.timeout(10):
            while not client.resets.keys() >= set(unread):
                client.h2.increment_flow_control_window(500, taken)
                client.flush()
                await asyncio.sleep(0.02)
        assert taken not in client.resets
        assert {ErrorCodes.CANCEL} == set(client.resets.values())
        await until(lambda: server.app.ended == 20, "the requests to end")


async def test_streams_take_turns(serving: Serving) -> None:
    """A long answer does not hold up a short one."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        large = client.open(b"/echo", b"POST", end=False)
        client.h2.send_data(large, b"x" * 16_000)
        client.h2.send_data(large, b"x" * 16_000, end_stream=True)
        small = client.open()
        assert (200, b"done") == await client.answer(small)
        assert (200, 32_000) == ((await client.answer(large))[0], len(client.bodies[large]))


def _head(*more: tuple[bytes, bytes], **changed: bytes | None) -> list[tuple[bytes, bytes]]:
    given = {"method": b"GET", "scheme": b"http", "path": b"/", "authority": b"test"} | changed
    return [*((b":" + name.encode(), value) for name, value in given.items() if value is not None), *more]


MALFORMED = {
    "CONNECT": (_head(method=b"CONNECT", scheme=None, path=None), 405),
    "extended CONNECT": (_head((b":protocol", b"websocket"), method=b"CONNECT"), 405),
    "a path that is not ASCII": (_head(path=b"/\xc3\xa4"), 400),
    "a path that is not UTF-8": (_head(path=b"/\xff"), 400),
    "a method that is not ASCII": (_head(method=b"G\xcbT"), 400),
    "large headers": (_head(*[(b"x-%d" % n, b"y" * 4000) for n in range(20)]), 431),
    "no path": (_head(path=None), None),
    "an empty path": (_head(path=b""), None),
    "no method": (_head(method=None), None),
    "an unknown pseudo-header": (_head((b":evil", b"1")), None),
    "a pseudo-header after the others": ([(b"x", b"1"), *_head()], None),
    "an upper-case name": (_head((b"X-Evil", b"1")), None),
    "a header of HTTP/1.1": (_head((b"connection", b"close")), None),
    "transfer-encoding": (_head((b"transfer-encoding", b"chunked")), None),
    "te": (_head((b"te", b"gzip")), None),
    "an empty name": (_head((b"", b"1")), None),
    "a line feed in a value": (_head((b"x", b"a\nb")), None),
    "a length that is no number": (_head((b"content-length", b"-1")), None),
    "two lengths": (_head((b"content-length", b"1"), (b"content-length", b"2")), None),
    "two hosts": (_head((b"host", b"other")), None),
    "a body that is shorter than its length": (_head((b"content-length", b"5"), method=b"POST"), None),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_fails_alone(serving: Serving, name: str) -> None:
    """It is answered or reset; a stream on the same connection goes on, and so does the next request."""
    head, status = MALFORMED[name]
    async with serving() as server, Http2Client.connect(server.port) as client:
        bystander = client.open(b"/stream")
        await client.begun(bystander, b"first")
        stream = client.send(head)
        if status is not None:
            assert status == (await client.answer(stream))[0]
            assert [client.heads[stream][b"content-type"]] == [b"application/problem+json"]
            assert len(server.seen.codes) == 1
        else:
            await client.until(lambda: stream in client.resets or stream in client.ended, "the end of the request")
        assert (200, b"done") == await client.answer(client.open())
        assert bystander not in client.resets


def _length(client: Http2Client) -> None:
    stream = client.open(b"/", b"POST", [(b"content-length", b"3")], end=False)
    frame = DataFrame(stream, b"too long")
    client.raw(frame)


def _priorities(client: Http2Client) -> None:
    client.raw(*(PriorityFrame(2 * n + 1001, stream_weight=n % 256) for n in range(3000)))


def _own_priority(client: Http2Client) -> None:
    client.raw(PriorityFrame(1001, depends_on=1001), PriorityFrame(1001, depends_on=1003, exclusive=True))


def _resets(client: Http2Client) -> None:
    for _ in range(500):
        stream = client.open(b"/stream", flush=False)
        client.h2.reset_stream(stream)
    client.flush()


def _reset_twice(client: Http2Client) -> None:
    stream = client.open(b"/stream")
    client.raw(RstStreamFrame(stream, 8), RstStreamFrame(stream, 8), DataFrame(stream, b"late"))


def _window(client: Http2Client) -> None:
    stream = client.open(b"/stream")
    client.raw(WindowUpdateFrame(stream, window_increment=2**31 - 1))


def _window_of_none(client: Http2Client) -> None:
    stream = client.open()
    client.raw(WindowUpdateFrame(stream, window_increment=10))


def _trailers(client: Http2Client) -> None:
    stream = client.open(b"/", b"POST", end=False)
    client.h2.send_headers(stream, [(b"x-trailer", b"1")], end_stream=True)
    client.flush()


def _bad_trailers(client: Http2Client) -> None:
    stream = client.open(b"/", b"POST", end=False)
    block = client.h2.encoder.encode([(b":path", b"/")])
    client.raw(HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"]))


def _own_priority_in_head(client: Http2Client) -> None:
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, _head(), end_stream=True)
    client.h2.clear_outbound_data_buffer()
    block = client.h2.encoder.encode(_head())
    client.raw(HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM", "PRIORITY"], depends_on=stream))


def _continuation(client: Http2Client) -> None:
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, _head(), end_stream=True)
    client.h2.clear_outbound_data_buffer()
    block = client.h2.encoder.encode(_head((b"x", b"1" * 100)))
    client.raw(
        HeadersFrame(stream, block[:10], flags=["END_STREAM"]),
        ContinuationFrame(stream, block[10:20]),
        ContinuationFrame(stream, block[20:], flags=["END_HEADERS"]),
    )


def _settings(client: Http2Client) -> None:
    for n in range(200):
        client.h2.update_settings({4: 65535 + n})
        client.h2.ping(b"12345678")
    client.flush()


def _empty_data(client: Http2Client) -> None:
    stream = client.open(b"/unread", b"POST", end=False)
    client.raw(*(DataFrame(stream, b"") for _ in range(3000)))


def _padding(client: Http2Client) -> None:
    stream = client.open(b"/unread", b"POST", end=False)
    client.raw(*(DataFrame(stream, b"", flags=["PADDED"], pad_length=255) for _ in range(200)))


@pytest.mark.parametrize(
    "act",
    [
        _length, _priorities, _own_priority, _resets, _reset_twice, _window, _window_of_none, _trailers, _bad_trailers,
        _own_priority_in_head, _continuation, _settings, _empty_data, _padding,
    ],
)  # fmt: skip
async def test_what_a_client_does_with_one_request_leaves_the_others_alone(
    serving: Serving, act: Callable[[Http2Client], None]
) -> None:
    """Frames of every kind, in order and out of order."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        bystander = client.open(b"/stream")
        await client.begun(bystander, b"first")
        act(client)
        assert (200, b"done") == await client.answer(client.open())
        assert bystander not in client.resets
        client.vanish()
        server.app.release.set()
        await server.nothing_left()


async def test_what_breaks_the_connection_itself_ends_it_with_a_word(serving: Serving) -> None:
    """Where the other side is not even a peer of HTTP/2: a GOAWAY, and nothing in the log."""
    for raw in (b"\x00" * 200, b"\xff" * 200, b"GET / HTTP/1.1\r\n\r\n"):
        async with serving() as server, Http2Client.connect(server.port) as client:
            await client.begun(client.open(b"/stream"), b"first")
            client.raw(raw)
            await client.end()
            await server.nothing_left()


async def test_a_body_that_is_not_read_stops_no_other_request(serving: Serving) -> None:
    """Its own stream waits; the connection's window is there for the others."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        stuck = [client.open(b"/unread", b"POST", end=False) for _ in range(4)]
        await client.until(lambda: server.app.scopes, "the request")
        for stream in stuck:
            while client.h2.local_flow_control_window(stream) > 0:
                size = min(client.h2.local_flow_control_window(stream), 16_000)
                client.h2.send_data(stream, b"x" * size)
                client.flush()
                if client.h2.outbound_flow_control_window == 0:
                    await client.until(lambda: client.h2.outbound_flow_control_window > 0, "a window")
        assert (200, b"done") == await client.answer(client.open())
        upload = client.open(b"/echo", b"POST", end=False)
        client.h2.send_data(upload, b"hello", end_stream=True)
        client.flush()
        assert (200, b"hello") == await client.answer(upload)
        server.app.release.set()
        for stream in stuck:
            client.h2.end_stream(stream)
        client.flush()
        for stream in stuck:
            assert 65_535 == len((await client.answer(stream))[1])


async def test_an_answer_before_the_end_of_the_request_is_whole_and_stops_the_request(serving: Serving) -> None:
    """RFC 9113, section 8.1: NO_ERROR; nothing of the stream stays."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        stream = client.open(b"/early", b"POST", end=False)
        assert (200, b"no") == await client.answer(stream)
        await client.until(lambda: stream in client.resets, "the reset")
        assert 0 == client.resets[stream]


async def test_an_answer_that_breaks_off_is_broken_off_for_the_client(serving: Serving) -> None:
    """Also where it opens no window: it would wait for ever for the rest, and the rest would stay in memory."""
    async with serving() as server, Http2Client.connect(server.port, window=0) as client:
        stream = client.open(b"/broken")
        await client.until(lambda: stream in client.resets, "the reset")
        assert b"" == client.bodies[stream]
        assert stream not in client.ended


async def test_a_request_that_is_taken_back_at_once_is_not_begun(serving: Serving) -> None:
    """Opening and resetting costs the client more than the server."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        _resets(client)
        await client.answer(client.open())
        assert len(server.app.scopes) < 100


async def test_the_head_goes_out_with_what_follows_at_once(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """One segment."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        await client.answer(client.open())
        written: list[bytes] = []
        write = asyncio.StreamWriter.write

        def recorded(self: asyncio.StreamWriter, data: bytes) -> None:
            if self is not client.writer:
                written.append(bytes(data))
            write(self, data)

        monkeypatch.setattr(asyncio.StreamWriter, "write", recorded)
        await client.begun(client.open(b"/stream"), b"first")
        assert 1 == len(written)
