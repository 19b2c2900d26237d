"""The memory of all rings together."""

from __future__ import annotations

from restate_pubsub.fanout.observer import NullObserver
from restate_pubsub.fanout.ring_memory import RingMemory


class Watcher(NullObserver):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.total = 0

    def ring_bytes(self, change: int) -> None:
        self.total += change


class Topic:
    """Keeps bytes, in steps of ten."""

    def __init__(self) -> None:
        self.size = 0

    def give_up(self, size: int) -> int:
        self.size = max(self.size - -(-size // 10) * 10, 0)
        return self.size


def grow(memory: RingMemory, topic: Topic, size: int) -> None:
    topic.size += size
    memory.holds(topic, topic.size)


def test_the_least_recently_active_topic_gives_up_first() -> None:
    """And only as much as is needed."""
    watcher = Watcher()
    memory = RingMemory(100, watcher)
    a, b, c = Topic(), Topic(), Topic()
    for topic in (a, b, c):
        grow(memory, topic, 30)
    grow(memory, a, 10)
    assert (a.size, b.size, c.size) == (40, 30, 30)
    grow(memory, c, 5)
    assert (a.size, b.size, c.size) == (40, 20, 35)
    grow(memory, c, 65)
    assert (a.size, b.size, c.size) == (0, 0, 100)
    assert memory.total == watcher.total == 100


def test_a_topic_that_is_gone_takes_its_memory_along() -> None:
    """Also when it has none left."""
    watcher = Watcher()
    memory = RingMemory(100, watcher)
    a, b = Topic(), Topic()
    grow(memory, a, 60)
    grow(memory, b, 90)
    assert (a.size, b.size) == (10, 90)
    memory.forget(a)
    memory.forget(b)
    memory.forget(b)
    assert memory.total == watcher.total == 0
