"""How many streams one HTTP/2 connection of the public address carries, by opening them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from restate_pubsub.commands.doctor.finding import Finding
from restate_pubsub.commands.doctor.remedies import remedies
from restate_pubsub.commands.doctor.site import Site

WANTED = 150
"""Streams that one connection should carry: a page has a few, all tabs of a browser share it."""
SECONDS = 10.0


async def streams(site: Site) -> list[Finding]:
    """Open many streams on one connection. In clear text browsers do not use HTTP/2, but a proxy behind might."""
    parts = urlsplit(site.base)
    secure = parts.scheme == "https"
    context = ssl.create_default_context() if secure else None
    if context is not None:
        context.set_alpn_protocols(["h2", "http/1.1"])
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        tls = writer.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            text = "HTTP/1.1: a browser opens six streams to a host, for all tabs together"
            return [Finding("note", "HTTP/2", text, ["serve HTTP/2 over TLS, or give a page one stream"])]
        carried = _Carried(site, parts.scheme, parts.netloc)
        with contextlib.suppress(TimeoutError, OSError, h2.exceptions.ProtocolError):
            async with asyncio.timeout(SECONDS):
                await carried.run(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()
    return [_judged(site, carried, secure=secure)]


def _judged(site: Site, carried: _Carried, *, secure: bool) -> Finding:
    if not carried.spoken:
        text = "HTTP/1.1: a browser opens six streams to a host, for all tabs together"
        return Finding("note", "HTTP/2", text, ["serve HTTP/2 over TLS, or give a page one stream"])
    how = "" if secure else " (in clear text, which browsers do not use)"
    if carried.open >= WANTED:
        return Finding("ok", "HTTP/2", f"one connection carries {carried.open} streams{how}")
    if carried.refused:
        text = f"{carried.open} streams, then status {carried.refused}: a limit of the service, not of a proxy{how}"
        return Finding("note", "HTTP/2", text)
    text = f"one connection carries {carried.open} streams{how}, the next ones wait"
    return Finding("FAULT", "HTTP/2", text, remedies("few streams", site.programs))


class _Carried:
    """One connection that opens as many streams as it may."""

    def __init__(self, site: Site, scheme: str, authority: str) -> None:
        self.spoken = False
        self.open = 0
        self.refused = 0
        url = site.url("offset=latest")
        self._head = [(":method", "GET"), (":scheme", scheme), (":authority", authority), (":path", url.raw_path_qs)]
        self._head += [("accept", "text/event-stream"), *site.headers().items()]
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._asked = 0

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Return when enough streams are open, or one was refused."""
        self._h2.initiate_connection()
        writer.write(self._h2.data_to_send())
        while self.open < WANTED and not self.refused and (data := await reader.read(65536)):
            for event in self._h2.receive_data(data):
                self._take(event)
            if self.spoken:
                self._ask()
            writer.write(self._h2.data_to_send())

    def _ask(self) -> None:
        most = min(WANTED, self._h2.remote_settings.max_concurrent_streams)
        while self._asked < most:
            self._h2.send_headers(self._h2.get_next_available_stream_id(), self._head, end_stream=True)
            self._asked += 1

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RemoteSettingsChanged():
                self.spoken = True
            case h2.events.ResponseReceived():
                status = int(dict(event.headers or [])[b":status"])
                if status == 200:
                    self.open += 1
                else:
                    self.refused = status
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            case _:
                pass
