"""Why streams are sent in chunks, though HAProxy waits for more of a body in chunks: without them a cut is an end."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from proxies.programs import running
from proxies.trials import LIVE

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-transform\r\n"
EVENT = b"data: an event\n\n"
TIMES = 5


class BareOrigin:
    """A server that sends an event whenever it is told to, and is then gone in the middle of its answer."""

    def __init__(self, *, chunks: bool) -> None:
        """`chunks`: whether the answer comes in chunks, or ends with its connection."""
        self.url = ""
        self.events = asyncio.Queue[bytes]()
        """What to send next; after nothing (`b""`) the connection is closed."""
        self.sent_at = 0.0
        self._chunks = chunks

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[BareOrigin]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        form = b"transfer-encoding: chunked" if self._chunks else b"connection: close"
        writer.write(HEAD + form + b"\r\n\r\n")
        while asked.startswith(b"GET ") and (event := await self.events.get()):
            self.sent_at = time.monotonic()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event) if self._chunks else event)
        writer.close()


@pytest.mark.parametrize(
    ("chunks", "line"), [(True, "option http-no-delay"), (True, ""), (False, "option http-no-delay"), (False, "")]
)
async def test_without_chunks_haproxy_would_not_wait_but_a_cut_would_be_an_end(
    tmp_path: Path, *, chunks: bool, line: str
) -> None:
    """With the page's configuration, and with a line of it left out; `pytest -s` prints how late events are."""
    late = []
    async with (
        BareOrigin(chunks=chunks).serving() as origin,
        running("haproxy", origin.url, tmp_path, (line, "")) as proxy,
        aiohttp.ClientSession() as session,
        session.get(f"{proxy.url}/pubsub/t") as answer,
    ):
        for _ in range(TIMES):
            origin.events.put_nowait(EVENT)
            assert EVENT == await asyncio.wait_for(answer.content.readexactly(len(EVENT)), 5)
            late.append(time.monotonic() - origin.sent_at)
        origin.events.put_nowait(b"")
        if chunks:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
        else:
            assert b"" == await answer.content.read()
    milliseconds = 1000 * statistics.median(late)
    print(f"{'' if chunks else 'no '}chunks, {'without ' + line if line else 'the page'}: {milliseconds:.1f} ms late")
    assert (chunks and bool(line)) == (statistics.median(late) > LIVE), milliseconds
