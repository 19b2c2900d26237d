"""Who waits for a topic's news, and what each is told. Pure: no I/O, no Restate.

An entry is a pull that waits: its offset, its awakeable, and its subscriber if it gave one. A replica of this service
names itself (`protocol.peers.Subscriber`), pulls from the tail of its feed, and takes news that begin later, since it
knows what it has. A pull without a name is given exactly the messages from its offset on, or is told to look.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from restate_pubsub.protocol.calls import Subscription
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.peers import Subscriber
from restate_pubsub.topic.log import Bounds

MAX_WAITING = 1000
"""Pulls that one topic keeps waiting. Beyond, the oldest is told to look, and asks again."""

NEWS_BYTES = 64 * 1024
NEWS_MESSAGES = 4096
"""No more of the news is copied into the answer to each of those who wait; the rest they read themselves."""

AWAKEABLE = re.compile(r"(?:sign|prom)_1[A-Za-z0-9_-]{37}[AQgw]")
"""The ids that Restate can resolve: its prefix and 28 bytes in base64, whose last letter has four bits that are zero.

Any other fails the call that resolves it, for ever."""


class Answer(NamedTuple):
    """What a waiting pull is told."""

    id: str
    news: Batch


@dataclass(frozen=True, slots=True)
class Told:
    """Who is answered, and who goes on waiting."""

    answers: Sequence[Answer]
    waiting: Sequence[Subscription]


def is_awakeable(text: str) -> bool:
    """Whether `text` can be the id of an awakeable."""
    return AWAKEABLE.fullmatch(text) is not None


def announced(waiting: Sequence[Subscription], news: Batch, takers: Collection[str] = ()) -> Told:
    """Tell everybody of a write, a close, or a head that has moved.

    The pulls of `takers`, the marks of the replicas to which the write hands its news, go on waiting, write after
    write; at the end of a topic nobody waits any more.
    """
    answers: list[Answer] = []
    left: list[Subscription] = []
    for entry in waiting:
        if not news.closed and entry.subscriber is not None and Subscriber.read(entry.subscriber).mark in takers:
            left.append(entry)
        elif (told := _news_for(entry, news)) is not None:
            answers.append(Answer(entry.id, told))
        else:
            left.append(entry)
    return Told(answers, left)


def overdue(waiting: Sequence[Subscription], bounds: Bounds, executor: str = "") -> Told:
    """Tell those whom a killed write may have left waiting: every replica, and whoever has missed something.

    The pull of `executor`, the mark of the replica that runs this and knows it already, goes on waiting.
    """
    answers: list[Answer] = []
    left: list[Subscription] = []
    for entry in waiting:
        if executor and entry.subscriber and not bounds.closed and Subscriber.read(entry.subscriber).mark == executor:
            left.append(entry)
        elif entry.subscriber is not None or entry.offset < bounds.tail or bounds.closed:
            answers.append(Answer(entry.id, _look(entry, bounds)))
        else:
            left.append(entry)
    return Told(answers, left)


def subscribed(waiting: Sequence[Subscription], wanted: Subscription, bounds: Bounds) -> Told:
    """Take in one who is to wait, or take one out.

    Whom it replaces is told to look, and so is whoever is crowded out: none is left to its timeout.
    """
    kept = [entry for entry in waiting if not _replaces(wanted, entry)]
    ended = [entry for entry in waiting if _replaces(wanted, entry) and entry.id != wanted.id]
    answers = [Answer(entry.id, _look(entry, bounds)) for entry in ended]
    if not wanted.cancel:
        kept.append(Subscription(wanted.offset, wanted.id, wanted.subscriber))
    answers += [Answer(entry.id, _look(entry, bounds)) for entry in kept[:-MAX_WAITING]]
    return Told(answers, kept[-MAX_WAITING:])


def _replaces(wanted: Subscription, entry: Subscription) -> bool:
    if wanted.cancel and wanted.id:
        return entry.id == wanted.id
    return wanted.subscriber is not None and entry.subscriber == wanted.subscriber


def _look(entry: Subscription, bounds: Bounds) -> Batch:
    """Return news without messages: its pull looks for itself what there is."""
    closed = bounds.closed and entry.offset >= bounds.tail
    return Batch(entry.offset, (), entry.offset, closed=closed, head=bounds.head)


def _news_for(entry: Subscription, news: Batch) -> Batch | None:
    """Return what of the news goes to one who waits; None if nothing does."""
    look = replace(news, offset=entry.offset, messages=(), next_offset=entry.offset)
    beyond = entry.offset > news.next_offset or (entry.offset == news.next_offset and bool(news.messages))
    if beyond or (entry.subscriber is None and entry.offset == news.next_offset):
        # A reader's offset never goes back: one who waits beyond the tail is only ever told of the end.
        return look if news.closed else None
    if entry.subscriber is None and entry.offset < news.offset:
        return replace(look, closed=False)  # it has not seen what came before: a killed write told nobody of that
    if entry.subscriber is None:
        skip = entry.offset - news.offset
        news = replace(news, offset=entry.offset, messages=news.messages[skip:], head=None)
    return _bounded(news)


def _bounded(news: Batch) -> Batch:
    """Return the first messages of the news, as many as are copied; none where the first is large already."""
    count = total = 0
    for message in news.messages[:NEWS_MESSAGES]:
        total += len(message.data)
        if total > NEWS_BYTES:
            break
        count += 1
    if count == len(news.messages):
        return news
    return replace(news, messages=news.messages[:count], next_offset=news.offset + count, closed=False)
