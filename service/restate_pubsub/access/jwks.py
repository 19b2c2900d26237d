"""Public keys by URL (JWKS): kept, renewed, looked up again when a token names one that is new.

An outage of the URL's host locks nobody out whose key is known: keys are replaced by a successful fetch alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from time import monotonic

import aiohttp
import structlog

from restate_pubsub.access.keys import VerifyingKey, keys_of_set
from restate_pubsub.errors import KeysUnavailable
from restate_pubsub.protocol.urls import redacted, redacted_url
from restate_pubsub.proxies import proxy_for

log = structlog.stdlib.get_logger(__name__)

REFRESH_SECONDS = 600.0
"""A key that was withdrawn is forgotten after this time."""
RETRY_SECONDS = 5.0
"""Between fetches while there are no keys, or the last fetch failed …"""
COOLDOWN_SECONDS = 10.0
"""… and between those that unknown key names cause: tokens with made-up names must not become a load on the host."""
FETCH_SECONDS = 5.0
MAX_BYTES = 1024 * 1024


class KeySet:
    """The keys at one URL."""

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str] = (),
        *,
        cooldown: float = COOLDOWN_SECONDS,
        clock: Callable[[], float] = monotonic,
        on_fetched: Callable[[bool], None] = lambda _worked: None,
    ) -> None:
        """`algorithms` narrows what the keys may verify; empty for all that their kinds allow.

        `on_fetched` is told of each fetch whether it worked.
        """
        self.url = url
        self._algorithms = algorithms
        self._cooldown = cooldown
        self._clock = clock
        self._on_fetched = on_fetched
        self._proxy = proxy_for(url)
        self._keys: list[VerifyingKey] | None = None
        self._asked_at = float("-inf")
        self._fetching: asyncio.Task[bool] | None = None

    async def find(self, kid: str | None) -> list[VerifyingKey]:
        """Return the keys that a token with this `kid` may be signed with; none if there is no such key.

        Raises:
            KeysUnavailable: the keys were never fetched, and cannot be now.

        """
        found = self._known(kid)
        if not found and self._clock() - self._asked_at >= self._cooldown:
            await self.fetch()
            found = self._known(kid)
        elif not found and self._fetching is not None:
            await self.fetch()  # the answer to somebody else's question may be ours
            found = self._known(kid)
        if self._keys is None:
            raise KeysUnavailable
        return found

    def _known(self, kid: str | None) -> list[VerifyingKey]:
        keys = self._keys or []
        if kid is None:  # without a name there must be no choice
            return keys if len(keys) == 1 else []
        return [key for key in keys if key.kid == kid]

    async def fetch(self) -> bool:
        """Fetch the keys; those who ask at the same time share it. Return whether it worked."""
        if self._fetching is None:
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetching)

    def _fetched(self, _task: asyncio.Task[bool]) -> None:
        self._fetching = None

    async def _fetch(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        try:
            # A session for each: it is one request in minutes, and nothing is left to close.
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url, proxy=self._proxy, allow_redirects=False) as response,
            ):
                body = await _bounded(response)
            keys = keys_of_set(json.loads(body), self._algorithms)
            if not keys:
                msg = "it holds no key that could verify a token"
                raise ValueError(msg)  # noqa: TRY301
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            log.warning(
                "PUBSUB_JWKS_URL cannot be read; known keys stay",
                url=redacted_url(self.url),
                error=redacted(str(error)) or type(error).__name__,
                known=len(self._keys or ()),
            )
            self._on_fetched(False)  # noqa: FBT003 - a callback's only argument
            return False
        if [key.kid for key in keys] != [key.kid for key in self._keys or ()]:
            log.info("token keys", kids=[key.kid for key in keys])
        self._keys = keys
        self._on_fetched(True)  # noqa: FBT003
        return True

    async def watch(self) -> None:
        """Fetch now, and again for ever; a task of the process's life."""
        while True:
            worked = await self.fetch()
            await asyncio.sleep(REFRESH_SECONDS if worked else RETRY_SECONDS)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    if response.status != 200:
        msg = f"status {response.status}"
        raise ValueError(msg)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            msg = f"more than {MAX_BYTES} bytes"
            raise ValueError(msg)
    return bytes(body)
