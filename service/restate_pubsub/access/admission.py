"""How much: open streams, topics and publishes, and how fast new ones come, in all and of one client.

Everything is counted in the process; what is over a limit is told when to try again, and costs nobody else
anything. A client is an address (`client_address`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from restate_pubsub.errors import Busy, TooMany

TURN_SECONDS = 5.0
"""How long a new stream may wait for its turn. A browser's EventSource gives up for good on a 429 or 503, so when all
of them come back at once (a rolling update), late is better than refused."""
FULL_RETRY_SECONDS = 10.0
"""Open streams last long: a place is not free the next second."""
TOPICS_AT_ONCE_SECONDS = 20.0
"""So many seconds' worth of new topics come at once, as after a restart those of all who share an address."""
BUCKETS_SWEPT_AT = 4096


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits. Rates are per second."""

    streams: int
    streams_per_client: int
    streams_per_topic: int
    topics: int
    topic_rate_per_client: float
    stream_rate: float
    stream_rate_per_client: float
    publish_rate_per_client: float
    message_rate_per_client: float
    byte_rate_per_client: float


class Bucket:
    """A token bucket that may go into debt: whoever takes from it waits for as long as `take` says."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Start full: `burst` at once, then `rate` a second."""
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def level(self, now: float) -> float:
        """Return how much there is; less than nothing is debt."""
        return min(self.burst, self._level + (now - self._at) * self.rate)

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Return how long the next one, or as many as that, would have to wait; what is full is enough for any."""
        return max(0.0, (min(amount, self.burst) - self.level(now)) / self.rate)

    def debt(self, now: float) -> float:
        """Return how many seconds pay for what was taken too early."""
        return max(0.0, -self.level(now) / self.rate)

    def take(self, now: float, amount: float = 1.0) -> None:
        """Take one, or as much as that."""
        self._level, self._at = self.level(now) - amount, now


class _Buckets:
    """A bucket for each client; those that are full again are forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._of: dict[str, Bucket] = {}
        self._sweep_at = BUCKETS_SWEPT_AT

    def of(self, client: str, now: float) -> Bucket:
        bucket = self._of.get(client)
        if bucket is None:
            if len(self._of) >= self._sweep_at:
                self._of = {name: kept for name, kept in self._of.items() if kept.level(now) < kept.burst}
                self._sweep_at = max(BUCKETS_SWEPT_AT, 2 * len(self._of))  # so that sweeping stays cheap
            bucket = self._of[client] = Bucket(self._rate, self._burst, now)
        return bucket


class Meter:
    """What one publish takes of its client's messages and bytes a second."""

    def __init__(
        self, messages: Bucket, size: Bucket, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """All publishes of a client share the buckets."""
        self._messages = messages
        self._bytes = size
        self._clock = clock
        self._sleep = sleep

    def take(self, *, messages: int = 0, size: int = 0) -> None:
        """Count what came. Nobody waits for it, but the client's next publish is refused until it is paid for."""
        now = self._clock()
        self._messages.take(now, messages)
        self._bytes.take(now, size)

    async def pay(self) -> None:
        """Wait until what was taken is paid for: a body that is under way is slowed down and not refused."""
        now = self._clock()
        if debt := max(self._messages.debt(now), self._bytes.debt(now)):
            await self._sleep(debt)


class Place:
    """One stream's place. It has to be left, or it is taken for ever."""

    __slots__ = ("_admission", "_client", "_topics")

    def __init__(self, admission: Admission, client: str, topics: Sequence[str]) -> None:
        """`Admission.enter` makes them."""
        self._admission: Admission | None = admission
        self._client = client
        self._topics = topics

    def leave(self) -> None:
        """Give it back; once is enough."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.leave(self._client, self._topics)


class Admission:
    """Lets streams and publishes in, and counts them while they last."""

    def __init__(
        self,
        quota: Quota,
        *,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` is the event loop's unless given."""
        self.quota = quota
        self.streams = 0
        self._publishes = 0
        self._clients: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()
        self._publishing: Counter[str] = Counter()
        self._all = Bucket(quota.stream_rate, quota.stream_rate, 0.0)
        self._opening = _Buckets(quota.stream_rate_per_client, quota.stream_rate_per_client)
        self._following = _Buckets(quota.topic_rate_per_client, TOPICS_AT_ONCE_SECONDS * quota.topic_rate_per_client)
        self._publish_rate = _Buckets(quota.publish_rate_per_client, 2 * quota.publish_rate_per_client)
        self._message_rate = _Buckets(quota.message_rate_per_client, quota.message_rate_per_client)
        self._byte_rate = _Buckets(quota.byte_rate_per_client, quota.byte_rate_per_client)
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._sleep = sleep

    async def enter(self, client: str, *topics: str) -> Place:
        """Return a place for one stream of these topics, which holds it until it leaves; waits for its turn first.

        Raises:
            TooMany, Busy: over a limit.

        """
        place = self._place(client, topics)
        try:
            await self._turn(client)
        except BaseException:
            place.leave()
            raise
        return place

    def _place(self, client: str, topics: Sequence[str]) -> Place:
        quota = self.quota
        # The client's own limits come first: who is over them is told so, and takes nothing from the rest.
        if self._clients[client] >= quota.streams_per_client:
            msg = f"{quota.streams_per_client} streams are open from your address, which is the most allowed"
            raise TooMany(msg, code="too-many-streams-of-client", retry_after=FULL_RETRY_SECONDS)
        if any(self._topics[topic] >= quota.streams_per_topic for topic in topics):
            msg = f"{quota.streams_per_topic} streams are open on this topic, which is the most that one process takes"
            raise Busy(msg, code="too-many-streams-of-topic", retry_after=FULL_RETRY_SECONDS)
        if self.streams >= quota.streams:
            msg = f"{quota.streams} streams are open, which is the most that this process takes"
            raise Busy(msg, code="too-many-streams", retry_after=FULL_RETRY_SECONDS)
        self.streams += 1
        self._clients[client] += 1
        self._topics.update(topics)
        return Place(self, client, topics)

    def leave(self, client: str, topics: Sequence[str]) -> None:
        """Give back a place; `Place` does."""
        self.streams -= 1
        _less(self._clients, client)
        for topic in topics:
            _less(self._topics, topic)

    async def new_topics(self, client: str, topics: Callable[[], int], count: int = 1) -> None:
        """Wait until a client may have so many more topics followed; `topics` says how many are.

        Raises:
            TooMany, Busy: over a limit.

        """
        now = self._clock()
        own = self._following.of(client, now)
        waits = own.wait(now, count)
        if waits > TURN_SECONDS:
            msg = f"Your address opens more than {own.rate:g} topics a second that nobody reads yet"
            raise TooMany(msg, code="topic-rate-of-client", retry_after=waits)
        own.take(now, count)
        if waits:
            await self._sleep(waits)
        if topics() + count > self.quota.topics:
            msg = f"{self.quota.topics} topics are followed, which is the most that this process takes"
            raise Busy(msg, code="too-many-topics", retry_after=FULL_RETRY_SECONDS)

    async def _turn(self, client: str) -> None:
        now = self._clock()
        own = self._opening.of(client, now)
        waits = own.wait(now)
        if waits > TURN_SECONDS:
            msg = f"Your address opens more than {own.rate:g} streams a second"
            raise TooMany(msg, code="stream-rate-of-client", retry_after=waits)
        waits = max(waits, self._all.wait(now))
        if waits > TURN_SECONDS:
            msg = f"More than {self._all.rate:g} streams a second are being opened"
            raise Busy(msg, code="stream-rate", retry_after=waits)
        own.take(now)
        self._all.take(now)
        if waits:
            await self._sleep(waits)

    @contextlib.contextmanager
    def publish(self, client: str) -> Iterator[Meter]:
        """Count one publish while the block runs; what it brings is taken from the meter.

        Raises:
            TooMany, Busy: over a limit.

        """
        now = self._clock()
        rate = self._publish_rate.of(client, now)
        meter = self._metered(client, rate, now)
        self._check_publishing(client)
        rate.take(now)
        self._publishes += 1
        self._publishing[client] += 1
        try:
            yield meter
        finally:
            self._publishes -= 1
            _less(self._publishing, client)

    def _metered(self, client: str, rate: Bucket, now: float) -> Meter:
        if (waits := rate.wait(now)) > 0:
            msg = f"Your address publishes more than {rate.rate:g} times a second: send many messages in one request"
            raise TooMany(msg, code="publish-rate-of-client", retry_after=waits)
        messages, size = self._message_rate.of(client, now), self._byte_rate.of(client, now)
        for what, bucket in (("message", messages), ("byte", size)):
            if debt := bucket.debt(now):
                msg = f"Your address publishes more than {bucket.rate:.0f} {what}s a second"
                raise TooMany(msg, code=f"{what}-rate-of-client", retry_after=debt)
        return Meter(messages, size, self._clock, self._sleep)

    def _check_publishing(self, client: str) -> None:
        quota = self.quota
        if self._publishing[client] >= quota.streams_per_client:
            msg = f"{quota.streams_per_client} publishes are under way from your address, which is the most allowed"
            raise TooMany(msg, code="too-many-publishes-of-client", retry_after=1.0)
        if self._publishes >= quota.streams:
            msg = f"{quota.streams} publishes are under way, which is the most that this process takes"
            raise Busy(msg, code="too-many-publishes", retry_after=1.0)


def _less(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]
