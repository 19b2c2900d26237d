"""How much a run does, and how contenders take turns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.field import Field
from benchmarks.stats import Results

END_SECONDS = 15.0
"""How long after the last publish a message counts as under way; one that is not there then counts as this late."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much a run does."""

    repetitions: int
    sample_seconds: float
    readers: tuple[int, ...]
    reference_readers: int
    rates: tuple[int, ...]
    acks: int
    read_messages: int
    chat_answers: int
    chat_tokens: int
    reference_answers: int
    fan_out_messages: int
    idle_streams: int
    idle_seconds: float
    idle_topics: int
    storm_readers: int
    idle_topic_seconds: float
    write_seconds: float
    token_streams: tuple[int, ...]
    reference_streams: int
    token_seconds: float
    joining_streams: tuple[int, ...]
    joining_pairs: int


QUICK = Plan(
    repetitions=2,
    sample_seconds=1.5,
    readers=(1, 50),
    reference_readers=50,
    rates=(100,),
    acks=60,
    read_messages=2_000,
    chat_answers=20,
    chat_tokens=500,
    reference_answers=2,
    fan_out_messages=600,
    idle_streams=1_000,
    idle_seconds=3.0,
    idle_topics=50,
    storm_readers=200,
    idle_topic_seconds=5.0,
    write_seconds=1.0,
    token_streams=(10,),
    reference_streams=10,
    token_seconds=2.0,
    joining_streams=(1, 10, 50),
    joining_pairs=1,
)
FULL = Plan(
    repetitions=2,
    sample_seconds=3.0,
    readers=(1, 50, 300, 2_000),
    reference_readers=300,
    rates=(5, 50, 100, 150),
    acks=300,
    read_messages=10_000,
    chat_answers=100,
    chat_tokens=500,
    reference_answers=4,
    fan_out_messages=3_000,
    idle_streams=5_000,
    idle_seconds=6.0,
    idle_topics=1_000,
    storm_readers=1_000,
    idle_topic_seconds=20.0,
    write_seconds=2.5,
    token_streams=(10, 20, 30, 40, 50, 100),
    reference_streams=20,
    token_seconds=4.0,
    joining_streams=(1, 10, 50),
    joining_pairs=2,
)

Measure = Callable[[Field, Plan, Results, int], Awaitable[None]]

T = TypeVar("T")


def turns(contenders: Sequence[T], repetition: int) -> list[T]:
    """Return the contenders, beginning with another one each time."""
    at = repetition % len(contenders)
    return [*contenders[at:], *contenders[:at]]
