"""Says once that many refusals fall on one address: if that is a proxy's, all of its clients count as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic

import structlog

log = structlog.stdlib.get_logger(__name__)

MOUNTING = 20
"""So many refusals of one address within `SECONDS` are no accident."""
SECONDS = 60.0
ADDRESSES = 1024
"""How many are counted in that time: whoever comes from more of them is not a proxy."""


class Crowds:
    """Counts what the limits for each client refuse."""

    def __init__(self, trusted_proxies: int, *, clock: Callable[[], float] = monotonic) -> None:
        """`clock` is in seconds."""
        self._trusted = trusted_proxies
        self._clock = clock
        self._since = clock()
        self._refused: Counter[str] = Counter()
        self._said = False

    def refused(self, client: str, *, entries: int) -> None:
        """Count one refusal of a client, whose request had so many entries in X-Forwarded-For."""
        if self._said:
            return
        now = self._clock()
        if now - self._since >= SECONDS:
            self._refused.clear()
            self._since = now
        if client not in self._refused and len(self._refused) >= ADDRESSES:
            return
        self._refused[client] += 1
        if self._refused[client] >= MOUNTING:
            self._said = True
            log.warning(
                "many requests of one address are refused; if it is a proxy's, all of its clients count as one",
                client=client,
                refused=MOUNTING,
                setting="PUBSUB_TRUSTED_PROXIES",
                advice=self._advice(entries),
                page="docs/proxies.md",
            )
            self._refused.clear()

    def _advice(self, entries: int) -> str:
        if entries > self._trusted:
            return f"set it to the number of proxies: requests name {entries}, and {self._trusted} are believed"
        if entries < self._trusted:
            return f"{self._trusted} proxies are believed, and requests name {entries}: let the proxy name its clients"
        if not entries:
            return "let the proxy add its clients' addresses to X-Forwarded-For, and set this to the number of proxies"
        return "this is right if the address is a client's own: then it is over its limits"
