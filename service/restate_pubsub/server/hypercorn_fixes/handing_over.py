"""Takes a connection's transport away from hypercorn and asyncio's streams, which then end as if the client had gone.

Changing a transport's protocol is public. Two things are private: a `StreamWriter` that nobody refers to any more
closes its transport (`__del__`, since Python 3.11.5), so its `_transport` is replaced; and a `StreamReader` says by its
`_eof` that the client has closed its side, which may be so before its request is answered. Of hypercorn 0.18 it needs
that `TCPServer` reads in `_read_data` and closes in `_close`, which the fixes replace anyway, and that an `HTTPStream`
which is `closed` does nothing at the end of its application.
"""

from __future__ import annotations

import asyncio
from typing import cast

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol.http_stream import HTTPStream


class _Gone(asyncio.Transport):
    """Stands in for a transport that was given away: it is closed for who still asks."""

    def is_closing(self) -> bool:
        return True


_GONE = _Gone()


def missing() -> str | None:
    """Return what is not there, so that no connection can be handed over; None where all is."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    writer = asyncio.StreamWriter(_GONE, asyncio.StreamReaderProtocol(reader, loop=loop), reader, loop)
    if vars(writer).get("_transport") is not _GONE:
        return "asyncio.StreamWriter._transport"
    if "_eof" not in vars(reader):
        return "asyncio.StreamReader._eof"
    for owner, name in ((TCPServer, "_read_data"), (TCPServer, "_close"), (HTTPStream, "app_send")):
        if not hasattr(owner, name):
            return f"hypercorn's {owner.__name__}.{name}"
    return None


def has_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the client has closed its side; `at_eof` does not say it while something that it sent is unread."""
    return bool(vars(reader).get("_eof"))


def hand_over(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Return a writer's transport for another protocol; the writer forgets it, and its reader comes to the end."""
    transport = cast("asyncio.Transport", writer.transport)
    before = transport.get_protocol()
    transport.set_protocol(asyncio.Protocol())
    vars(writer)["_transport"] = _GONE
    before.connection_lost(None)
    return transport
