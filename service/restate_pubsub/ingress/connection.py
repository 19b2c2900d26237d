"""Calls over the ingress: one request, one answer, nothing tried again.

HTTP/1.1 with a pool: a waiting pull holds a connection, and HTTP/2 on the ingress ends at 200 streams each.
"""

from __future__ import annotations

import contextlib
import io
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from restate_pubsub.clock import ClockOffset
from restate_pubsub.errors import PubsubError, Unavailable, WrongAddress
from restate_pubsub.ingress import address, answers
from restate_pubsub.ingress.answers import Answer, Target
from restate_pubsub.ingress.reasons import reason
from restate_pubsub.ingress.sessions import Sessions
from restate_pubsub.protocol.calls import PullRequest
from restate_pubsub.protocol.names import CLIENT_HEADER
from restate_pubsub.proxies import proxy_for

if TYPE_CHECKING:
    from types import TracebackType

    from restate_pubsub.protocol.messages import Batch

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
"""How long a call that need not wait may take before it counts as lost."""
SPARE_SECONDS = 10.0
"""How much longer than it may wait a pull may take."""
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 20_000}
"""A peer that vanished without a word is noticed after twenty seconds, also while a pull waits for ten minutes.

`TCP_USER_TIMEOUT` (ms) is for a request that was sent into the dead link: while it is not acknowledged, no probe is
sent.
"""


def _socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, proto, _, _ = info
    sock = socket.socket(family, kind, proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def _session(headers: dict[str, str], traced: list[aiohttp.TraceConfig] | None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket)
    return aiohttp.ClientSession(connector=connector, headers=headers, trace_configs=traced)


class Ingress:
    """Restate's ingress as seen by one object name. Close it when done, or use it as a context manager.

    It may be made anywhere, and used in any number of event loops, one after the other or side by side.
    """

    def __init__(
        self, url: str, name: str, token: str | None = None, *, traced: aiohttp.TraceConfig | None = None
    ) -> None:
        """`url` is the ingress, `name` the object, `token` a bearer token (Restate Cloud); `traced` watches requests.

        Raises:
            WrongAddress: `url` is no URL of an ingress.
            ConfigError: the environment names a proxy that does not speak HTTP.

        """
        self.url, self.shown = address.checked(url, has_token=bool(token))
        self.name = name
        self.clock = ClockOffset()
        self._proxy = proxy_for(self.url)
        headers = {CLIENT_HEADER: "1"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._sessions = Sessions(partial(_session, headers, None if traced is None else [traced]))

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections of this event loop now, and those of others in their own time."""
        await self._sessions.close()

    async def services(self) -> list[str]:
        """Return the names of the services that Restate knows.

        Raises:
            WrongAddress: this is Restate's admin API.
            Unavailable: Restate does not answer.

        """
        answer = await self._request("GET", URL(f"{self.url}/restate/health"), ANSWER_SECONDS)
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            if answer.status == 200:
                return msgspec.json.decode(answer.body, type=_Services).services
        if answer.status == 404 and answer.is_foreign:
            await self._refuse_admin()
        error = answers.foreign(answer, self.shown)
        raise error if isinstance(error, WrongAddress) else Unavailable(error.message)  # all else may pass

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
            WrongAddress: this is not Restate's ingress, and will not be.
            CallAborted: an operator has ended the call.
            PubsubError: the handler's answer, final.

        """
        answer = await self.ask(topic, handler, body, idempotency_key=idempotency_key, seconds=seconds)
        if answer.status == 404 and answer.is_foreign:
            await self._refuse_admin()
        return answers.result(answer, self.target(topic, handler))

    async def ask(
        self,
        topic: str,
        handler: str,
        body: bytes | None = None,
        *,
        idempotency_key: str | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Answer:
        """Call one handler of one topic, once, and return whatever the answer is.

        Raises:
            Unavailable: there was none.

        """
        url = URL(f"{self.url}/{self.name}/{_segment(topic)}/{handler}", encoded=True)
        headers = {} if body is None else {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        return await self._request("POST", url, seconds, body, headers)

    async def send(self, topic: str, handler: str, body: bytes, *, seconds: float = ANSWER_SECONDS) -> None:
        """Have one handler of one topic called, and do not wait for it.

        Raises:
            Unavailable: no answer, so that it may not be called.

        """
        url = URL(f"{self.url}/{self.name}/{_segment(topic)}/{handler}/send", encoded=True)
        answer = await self._request("POST", url, seconds, body, {"content-type": "application/json"})
        if answer.status != 202:
            answers.result(answer, self.target(topic, handler))

    async def pull(
        self,
        topic: str,
        offset: int | None,
        *,
        wait: float = 0.0,
        limit: int | None = None,
        subscriber: str | None = None,
        join: bool = False,
        opening: str | None = None,
    ) -> Batch:
        """Return messages from `offset` on, or wait up to `wait` seconds for news; errors are those of `call`.

        Without an offset it is the tail: for a subscriber, whose answer says where that is. `opening`: see
        `PullRequest`.

        `join`: those that continue one another may come as one; `spans` says which.

        Raises:
            OffsetGone: `offset` is below the head.
            PullTimeout: nothing came.

        """
        request: dict[str, Any] = {"timeout": wait} if offset is None else {"offset": offset, "timeout": wait}
        if subscriber is not None:
            request["subscriber"] = subscriber
        if limit is not None:
            request["limit"] = limit
        if join:
            request["join"] = True
        if opening is not None:
            request["opening"] = opening
        raw = await self.call(topic, "pull", msgspec.json.encode(request), seconds=wait + SPARE_SECONDS)
        return answers.pulled(raw, offset or 0, self.target(topic, "pull"), named=subscriber is not None)

    async def history(self, topic: str, offset: int, *, limit: int, subscriber: str, join: bool, reading: str) -> Batch:
        """Return messages as `pull` does, of a topic that is small: faster, and without waiting.

        `reading`: see `PullRequest`; what was handed over is not in the answer.

        Raises:
            OffsetGone: `offset` is below the head.
            PubsubError: `pull` is to be asked, whatever else it says.

        """
        request = PullRequest(offset, limit, 0.0, subscriber, join=join, reading=reading)
        raw = await self.call(topic, "history", msgspec.json.encode(request), seconds=SPARE_SECONDS)
        return answers.pulled(raw, offset, self.target(topic, "history"), named=True)

    def target(self, topic: str, handler: str) -> Target:
        """Return what error texts name of a call."""
        return Target(self.shown, self.name, topic, handler)

    async def _refuse_admin(self) -> None:
        """Raise WrongAddress where Restate's admin API answers."""
        try:
            answer = await self._request("GET", URL(f"{self.url}/version"), CONNECT_SECONDS)
            msgspec.json.decode(answer.body, type=_AdminVersion)
        except (PubsubError, msgspec.DecodeError, UnicodeDecodeError):
            return
        msg = (
            f"{self.shown} is Restate's admin API, not its ingress: give the ingress's URL (RESTATE_INGRESS_URL), "
            "such as http://localhost:8080"
        )
        raise WrongAddress(msg)

    async def _request(
        self, method: str, url: URL, seconds: float, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        session = await self._sessions.current()
        sent = time.time()
        try:
            async with session.request(
                method,
                url,
                data=None if body is None else io.BytesIO(body),  # aiohttp warns of bytes over 1 MiB
                headers=headers,
                timeout=timeout,
                proxy=self._proxy,
                allow_redirects=False,
                skip_auto_headers=("content-type",),
            ) as response:
                self.clock.observe(response.headers.get("date"), sent, time.time())
                return Answer(response.status, response.headers, await response.read())
        except TimeoutError:
            late = f"did not answer within {seconds:g} s"
            msg = f"Restate at {self.shown} {late}"
            raise Unavailable(msg, public=f"Restate {late}: try again") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            msg = f"Restate at {self.shown} cannot be reached: {reason(error)}"
            raise Unavailable(msg) from None


class _Services(msgspec.Struct):
    services: list[str]


class _AdminVersion(msgspec.Struct):
    version: str
    min_admin_api_version: int


def _segment(topic: str) -> str:
    # Dots are escaped as well: a proxy would take ".." for a step up.
    return quote(topic, safe="").replace(".", "%2E")
