"""Deliveries are told as prometheus-client's own counters would tell them."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from restate_pubsub.telemetry.deliveries import LAG_BUCKETS, Deliveries

WRITES = [(2, 100, None), (1, 10, 0.001), (3, 5, 0.0011), (1, 1, 0.0), (1, 1, 10.0), (1, 1, 99.0)]


def test_the_text_is_what_the_library_s_own_counters_give() -> None:
    """Each bound counts what is at most so long, and those without a lag count as messages alone."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    deliveries = Deliveries("p")
    ours.register(deliveries)
    messages = Counter("p_messages_delivered", "Messages written to readers", registry=theirs)
    size = Counter("p_bytes_delivered", "Bytes of frames written to readers", registry=theirs)
    about = "From a message's arrival in this process to the end of its write to a reader"
    lag = Histogram("p_delivery_lag_seconds", about, buckets=LAG_BUCKETS, registry=theirs)
    for count, length, seconds in WRITES:
        deliveries.add(count, length, seconds)
        messages.inc(count)
        size.inc(length)
        if seconds is not None:
            lag.observe(seconds)
    assert generate_latest(theirs) == generate_latest(ours)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 11.0])
def test_the_last_bound_counts_all(seconds: float) -> None:
    """However long it took."""
    deliveries = Deliveries("p")
    deliveries.add(1, 1, seconds)
    assert (math.inf, 1) == deliveries.lags()[-1]
