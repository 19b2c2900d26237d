"""Serve the application with hypercorn, and stop well: signals, drain, a hard limit.

The order of stopping: readiness turns false and new streams are refused; open streams end, spread over most of the
drain time, and bodies that publish are answered with what they have brought; then hypercorn takes no more connections
and waits for invocations in flight; what is left at the end of the drain time is cut.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from hypercorn.asyncio import serve as hypercorn_serve
from restate.server import install_shutdown_hook

from restate_pubsub.server.collector import tune_collector
from restate_pubsub.server.hypercorn_fixes import UNLIMITED, ConnectionLimits, ServerConfig, install, missing
from restate_pubsub.server.hypercorn_fixes.connection import kind_of
from restate_pubsub.server.wires import Wires
from restate_pubsub.web.middleware.for_restate import is_call
from restate_pubsub.web.middleware.public_port import public_ports

if TYPE_CHECKING:
    from restate_pubsub.server.app import Service
    from restate_pubsub.settings.fields import Settings

log = structlog.stdlib.get_logger(__name__)

STREAMS_PER_CONNECTION = 2000
"""Requests at a time on one HTTP/2 connection of a client or a proxy; who has more opens another one."""
STREAMS_SHARE = 0.5
"""The part of the drain time over which streams end; the rest is for invocations, and for frozen readers."""
UPLOADS_SHARE = 0.75
"""Bodies under way are answered after this part of it; the rest is for what they have brought."""
BACKLOG = 1024
CUTS = 3
UNSENT_BYTES = 128 * 1024


def listen(binds: Sequence[str], *, send_timeout: float) -> list[socket.socket]:
    """Open the listening sockets; port 0 takes a free one.

    Accepted connections inherit the options. TCP_USER_TIMEOUT: the kernel drops a peer that takes nothing, where
    hypercorn would wait for ever to hand it the rest of its buffer; later than we do, since we count those readers.
    TCP_NOTSENT_LOWAT: the kernel does not take megabytes for such a peer before we notice.

    Raises:
        OSError: an address cannot be bound; the text names it.

    """
    sockets = []
    for bind in binds:
        host, _, port = bind.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2 * send_timeout * 1000))
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            sock.bind((host, int(port)))
        except OSError as error:
            sock.close()
            msg = f"cannot listen on {bind}: {error.strerror}; PUBSUB_BIND or PUBSUB_METRICS_BIND names another address"
            raise OSError(msg) from None
        sock.listen(BACKLOG)
        sockets.append(sock)
    return sockets


def ports_of(sockets: Sequence[socket.socket]) -> list[int]:
    """Return the ports that sockets listen on, in their order."""
    return [sock.getsockname()[1] for sock in sockets]


def config_for(sockets: Sequence[socket.socket], *, drain: float) -> ServerConfig:
    """Return hypercorn's configuration for listening sockets, which it takes over; `drain` is in seconds."""
    config = ServerConfig()
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.backlog = BACKLOG
    # Restate keeps its connections for ever; the SDK's documentation asks for these.
    # What may not be idle for ever, or carry as much as it likes, is the business of `ConnectionLimits`.
    config.keep_alive_max_requests = UNLIMITED
    config.keep_alive_timeout = UNLIMITED
    config.graceful_timeout = drain
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: a stream is one, and a topic that is read another."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(
    service: Service,
    settings: Settings,
    sockets: Sequence[socket.socket],
    *,
    stopped: asyncio.Event | None = None,
    handle_signals: bool = True,
) -> None:
    """Serve until SIGTERM, SIGINT or `stopped`; return within the drain time after that.

    A second signal cuts the drain short.
    """
    stop = stopped or asyncio.Event()
    now = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (now if stop.is_set() else stop).set()

    if handle_signals:
        # The SDK takes SIGTERM for itself at its first request; its hooks are the way to share it.
        for signum in (signal.SIGTERM, signal.SIGINT):
            install_shutdown_hook(loop, on_signal, signum)
    raise_file_limit()
    tune_collector()
    install()
    addresses = [sock.getsockname()[:2] for sock in sockets]

    async def trigger() -> None:
        await stop.wait()
        service.health.draining = True
        service.ending.after(settings.drain_timeout * UPLOADS_SHARE)
        log.info("draining", streams=service.hub.streams, seconds=settings.drain_timeout)
        # Streams end in here: hypercorn's lifespan shutdown runs only after its connections have gone.
        await service.hub.drain(settings.drain_timeout * STREAMS_SHARE)
        await service.incoming.end()  # nobody reads here any more

    public = _say_where(settings, addresses)
    config = config_for(sockets, drain=settings.drain_timeout)
    config.observer = service.metrics
    config.limits = ConnectionLimits(
        request=settings.request_timeout,
        keep_alive=settings.keep_alive_timeout,
        unread=2 * settings.send_timeout,
        streams=STREAMS_PER_CONNECTION,
        ports=public or None,
        spares=partial(is_call, restate_path=settings.restate_path),
    )
    wires = Wires(settings.send_timeout, lambda error: service.metrics.connection_lost(kind_of(error)))
    config.wires = wires if _can_hand_over() else None

    async def serving_all() -> None:
        await hypercorn_serve(service.app, config, shutdown_trigger=trigger)  # type: ignore[arg-type]
        await wires.gone()  # streams have ended; what they wrote last is still being taken

    others = asyncio.all_tasks()
    serving = asyncio.create_task(serving_all())
    deadline = asyncio.create_task(_deadline(stop, now, settings.drain_timeout))
    await asyncio.wait({serving, deadline}, return_when=asyncio.FIRST_COMPLETED)
    deadline.cancel()
    cut = not serving.done()
    if cut:
        log.warning("drain time is over; cutting what is left", streams=service.hub.streams)
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what is cut complains there
        wires.abort()
        await _cut(asyncio.all_tasks() - others)
        if serving.done() and not serving.cancelled():
            serving.exception()  # whatever it was cut off from
    elif (error := serving.exception()) is not None:
        if not stop.is_set():
            raise error
        log.warning("a connection failed while stopping", error=repr(error))
    log.info("stopped")


def _say_where(settings: Settings, addresses: list[tuple[str, int]]) -> set[int]:
    """Log what is served where, and return the public ports."""
    metrics = addresses.pop() if settings.metrics_bind is not None else None
    public = public_ports([port for _, port in addresses])
    further = {"internal": [f"{host}:{port}" for host, port in addresses if port not in public]} if public else {}
    if metrics is not None:
        further["metrics"] = [f"{metrics[0]}:{metrics[1]}"]
    log.info(
        "serving",
        addresses=[f"{host}:{port}" for host, port in addresses if not public or port in public],
        **further,
    )
    return public


def _can_hand_over() -> bool:
    if absent := missing():
        log.warning("streams keep their tasks, which cost memory and CPU: the server has changed", missing=absent)
    return not absent


async def _cut(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: hypercorn's connections spend their first cancellation on a peer's full buffer.

    Since Python 3.12 that waits for the peer, which would hold the process for as long as the peer likes.
    """
    for _ in range(CUTS):
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=0.2)
        if not tasks:
            return


async def _deadline(stop: asyncio.Event, now: asyncio.Event, seconds: float) -> None:
    await stop.wait()
    try:
        await asyncio.wait_for(now.wait(), seconds)
    except TimeoutError:
        return
