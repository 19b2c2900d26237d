"""Prometheus metrics on a registry that is passed in. No label ever holds a topic, a client or a token.

`docs/metrics.md` is made from the collectors here, so what is exported is what is documented.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from restate_pubsub.telemetry.deliveries import Deliveries

if TYPE_CHECKING:
    from restate_pubsub.fanout.observer import By

PREFIX = "restate_pubsub"
LOST = ("reset", "timeout", "unreachable", "other")
PULL_OUTCOMES = ("messages", "timeout", "gone", "unavailable", "error")


class Metrics:
    """The collectors; it is the hub's `Observer`, and the peers'."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all collectors, each series that is known at zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
        self.registry = registry
        # Its file descriptors are what limits open streams; its CPU and memory are what one looks at first.
        ProcessCollector(registry=registry)
        self._streams = Gauge(f"{PREFIX}_streams", "Open streams", registry=registry)
        self._most = Gauge(f"{PREFIX}_streams_limit", "Most open streams that this process takes", registry=registry)
        self._topics = Gauge(f"{PREFIX}_topics", "Topics that this process follows", registry=registry)
        self._streams_total = Counter(f"{PREFIX}_streams_opened", "Streams opened", registry=registry)
        self._deliveries = Deliveries(PREFIX)
        registry.register(self._deliveries)
        self._arrived = Counter(
            f"{PREFIX}_messages_arrived",
            "Messages that came to a topic's feed: straight from a write in this process (local) or in another replica "
            "(peer), or by a pull",
            ["by"],
            registry=registry,
        )
        self._pulls = Counter(
            f"{PREFIX}_pulls", "Feeds' pulls from Restate, by outcome", ["outcome"], registry=registry
        )
        self._catchup = Counter(
            f"{PREFIX}_catchup_reads", "Reads for readers that were behind the ring", registry=registry
        )
        self._catchup_messages = Counter(f"{PREFIX}_catchup_messages", "Messages of such reads", registry=registry)
        self._resets = Counter(f"{PREFIX}_resets", "Readers told that their place is gone", registry=registry)
        self._slow = Counter(f"{PREFIX}_slow_readers", "Readers cut off because they took nothing", registry=registry)
        self._uncertain = Counter(
            f"{PREFIX}_suspected_writes",
            "Writes cut off before local delivery; the feed asked Restate",
            registry=registry,
        )
        self._ring = Gauge(
            f"{PREFIX}_ring_bytes",
            "Bytes of messages in memory, catch-up pages included",
            registry=registry,
        )
        self._published = Counter(
            f"{PREFIX}_messages_published",
            "Messages that the object appended, by handler",
            ["handler"],
            registry=registry,
        )
        self._writes = Counter(f"{PREFIX}_writes", "Appends of the object, by handler", ["handler"], registry=registry)
        self._refused = Counter(
            f"{PREFIX}_refused", "Requests refused, by the code in the answer", ["code"], registry=registry
        )
        self._key_fetches = Counter(
            f"{PREFIX}_token_key_fetches",
            "Fetches of the keys at PUBSUB_JWKS_URL, by outcome",
            ["outcome"],
            registry=registry,
        )
        self._lost = Counter(
            f"{PREFIX}_connections_lost",
            "Connections whose client vanished, by what the system said: reset, timeout, unreachable or other",
            ["error"],
            registry=registry,
        )
        self._idle = Counter(
            f"{PREFIX}_connections_idle_closed", "Connections closed because they did nothing", registry=registry
        )
        self._ready = Gauge(
            f"{PREFIX}_ready", "1 when a call through Restate reaches this deployment's object", registry=registry
        )
        self._not_ready = Gauge(
            f"{PREFIX}_not_ready", "1 for the code of what is wrong while not ready", ["code"], registry=registry
        )
        self._blocked = Gauge(
            f"{PREFIX}_blocked_topics", "Topics whose writes wait behind one that is stuck", registry=registry
        )
        self._sees_blocked = Gauge(
            f"{PREFIX}_admin_reachable",
            "1 when Restate's admin API answers, which tells all blocked topics; 0: only those read here are found",
            registry=registry,
        )
        self._slow_writes = Counter(
            f"{PREFIX}_slow_writes", "Writes over HTTP that waited for Restate for over 5 s", registry=registry
        )
        self._peers = Gauge(
            f"{PREFIX}_peers_connected", "Other replicas that this one hands its news to directly", registry=registry
        )
        self._peer_news = Counter(
            f"{PREFIX}_peer_news",
            "Writes here whose news went to another replica directly, or fell back to its pull",
            ["outcome"],
            registry=registry,
        )
        self._peers_refused = Counter(
            f"{PREFIX}_peers_refused",
            "Connections between replicas that were refused: an address that PUBSUB_PEERS does not allow, another "
            "replica than the one sought, a proof that is not good",
            ["reason"],
            registry=registry,
        )
        info = Gauge(f"{PREFIX}_build_info", "Versions, in labels; always 1", ["version", "sdk"], registry=registry)
        info.labels(version=version("restate-pubsub"), sdk=version("restate-sdk")).set(1)
        for code in ("invalid-request", "token-keys-unavailable"):
            self._refused.labels(code=code)
        for outcome in ("fetched", "failed"):
            self._key_fetches.labels(outcome=outcome)
        for error in LOST:
            self._lost.labels(error=error)
        for outcome in PULL_OUTCOMES:
            self._pulls.labels(outcome=outcome)
        for handler in ("publish", "append", "stop", "ask", "answer", "withdraw"):
            self._published.labels(handler=handler)
            self._writes.labels(handler=handler)
        for outcome in ("handed_over", "fell_back"):
            self._peer_news.labels(outcome=outcome)
        for reason in ("address", "name", "proof"):
            self._peers_refused.labels(reason=reason)
        self._wrong: dict[str, Gauge] = {}
        ways: tuple[By, ...] = ("local", "peer", "pull")
        self._by = {by: self._arrived.labels(by=by) for by in ways}

    def takes(self, streams: int) -> None:
        """Say how many streams there may be."""
        self._most.set(streams)

    def stream_opened(self) -> None:
        """One more reader."""
        self._streams.inc()
        self._streams_total.inc()

    def stream_closed(self) -> None:
        """One reader less."""
        self._streams.dec()

    def topic_opened(self) -> None:
        """One more feed."""
        self._topics.inc()

    def topic_closed(self) -> None:
        """One feed less."""
        self._topics.dec()

    def delivered(self, messages: int, size: int, lag: float | None) -> None:
        """Messages were written to one reader."""
        self._deliveries.add(messages, size, lag)

    def arrived(self, messages: int, *, by: By) -> None:
        """Messages came to a feed."""
        self._by[by].inc(messages)

    def pulled(self, outcome: str) -> None:
        """A pull ended."""
        self._pulls.labels(outcome=outcome).inc()

    def caught_up(self, messages: int) -> None:
        """Messages were read again for readers behind the ring."""
        self._catchup.inc()
        self._catchup_messages.inc(messages)

    def was_reset(self) -> None:
        """A reader's place was gone."""
        self._resets.inc()

    def delivery_uncertain(self) -> None:
        """A write may not have been delivered here."""
        self._uncertain.inc()

    def handed_over(self) -> None:
        """News went to a peer."""
        self._peer_news.labels(outcome="handed_over").inc()

    def fell_back(self) -> None:
        """A peer's pull is answered instead."""
        self._peer_news.labels(outcome="fell_back").inc()

    def peer_refused(self, reason: str) -> None:
        """A connection between replicas was refused."""
        self._peers_refused.labels(reason=reason).inc()

    def peers_connected(self, change: int) -> None:
        """One more peer is connected, or one less."""
        self._peers.inc(change)

    def ring_bytes(self, change: int) -> None:
        """What is kept of messages grew or shrank."""
        self._ring.inc(change)

    def slow_reader(self) -> None:
        """A reader was cut off."""
        self._slow.inc()

    def wrote(self, handler: str, messages: int) -> None:
        """The object appended messages."""
        self._writes.labels(handler=handler).inc()
        self._published.labels(handler=handler).inc(messages)

    def refused(self, code: str) -> None:
        """A request was refused."""
        self._refused.labels(code=code).inc()

    def keys_fetched(self, *, worked: bool) -> None:
        """The keys that verify tokens were asked for."""
        self._key_fetches.labels(outcome="fetched" if worked else "failed").inc()

    def connection_lost(self, error: str) -> None:
        """A client vanished."""
        self._lost.labels(error=error).inc()

    def connection_idle(self) -> None:
        """A connection did nothing for too long."""
        self._idle.inc()

    def may_be_wrong(self, codes: Iterable[str]) -> None:
        """Say which codes `looked` may bring."""
        for code in codes:
            self._wrong[code] = self._not_ready.labels(code=code)

    def looked(self, code: str | None, ready: bool) -> None:  # noqa: FBT001 - a callback
        """Readiness as it was last found, and the code of what is wrong."""
        self._ready.set(ready)
        for name, gauge in self._wrong.items():
            gauge.set(name == code)

    def blocked(self, topics: int, *, admin_reachable: bool) -> None:
        """So many topics are blocked, as far as can be known."""
        self._sees_blocked.set(admin_reachable)
        self._blocked.set(topics)

    def slow_write(self) -> None:
        """A write over HTTP waits."""
        self._slow_writes.inc()

    def figures(self) -> dict[str, Any]:
        """Return every metric by its name without prefix, label values after a dot; and the delivery lag.

        That is `{"le": [seconds…], "count": [n…]}`: so many deliveries took at most so long. The last bound is
        null, for all of them.
        """
        values: dict[str, float] = {}
        for metric in self.registry.collect():
            if metric.type != "histogram" and metric.name != f"{PREFIX}_build_info":
                for sample in metric.samples:
                    values[".".join([sample.name.removeprefix(f"{PREFIX}_"), *sample.labels.values()])] = sample.value
        lags = self._deliveries.lags()
        bounds = [None if math.isinf(bound) else bound for bound, _ in lags]
        return {"figures": values, "deliveryLag": {"le": bounds, "count": [count for _, count in lags]}}


def reference() -> str:
    """Return the metrics as Markdown: name, type, labels, meaning."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in Metrics(CollectorRegistry()).registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        lines.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(lines) + "\n"
