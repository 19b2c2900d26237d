"""News that overtake those they follow."""

from __future__ import annotations

import asyncio

import pytest

from restate_pubsub.fanout import early as early_module
from restate_pubsub.fanout.early import MOST_EARLY, Early
from restate_pubsub.fanout.window import Learnt
from restate_pubsub.protocol.messages import Batch, Message
from support.waiting import until


class Feed:
    """Takes batches in order."""

    def __init__(self) -> None:
        self.at = 0
        self.pulls = 0
        self.early = Early(self.learn, self.pull)

    def learn(self, batch: Batch, _by: str = "peer") -> Learnt:
        if batch.offset > self.at:
            return Learnt(gap=True)
        self.at = max(self.at, batch.next_offset)
        self.early.go_on()
        return Learnt(changed=True)

    def pull(self) -> None:
        self.pulls += 1


def batch(offset: int) -> Batch:
    return Batch(offset, (Message(b"1"),), offset + 1)


async def test_what_came_early_is_taken_in_its_turn() -> None:
    """Nothing is pulled."""
    feed = Feed()
    for at in (2, 1, 3):
        feed.early.keep(batch(at), "peer")
    feed.learn(batch(0))
    assert feed.at == 4
    await asyncio.sleep(2 * early_module.EARLY_SECONDS)
    assert not feed.pulls


async def test_what_does_not_come_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment; what came early comes with it."""
    monkeypatch.setattr(early_module, "EARLY_SECONDS", 0.001)
    feed = Feed()
    feed.early.keep(batch(2), "peer")
    await until(lambda: feed.pulls, "the pull")
    feed.learn(batch(0))
    assert feed.at == 1


async def test_little_is_kept() -> None:
    """Whoever sends without order is not waited for."""
    feed = Feed()
    for at in range(1, MOST_EARLY + 2):
        feed.early.keep(batch(at + 1), "peer")
    assert feed.pulls == 1


async def test_some_of_it_may_be_taken() -> None:
    """The rest goes on waiting."""
    feed = Feed()
    for at in (1, 4):
        feed.early.keep(batch(at), "peer")
    feed.learn(batch(0))
    assert feed.at == 2
    feed.learn(batch(2))
    feed.learn(batch(3))
    assert feed.at == 5
    feed.early.stop()
