"""Who of those who wait is told of a write, and who goes on waiting."""

from __future__ import annotations

from restate_pubsub.protocol.calls import Subscription
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.protocol.peers import Subscriber
from restate_pubsub.topic.log import Bounds
from restate_pubsub.topic.waiters import announced, overdue

NEWS = Batch(5, (Message(b"1"),), 6)
BOUNDS = Bounds(head=0, tail=6)
HERE = Subscriber("here", "http://10.0.0.1:1", "key")
PEER = Subscriber("peer", "http://10.0.0.2:1", "key")


def entry(subscriber: object) -> Subscription:
    return Subscription(5, f"of {subscriber}", None if subscriber is None else str(subscriber))


def journaled(*takers: Subscriber) -> list[str]:
    """Return marks as a write's journal gives them back."""
    return ",".join(taker.mark for taker in takers).split(",")


def test_takers_go_on_waiting_and_all_others_are_told() -> None:
    """Whoever waits has the news either way, once."""
    waiting = [entry(one) for one in (HERE, PEER, "old", None)]
    told = announced(waiting, NEWS, journaled(HERE, PEER))
    assert [answer.id for answer in told.answers] == ["of old", "of None"]
    assert list(told.waiting) == waiting[:2]


def test_everybody_is_told_of_the_end() -> None:
    """Nobody waits for what follows it."""
    told = announced([entry(HERE), entry(PEER)], Batch(5, (), 5, closed=True), journaled(HERE, PEER))
    assert len(told.answers) == 2
    assert not told.waiting


def test_a_name_that_holds_others_names_silences_nobody() -> None:
    """One that has no address is its name alone, and whoever subscribes chooses a name."""
    foe = Subscriber("old,peer here\nold", "http://10.0.0.3:1", "key")
    waiting = [entry("old"), entry("here"), entry(foe)]
    told = announced(waiting, NEWS, journaled(foe))
    assert {answer.id for answer in told.answers} >= {"of old", "of here"}


def test_under_another_s_name_is_somebody_else() -> None:
    """With another address or another key."""
    foes = [PEER._replace(url="http://10.0.0.3:1"), PEER._replace(key="guessed"), Subscriber("peer")]
    for foe in foes:
        told = announced([entry(PEER), entry(foe)], NEWS, journaled(foe))
        assert [answer.id for answer in told.answers] == [f"of {PEER}"]


def test_a_sweep_has_all_look_but_who_runs_it() -> None:
    """That one has been told already, and its pull goes on waiting."""
    waiting = [entry(one) for one in (HERE, PEER, "old", None)]
    told = overdue(waiting, BOUNDS, HERE.mark)
    assert [answer.id for answer in told.answers] == [f"of {PEER}", "of old", "of None"]
    assert list(told.waiting) == waiting[:1]
    assert len(overdue(waiting, BOUNDS).answers) == 4
    assert len(overdue(waiting, Bounds(head=0, tail=6, closed=True), HERE.mark).answers) == 4
