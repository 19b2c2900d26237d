"""Calls to the object's handlers over Restate's ingress: URLs, the bearer token, errors as this project's own.

HTTP/1.1 with a pool: a waiting pull holds a connection, and HTTP/2 on the ingress ends at 200 streams each.
"""

from __future__ import annotations

import io
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from restate_pubsub.clock import ClockOffset
from restate_pubsub.errors import (
    CallFailed,
    InvalidRequest,
    KeyReused,
    OffsetGone,
    PubsubError,
    PullTimeout,
    RestateRefused,
    StreamReplaced,
    TooLarge,
    TopicClosed,
    Unavailable,
)
from restate_pubsub.protocol.urls import redacted, redacted_url

if TYPE_CHECKING:
    from types import TracebackType

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""How long a call that need not wait may take before it counts as lost."""
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A peer that vanished without a word is noticed after half a minute, also while a pull waits for ten."""

_REPLACED = "was opened again"
_GONE = re.compile(r"Offset (\d+) is lower than the head (\d+)")


_KNOWN: dict[int, type[PubsubError]] = {
    400: InvalidRequest,
    408: PullTimeout,
    409: TopicClosed,
    413: TooLarge,
    422: KeyReused,
}


class _Failure(msgspec.Struct):
    message: str = ""
    source: str | None = None


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, proto, _, _ = info
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


class Ingress:
    """Restate's ingress as seen by one object name. Close it when done, or use it as a context manager."""

    def __init__(self, url: str, name: str, token: str | None = None) -> None:
        """`url` is the ingress, `name` the object, `token` a bearer token (Restate Cloud)."""
        self.url = url.rstrip("/")
        self.name = name
        self._shown = redacted_url(self.url)
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self.clock = ClockOffset()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket)
            headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session

    async def services(self) -> list[str]:
        """Return the names of the services that Restate knows.

        Raises:
            Unavailable: Restate does not answer.

        """
        status, _, body = await self._request("GET", URL(f"{self.url}/restate/health"), ANSWER_SECONDS)
        if status != 200:
            msg = f"Restate at {self._shown} answered {status}: {_text(body)}"
            raise Unavailable(msg)
        try:
            return list(msgspec.json.decode(body, type=dict[str, Any]).get("services", []))
        except msgspec.DecodeError:
            msg = f"What answers at {self._shown} is not Restate's ingress: set RESTATE_INGRESS_URL"
            raise Unavailable(msg) from None

    async def call(
        self,
        topic: str,
        handler: str,
        body: bytes | None = None,
        *,
        idempotency_key: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> bytes:
        """Call one handler of one topic, once, and return its answer.

        Raises:
            Unavailable: no answer, or one that says nothing about the call (the ingress's own, a 5xx).
            PubsubError: the handler's answer, final.

        """
        url = URL(f"{self.url}/{self.name}/{_segment(topic)}/{handler}", encoded=True)
        headers = {} if body is None else {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        status, answer_headers, answer = await self._request("POST", url, seconds, body, headers)
        if status == 200:
            return answer
        raise _error(status, answer_headers.get("x-restate-error-source"), answer, self.name)

    async def send(self, topic: str, handler: str, body: bytes, *, seconds: float = ANSWER_SECONDS) -> None:
        """Have one handler of one topic called, and do not wait for it.

        Raises:
            Unavailable: no answer, so that it may not be called.

        """
        url = URL(f"{self.url}/{self.name}/{_segment(topic)}/{handler}/send", encoded=True)
        headers = {"content-type": "application/json"}
        status, answer_headers, answer = await self._request("POST", url, seconds, body, headers)
        if status not in (200, 202):
            raise _error(status, answer_headers.get("x-restate-error-source"), answer, self.name)

    async def _request(
        self, method: str, url: URL, seconds: float, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, bytes]:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        sent = time.time()
        try:
            async with self._connected().request(
                method,
                url,
                data=None if body is None else io.BytesIO(body),  # aiohttp warns of bytes over 1 MiB
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                skip_auto_headers=("content-type",),
            ) as response:
                self.clock.observe(response.headers.get("date"), sent, time.time())
                return response.status, response.headers, await response.read()
        except TimeoutError:
            msg = f"Restate at {self._shown} did not answer within {seconds:g} s"
            raise Unavailable(msg) from None
        except (aiohttp.ClientError, OSError) as error:
            msg = f"Restate at {self._shown} cannot be reached: {redacted(str(error)) or type(error).__name__}"
            raise Unavailable(msg) from None


def _segment(topic: str) -> str:
    # Dots are escaped as well: a proxy would take ".." for a step up.
    return quote(topic, safe="").replace(".", "%2E")


def _text(body: bytes) -> str:
    return body[:200].decode(errors="replace")


def _error(status: int, source: str | None, body: bytes, name: str) -> PubsubError:
    try:
        failure = msgspec.json.decode(body, type=_Failure)
    except msgspec.DecodeError:
        failure = _Failure(_text(body))
    message = failure.message or f"status {status}"
    # Before 1.7.4 Restate did not say whose answer it is; then a 404 or 5xx can only be the ingress's.
    if (source or failure.source or "ingress") == "ingress":
        return _from_ingress(status, message, name)
    return _from_handler(status, message)


def _from_ingress(status: int, message: str, name: str) -> PubsubError:
    if status == 404:
        msg = f"The object {name!r} is not registered: run `restate-pubsub register` ({message})"
        return Unavailable(msg)
    if status >= 500 or status == 429:
        return Unavailable(f"Restate's ingress answered {status}: {message}")
    if status in (401, 403):
        msg = f"Restate refused the call ({status}): check RESTATE_AUTH_TOKEN ({message})"
        return RestateRefused(msg, status)
    return _from_handler(status, message)


def _from_handler(status: int, message: str) -> PubsubError:
    if gone := _GONE.search(message):
        return OffsetGone(int(gone[1]), int(gone[2]))
    if status == 409 and _REPLACED in message:
        return StreamReplaced(message)
    known = _KNOWN.get(status)
    return CallFailed(message, status) if known is None else known(message)
