"""What must hold, written once: at every moment, and when everything has come to rest. See docs/guarantee.md."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from restate_pubsub.errors import PullTimeout
from restate_pubsub.protocol import calls
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import remembered, state
from restate_pubsub.topic.log import PAGE, SMALL, Bounds
from restate_pubsub.topic.memory import MemoryContext, MemoryTopic
from restate_pubsub.topic.write import stray_keys
from simulation.world import FAR, FULL, Reader, World, Written


def watch(world: World) -> None:
    """Check after every command what must hold at every moment: whoever reads now reads what was acknowledged.

    A world that has lived before is looked at once, and from then on.
    """
    bounds = Bounds()

    def check(key: str) -> None:
        nonlocal bounds
        before = bounds
        kind, _, number = key.partition("_")
        if key == state.METADATA_KEY:
            bounds = state.decode_topic(world.topic.state.get(state.METADATA_KEY)).bounds
            assert (before.head, before.tail) <= (bounds.head, bounds.tail), "the head or the tail went back"
            if bounds.closed:
                world.ends.add(bounds.tail)
            world.tail = bounds.tail
            read(world, bounds, bounds.head, 1)
            read(world, bounds, before.tail, FAR)
        elif kind == "m":
            read(world, bounds, int(number), 1)
        elif kind in ("p", "e"):
            read(world, bounds, int(number) * PAGE, PAGE)

    world.after = check
    if state.METADATA_KEY in world.topic.state:
        check(state.METADATA_KEY)


def read(world: World, bounds: Bounds, start: int, count: int) -> list[Message]:
    """Read messages as a pull does, and compare them with what stood there before."""
    at, stop = max(start, bounds.head), min(start + count, bounds.tail)
    found: list[Message] = []
    while at < stop:
        copy = MemoryTopic(world.topic.name)
        copy.state = world.topic.state
        request = msgspec.json.encode({"offset": at, "limit": stop - at, "timeout": 0})
        call = copy.call("pull", request, exclusive=False)
        copy.start(world.replicas[0].handlers, call).to_end()
        assert isinstance(call.outcome, bytes), f"the log cannot be read at {at}: {call.outcome}"
        messages = calls.decode_pull_response(call.outcome, at).messages
        for offset, message in enumerate(messages, at):
            known = world.log.setdefault(offset, message)
            assert known == message, f"message {offset} was {known} and is {message}"
        if FULL or stop - start > 1:  # a message by itself has nothing to be joined with
            world.checks += 1  # the two answer alike, and are looked at in turns
            _joined_is_the_same(world, copy, at, messages, ("pull", "history")[world.checks % 2])
        found += messages
        at += len(messages)
    return found


def _joined_is_the_same(world: World, copy: MemoryTopic, start: int, messages: Sequence[Message], handler: str) -> None:
    """Compare what a joined reader gets from `start` on, in as many answers as it takes.

    One that asks `history` is handed over what it wants, and asks `pull` where that has nothing for it.
    """
    at, stop = start, start + len(messages)
    replica = world.replicas[0]
    while at < stop:
        asked = {"offset": at, "limit": stop - at, "timeout": 0, "join": True}
        request = msgspec.json.encode(asked | {"subscriber": replica.subscriber, "reading": "word"})
        call = copy.call(handler, request, exclusive=False)
        copy.start(world.replicas[0].handlers, call).to_end()
        if isinstance(call.outcome, PullTimeout) and handler == "history":
            call = copy.call("pull", request, exclusive=False)
            copy.start(world.replicas[0].handlers, call).to_end()
        assert isinstance(call.outcome, bytes), f"the log cannot be read joined at {at}: {call.outcome}"
        batch = calls.decode_pull_response(call.outcome, at)
        if (handed := replica.readings.pop("word", None)) is not None:
            assert batch == Batch(at, [], at, head=handed.head)
            batch = handed
        for index, (place, message) in enumerate(batch.placed()):
            covered = batch.spans.get(index, 1)
            single = messages[place - start : place - start + covered]
            assert len(single) == covered, f"message {place} covers {covered}, and the log has {len(single)}"
            if any(one.event == "restart" for one in single[:-1]):
                single = _left(world, at, place, single)
            assert {one.event for one in single} == {message.event}
            if len(single) > 1:
                texts = [msgspec.json.decode(one.data)["text"] for one in single]
                assert msgspec.json.decode(message.data) == {"text": "".join(texts)}
                assert len({world.writer(one) for one in single}) == 1, f"message {place} is of several writers"
            else:
                assert message == single[0]
        assert batch.next_offset > at
        at = batch.next_offset


def _left(world: World, at: int, place: int, single: Sequence[Message]) -> Sequence[Message]:
    """Return what is left of messages from `place` on, without abandoned attempts, for a reader that began at `at`."""
    left = list(enumerate(single, place))
    for offset, message in list(left):
        if message.event == "restart":
            restart = msgspec.json.decode(message.data)
            assert restart["offset"] >= at, f"a reader that began at {at} has seen some of what {offset} replaces"
            gone = [one for one in left if restart["offset"] <= one[0] < offset]
            assert len({world.writer(one) for _, one in gone}) == 1, f"{offset} replaces one attempt, and no more"
            left = [one for one in left if one[0] > offset or one[0] < restart["offset"]]
    return [one for _, one in left]


def text_of(message: Message) -> object:
    """Return the text of a message, however it was written."""
    data = msgspec.json.decode(message.data)
    return data["text"] if isinstance(data, dict) and "text" in data else data


def at_rest(world: World) -> None:
    """Check what must hold once everything has come to rest."""
    topic = state.decode_topic(world.topic.state.get(state.METADATA_KEY))
    bounds = topic.bounds
    read(world, bounds, bounds.head, bounds.tail)
    for write in world.writes:
        _kept(world, write)
    for reader in world.readers:
        _exact(world, reader, bounds)
    # Of the state: nothing counted that is not there, nothing there that nobody counts, nothing that grows.
    keys = sorted(world.topic.state)
    strays = [key for key in stray_keys(keys, bounds) if key not in _written_over(bounds)]
    assert strays == [], "keys that nobody counts"
    assert state.UNFINISHED_KEY not in keys
    copy = MemoryTopic(world.topic.name)
    copy.state = world.topic.state
    probe = copy.call("probe")
    left = drive(remembered.strays(MemoryContext(copy, probe), topic, keys))
    written_over = state.index_key((topic.streams or (0, 0))[1])
    assert [key for key in left if key != written_over] == [], "streams that the index does not name"
    assert bounds.size == stored_bytes(world), "the bytes that are counted are not those that are there"
    assert len(world.topic.delayed) == 0
    waiting = state.decode_subscriptions(world.topic.state.get(state.SUBSCRIPTION_KEY))
    pulls = {call.waits_for for call in world.shared}
    # A replica that was handed news goes on waiting where it began to; that it has them all was looked at above.
    assert all(entry.offset >= bounds.tail or entry.subscriber is not None for entry in waiting)
    assert not (waiting and bounds.closed)
    assert {entry.id for entry in waiting} <= pulls, "somebody is kept waiting who has gone"
    retention = None if topic.policy is None else topic.policy.retention
    if retention is not None and retention.messages is not None:
        assert bounds.tail - bounds.head <= retention.messages
    if retention is not None and retention.size is not None:
        assert bounds.size <= retention.size + 256 * 1024 + len(world.log[bounds.tail - 1].data)


def stored_bytes(world: World) -> int:
    """Return the bytes of all messages in the state, whatever the metadata says, but for what will be written over."""
    pages = [state.decode_page(raw)[1] for key, raw in world.topic.state.items() if key.startswith("p_")]
    in_pages = sum(len(message.data) for messages in pages for message in messages)
    after = _written_over(Bounds(tail=world.tail))
    keys = [key for key in world.topic.state if key.startswith("m_") and key not in after]
    return in_pages + sum(len(world.topic.state[key]) for key in keys)


def _written_over(bounds: Bounds) -> set[str]:
    """Return the keys that a small write may have left when it was killed: those of the next messages."""
    end = (bounds.tail // PAGE + 1) * PAGE
    return {state.message_key(at) for at in range(bounds.tail, min(bounds.tail + SMALL, end))}


def _kept(world: World, write: Written) -> None:
    """Of a write: who was told that it is there, finds it there, where it was told, and as a whole."""
    outcome = write.call.outcome
    if write.killed or not isinstance(outcome, bytes) or not write.messages or write.stream is not None:
        return
    answer = msgspec.json.decode(outcome)
    assert len(write.messages) == answer["nextOffset"] - answer["offset"]
    for at, message in enumerate(write.messages, answer["offset"]):
        # Retention may have dropped it in the same step: then only those who waited have seen it.
        assert world.log.setdefault(at, message) == message


def _exact(world: World, reader: Reader, bounds: Bounds) -> None:
    """To a reader: each message once, in order; what it missed it was told of."""
    expected = reader.began
    for offset, message in reader.seen:
        if offset != expected:
            told = all(any(at in gone for gone in reader.skipped) for at in range(expected, offset))
            assert told, f"{reader.name}: after {expected - 1} came {offset}"
        known = world.log.get(offset)
        if known is None:  # retention has dropped it in the step that counted it
            assert message.event == "restart" or any(message in write.messages for write in world.writes)
        else:
            assert known == message, f"{reader.name}: {offset} is {known}, it saw {message}"
        expected = offset + 1
    if reader.ended:
        assert reader.at in world.ends, f"{reader.name} was told of an end at {reader.at}"
    else:
        assert not bounds.closed, f"{reader.name} waits for what follows the end"
        assert reader.at == bounds.tail, f"{reader.name} is at {reader.at}, the topic ends at {bounds.tail}"


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of the port to its end."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        return done.value


def streams(world: World, stream: str) -> str:
    """Return the text of a stream as a page shows it: what a `restart` names is dropped."""
    shown: list[tuple[int, str]] = []
    for at in sorted(world.log):
        message = world.log[at]
        data = msgspec.json.decode(message.data)
        if message.event == "restart" and data["id"] == stream:
            shown = [(offset, text) for offset, text in shown if offset < data["offset"]]
        elif message.event is None:
            shown.append((at, str(text_of(message))))
    return "".join(text for _, text in shown)
