"""What was written to readers, counted in plain numbers and told when somebody asks.

It happens for every message and reader: prometheus-client's own counters, with a lock each, were half of a delivery's
CPU beside the write itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)


class Deliveries(Collector):
    """Counts on the event loop, and is asked there."""

    def __init__(self, prefix: str) -> None:
        """Names begin with `prefix`."""
        self._prefix = prefix
        self._messages = 0
        self._bytes = 0
        self._lags = [0] * len(LAG_BUCKETS)
        self._seconds = 0.0

    def add(self, messages: int, size: int, lag: float | None) -> None:
        """Count one write to one reader."""
        self._messages += messages
        self._bytes += size
        if lag is not None:
            self._lags[bisect_left(LAG_BUCKETS, lag)] += 1
            self._seconds += lag

    def lags(self) -> list[tuple[float, int]]:
        """Return how many writes took at most so many seconds, for each bound; the last one is infinity."""
        return list(zip(LAG_BUCKETS, accumulate(self._lags), strict=True))

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted."""
        prefix = self._prefix
        yield CounterMetricFamily(f"{prefix}_messages_delivered", "Messages written to readers", self._messages)
        yield CounterMetricFamily(f"{prefix}_bytes_delivered", "Bytes of frames written to readers", self._bytes)
        yield HistogramMetricFamily(
            f"{prefix}_delivery_lag_seconds",
            "From a message's arrival in this process to the end of its write to a reader",
            [(floatToGoString(bound), count) for bound, count in self.lags()],  # type: ignore[no-untyped-call]
            self._seconds,
        )
