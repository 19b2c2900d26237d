"""The log and the readers with spans around what they do: they know nothing of it."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Iterable
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind

from restate_pubsub.errors import PubsubError, PullTimeout
from restate_pubsub.telemetry.tracing.attributes import about, failed

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from restate_pubsub.fanout.observer import By
    from restate_pubsub.fanout.source import Position, Source
    from restate_pubsub.peers.incoming import TakesNews
    from restate_pubsub.protocol.messages import Batch, Place
    from restate_pubsub.topic.steps import Readers


class TracedReaders:
    """Whom a write hands its news: what goes to the readers in this process is a span of the write's trace."""

    def __init__(self, readers: Readers, tracer: Tracer) -> None:
        """Wrap `readers`."""
        self._readers = readers
        self._tracer = tracer

    @property
    def replica(self) -> str:
        """This process's name among all."""
        return self._readers.replica

    def meet(self, subscriber: str) -> None:
        """Somebody pulls, who may be a peer."""
        self._readers.meet(subscriber)

    def opened(self, topic: str, subscriber: str, opening: str, place: Place) -> bool:
        """Tell the topic's position to the replica that opens it."""
        return self._readers.opened(topic, subscriber, opening, place)

    def read(self, subscriber: str, reading: str, batch: Batch) -> bool:
        """Hand what was read to the replica that asked for it."""
        return self._readers.read(subscriber, reading, batch)

    def takers(self, topic: str, waiting: Iterable[str], news: Batch) -> list[str]:
        """Return the marks of the replicas that can be handed the news."""
        return self._readers.takers(topic, waiting, news)

    def deliver(self, topic: str, news: Batch, takers: Collection[str], waiting: Iterable[str]) -> None:
        """Hand durable news to those that are takers."""
        if not trace.get_current_span().get_span_context().is_valid:
            self._readers.deliver(topic, news, takers, waiting)
            return
        with self._tracer.start_as_current_span(
            "deliver topic", kind=SpanKind.CONSUMER, attributes=about("deliver", topic, len(news.messages))
        ):
            self._readers.deliver(topic, news, takers, waiting)

    def expect_tail(self, topic: str, tail: int) -> None:
        """A write ran here that may not have been handed over."""
        self._readers.expect_tail(topic, tail)

    def delivery_uncertain(self, topic: str, takers: Collection[str], waiting: Iterable[str]) -> None:
        """A write was cut off before it was delivered."""
        self._readers.delivery_uncertain(topic, takers, waiting)


class TracedNews:
    """The readers in this process: what a peer hands them belongs to the trace of the write over there."""

    def __init__(self, readers: TakesNews, tracer: Tracer) -> None:
        """Wrap `readers`."""
        self._readers = readers
        self._tracer = tracer

    def followed(self) -> Collection[str]:
        """Return the topics that are read here."""
        return self._readers.followed()

    def deliver(self, topic: str, batch: Batch, by: By) -> None:
        """Take durable news of a topic."""
        if batch.trace:
            _delivered(self._tracer, topic, batch)
        self._readers.deliver(topic, batch, by)

    def delivery_uncertain(self, topic: str) -> None:
        """A write may have happened that was not delivered."""
        self._readers.delivery_uncertain(topic)


class TracedSource:
    """The log: each pull is a trace of its own, since it begins long before there is anything to tell.

    News that another replica has written are handed over in that write's trace, with a link to the pull.
    """

    def __init__(self, source: Source, tracer: Tracer) -> None:
        """Wrap `source`."""
        self._source = source
        self._tracer = tracer

    async def position(self, topic: str) -> Position:
        """Return the topic's bounds now."""
        return await self._source.position(topic)

    async def open(self, topic: str, opening: str, *, wait: float) -> Batch:
        """Wait for news from the topic's tail on, or return its position."""
        return await self._pull(topic, self._source.open(topic, opening, wait=wait))

    async def pull(
        self, topic: str, offset: int, *, limit: int | None = None, wait: float = 0.0, join: bool = False
    ) -> Batch:
        """Return messages from `offset` on, or wait for news up to `wait` seconds."""
        return await self._pull(topic, self._source.pull(topic, offset, limit=limit, wait=wait, join=join))

    async def history(self, topic: str, offset: int, *, limit: int, join: bool, reading: str) -> Batch:
        """Return messages from `offset` on, of a topic that may be read as a whole."""
        return await self._pull(topic, self._source.history(topic, offset, limit=limit, join=join, reading=reading))

    async def _pull(self, topic: str, answer: Coroutine[None, None, Batch]) -> Batch:
        with self._tracer.start_as_current_span(
            "pull topic",
            context=Context(),
            kind=SpanKind.CLIENT,
            attributes=about("pull", topic),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                batch = await answer
            except PubsubError as error:
                if not isinstance(error, PullTimeout):
                    failed(span, error.message)
                raise
            span.set_attribute("messaging.batch.message_count", len(batch.messages))
        if batch.trace:
            _delivered(self._tracer, topic, batch, Link(span.get_span_context()))
        return batch

    async def release(self, topic: str) -> None:
        """Tell the log that nobody here waits for news of the topic any more."""
        await self._source.release(topic)


def _delivered(tracer: Tracer, topic: str, batch: Batch, *links: Link) -> None:
    """Make the span of news that another replica has written, in that write's trace."""
    tracer.start_span(
        "deliver topic",
        context=propagate.extract({"traceparent": batch.trace}, context=Context()),
        kind=SpanKind.CONSUMER,
        attributes=about("deliver", topic, len(batch.messages)),
        links=links,
    ).end()
