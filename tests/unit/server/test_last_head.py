"""The head of an answer that is the last one on its connection, which h11 does not write."""

from __future__ import annotations

import h11
import pytest

from restate_pubsub.server.hypercorn_fixes import ServerConfig
from restate_pubsub.server.hypercorn_fixes.request_stream import head_of
from restate_pubsub.web.stream_response import LAST_HEAD

OTHERS = [(b"vary", b"Origin"), (b"access-control-allow-origin", b"https://a.example")]


@pytest.mark.parametrize("more", [[], OTHERS])
def test_it_is_what_h11_would_write(more: list[tuple[bytes, bytes]]) -> None:
    """Byte for byte, but for the date, which a second may change."""
    config = ServerConfig()
    config.include_date_header = False
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    while connection.next_event() is not h11.NEED_DATA and connection.their_state is not h11.DONE:
        pass
    headers = [*LAST_HEAD, *more, *config.response_headers("h11")]
    assert head_of(200, [*LAST_HEAD, *more], config) == connection.send(h11.Response(status_code=200, headers=headers))
