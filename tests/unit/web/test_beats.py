"""The heartbeats of many streams."""

from __future__ import annotations

import asyncio
import time

from restate_pubsub.web import beats as beats_module
from restate_pubsub.web.beats import Beats
from support.waiting import until


class Stream:
    """Notes when it beats."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def beat(self) -> None:
        self.at.append(asyncio.get_running_loop().time())


def hold_up(seconds: float) -> None:
    """Let the loop do nothing for a while."""
    time.sleep(seconds)


async def test_each_stream_beats_in_its_own_time() -> None:
    """The first time after so many seconds, and then again and again, until it is removed."""
    beats, early, late = Beats(0.2), Stream(), Stream()
    began = asyncio.get_running_loop().time()
    beats.add(early)
    await asyncio.sleep(0.1)
    beats.add(late)
    await until(lambda: len(late.at) == 2, "two heartbeats")
    beats.remove(late)
    await until(lambda: len(early.at) == 4, "two more of the other")
    assert 2 == len(late.at)
    assert early.at[0] - began >= 0.2
    assert early.at[3] - began >= 0.8
    assert late.at[0] - began >= 0.3
    beats.remove(early)


async def test_many_that_came_together_do_not_stop_the_loop() -> None:
    """They beat in parts, and something else gets its turn between two."""
    beats, had_beaten = Beats(0.05), []

    class First(Stream):
        def beat(self) -> None:
            super().beat()
            asyncio.get_running_loop().call_soon(lambda: had_beaten.append(sum(bool(one.at) for one in streams)))

    streams: list[Stream] = [First(), *(Stream() for _ in range(10 * beats_module.AT_ONCE))]
    for stream in streams:
        beats.add(stream)
    hold_up(0.05)  # however long it took to add them, all are due when the loop looks
    await until(lambda: all(stream.at for stream in streams), "all to beat")
    assert beats_module.AT_ONCE == had_beaten[0]
    for stream in streams:
        beats.remove(stream)


async def test_a_stream_that_leaves_while_others_beat() -> None:
    """And takes the one with it whose turn comes next."""
    beats, last = Beats(0.05), Stream()

    class Leaving(Stream):
        def beat(self) -> None:
            super().beat()
            beats.remove(self)
            beats.remove(last)

    leaving = Leaving()
    beats.add(leaving)
    beats.add(last)
    await until(lambda: leaving.at, "the heartbeat")
    await asyncio.sleep(0.12)
    assert (1, 0) == (len(leaving.at), len(last.at))
