"""The log's arithmetic, driven as the object drives it, against the simplest model there is: a list."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import log as topic_log
from restate_pubsub.topic import state as stored
from restate_pubsub.topic.log import CARRY_BYTES, PAGE, PAGE_MAX_BYTES, Bounds, Retention


class State:
    """State keys and the object's way with them, without Restate.

    Without `seals`, a write always ends before it seals what it leaves for later, as one does that is killed there.
    """

    def __init__(self, retention: Retention = Retention(), *, seals: bool = True) -> None:
        self.keys: dict[str, bytes] = {}
        self.retention = retention
        self.seals = seals

    @property
    def bounds(self) -> Bounds:
        return stored.decode_bounds(self.keys.get(stored.METADATA_KEY))

    def message(self, at: int, bounds: Bounds) -> bytes:
        """Return one message by itself, from where the object takes it."""
        return bounds.open_data[at] if at in bounds.open_data else self.keys[stored.message_key(at)]

    def _save(self, bounds: Bounds) -> None:
        assert sum(map(len, bounds.open_data.values())) <= CARRY_BYTES
        for at, text in bounds.open_data.items():  # what is carried is in its key as well
            assert text == self.keys[stored.message_key(at)]
        self.keys[stored.METADATA_KEY] = stored.encode_bounds(bounds)

    def append(self, messages: list[Message]) -> None:
        bounds = self.bounds
        first = bounds.tail
        events = {at: m.event for at, m in enumerate(messages, first) if m.event}
        plan = topic_log.plan_append(bounds, [m.data for m in messages], events)
        already = {at: self.message(at, bounds) for at in plan.load}
        for write in plan.pages:
            before = [
                Message(already[at], bounds.open_events.get(at)) for at in range(write.start, min(first, write.stop))
            ]
            after = messages[max(write.start - first, 0) : write.stop - first]
            self.keys[stored.page_key(write.page)] = stored.encode_page(write.start, [*before, *after])
        for at in plan.keys:
            self.keys[stored.message_key(at)] = messages[at - first].data
        for page, about in plan.loose.items():
            self.keys[stored.loose_key(page)] = stored.encode_loose(about)
        for at in plan.load:
            del self.keys[stored.message_key(at)]
        self.sweep(topic_log.retained(plan.bounds, self.retention), 2 + len(plan.pages))
        if self.seals and plan.later is not None and self.bounds.swept < plan.later.stop:
            self.seal(plan.later, plan.loose[plan.later.page])

    def seal(self, write: topic_log.PageWrite, about: topic_log.LoosePage) -> None:
        offsets = range(max(write.start, self.bounds.swept), write.stop)
        messages = [Message(self.keys.pop(stored.message_key(at)), about.events.get(at)) for at in offsets]
        self.keys[stored.page_key(write.page)] = stored.encode_page(offsets.start, messages)
        del self.keys[stored.loose_key(write.page)]

    def truncate(self, count: int) -> None:
        self.sweep(topic_log.truncated(self.bounds, self.bounds.head + count), 3)

    def sweep(self, bounds: Bounds, max_pages: int) -> None:
        plan = topic_log.plan_sweep(bounds, self.retention, max_pages)
        page_sizes = {
            page: sum(len(m.data) for m in stored.decode_page(self.keys[stored.page_key(page)])[1])
            if stored.page_key(page) in self.keys
            else stored.decode_loose(self.keys.get(stored.loose_key(page))).size
            for page in plan.pages
        }
        key_sizes = {at: len(self.message(at, bounds)) for at in plan.keys}
        bounds, pages, keys = topic_log.settle(bounds, plan, self.retention, page_sizes, key_sizes)
        for page in pages:
            if self.keys.pop(stored.page_key(page), None) is None:
                self.keys.pop(stored.loose_key(page), None)
                for at in range(max(plan.first, page * PAGE), (page + 1) * PAGE):
                    self.keys.pop(stored.message_key(at), None)
        for at in keys:
            del self.keys[stored.message_key(at)]
        self._save(bounds)

    def read(self, offset: int, limit: int) -> list[Message]:
        plan = topic_log.plan_read(self.bounds, offset, limit)
        found: list[Message] = []
        at = plan.start
        for page in plan.pages:
            stop = min((page + 1) * PAGE, plan.stop)
            value = self.keys.get(stored.page_key(page))
            if value is not None:
                first, messages = stored.decode_page(value)
                found += messages[at - first : stop - first]
            else:
                events = stored.decode_loose(self.keys.get(stored.loose_key(page))).events
                found += [Message(self.keys[stored.message_key(o)], events.get(o)) for o in range(at, stop)]
            at = stop
        bounds = self.bounds
        return found + [Message(self.message(o, bounds), bounds.open_events.get(o)) for o in plan.keys]


TEN = b"x" * 10
MESSAGES = st.builds(
    Message,
    data=st.one_of(
        st.integers().map(lambda n: json.dumps(n).encode()),
        st.just(b'"' + b"x" * (PAGE_MAX_BYTES // 40) + b'"'),  # 40 of them do not fit in one page
    ),
    event=st.one_of(st.none(), st.sampled_from(["tool", "done"])),
)
STEPS = st.one_of(
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.tuples(MESSAGES, st.integers(1, 200)).map(lambda pair: [pair[0]] * pair[1]),
    st.integers(0, 150),
)


@given(st.lists(STEPS, max_size=12), st.integers(0, 70), st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_was_appended_is_read_back_in_order(steps: list[list[Message] | int], legacy: int, seals: bool) -> None:  # noqa: FBT001
    """Through any mix of publishes, batches and truncations, on a topic that another implementation began."""
    state, log = State(seals=seals), [Message(b"%d" % at) for at in range(legacy)]
    if legacy:
        state.keys = {stored.message_key(at): message.data for at, message in enumerate(log)}
        state.keys[stored.METADATA_KEY] = json.dumps({"head": 0, "tail": legacy}).encode()
    head = 0
    for step in steps:
        before = state.bounds
        if isinstance(step, int):
            head = min(head + step, len(log))
            state.truncate(step)
        else:
            log += step
            state.append(step)
        bounds = state.bounds
        assert (head, len(log)) == (bounds.head, bounds.tail)
        assert before.head <= bounds.head <= bounds.tail
        assert before.tail <= bounds.tail
        assert bounds.swept <= bounds.head
        assert log[head:] == state.read(head, len(log))
        assert log[head:][:70] == state.read(head, 70)
    while topic_log.plan_sweep(state.bounds, Retention(), 3):
        state.sweep(state.bounds, 3)
    live = sum(len(m.data) for m in log[max(head, legacy) :])
    partly_dropped = sum(len(m.data) for m in log[max(head // PAGE * PAGE, legacy) : head])
    assert live <= state.bounds.size <= live + partly_dropped
    gone = [key for key in state.keys if key.startswith("m_") and int(key[2:]) < head // PAGE * PAGE]
    assert gone == []


@given(st.lists(MESSAGES, min_size=1, max_size=300), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_retention_by_count_keeps_exactly_the_newest(messages: list[Message], keep: int) -> None:
    """However they came, the last `keep` messages are there and no others."""
    state = State(Retention(messages=keep))
    for message in messages[:100]:
        state.append([message])
    if messages[100:]:
        state.append(messages[100:])
    expected = messages[-keep:]
    assert expected == state.read(state.bounds.head, len(messages))


@given(st.lists(MESSAGES, min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_retention_by_size_keeps_the_newest_and_settles_under_the_limit(messages: list[Message]) -> None:
    """The newest message always stays; after enough writes the rest fits, give or take the page that is written."""
    limit = PAGE_MAX_BYTES
    state = State(Retention(size=limit))
    for message in messages:
        state.append([message])
        bounds = state.bounds
        assert bounds.head < bounds.tail
        assert messages[bounds.head : bounds.tail] == state.read(bounds.head, bounds.tail)
    assert state.bounds.size <= limit + PAGE_MAX_BYTES + PAGE_MAX_BYTES // 40 + 2


def test_full_pages_are_sealed_into_one_key() -> None:
    """64 single messages end as one page key and no message keys."""
    state = State()
    for at in range(PAGE):
        state.append([Message(b"%d" % at)])
    assert {"messagesMetadata", "p_0"} == set(state.keys)


def test_what_fills_a_page_is_there_before_the_page_is_sealed() -> None:
    """Readers of the 64th message need not wait until the 63 before it are loaded."""
    plan = topic_log.plan_append(Bounds(tail=63, open_bytes=630), [TEN], {63: "done"})
    assert (range(0), (), (63,)) == (plan.load, plan.pages, plan.keys)
    assert plan.loose == {0: topic_log.LoosePage(640, {63: "done"})}
    assert plan.later == topic_log.PageWrite(0, 0, 64)


def test_a_large_batch_seals_the_page_it_fills_at_once() -> None:
    """Writing each of its messages to a key, and clearing all of them again, would cost more than the wait."""
    plan = topic_log.plan_append(Bounds(tail=10, open_bytes=100), [TEN] * 54, {})
    assert (range(10), (topic_log.PageWrite(0, 0, 64),), (), None) == (plan.load, plan.pages, plan.keys, plan.later)


def test_small_messages_fill_a_page_without_being_read_again() -> None:
    """The metadata carries them: a token costs no read when its page is sealed, which is at once then."""
    before = topic_log.plan_append(Bounds(), [TEN] * 63, {}).bounds
    assert before.open_data == dict.fromkeys(range(63), TEN)
    plan = topic_log.plan_append(before, [TEN], {})
    assert (plan.pages, plan.keys, plan.later) == ((topic_log.PageWrite(0, 0, 64),), (), None)
    assert plan.bounds.open_data == {}


def test_the_metadata_carries_no_more_than_it_may() -> None:
    """What does not fit is left to its key; what comes after it may still fit."""
    large, small = b"x" * (CARRY_BYTES - 5), TEN
    bounds = topic_log.plan_append(Bounds(), [small, large, large, small, small], {}).bounds
    assert bounds.open_data == {0: small, 3: small, 4: small}


def test_a_batch_writes_whole_pages_directly() -> None:
    """A thousand messages are 15 pages and 40 keys, not a thousand keys."""
    plan = topic_log.plan_append(Bounds(), [TEN] * 1000, {})
    assert (len(plan.pages), len(plan.keys)) == (15, 40)


def test_a_page_that_would_be_too_large_stays_in_message_keys() -> None:
    """Restate takes 32 MiB in one value; a page of the largest messages would be 64 MiB."""
    plan = topic_log.plan_append(Bounds(), [b"x" * PAGE_MAX_BYTES] * PAGE, {3: "tool"})
    assert (plan.pages, len(plan.keys)) == ((), PAGE)
    assert plan.loose[0].events == {3: "tool"}


def test_an_emptied_topic_keeps_its_counter() -> None:
    """An offset never means two messages."""
    bounds = topic_log.emptied(Bounds(head=3, tail=70, closed=True, size=9))
    assert (bounds.head, bounds.tail, bounds.closed, bounds.size) == (70, 70, False, 0)


@pytest.mark.parametrize(("count", "head"), [(0, 2), (1, 3), (100, 10)])
def test_truncation_drops_what_there_is_and_no_more(count: int, head: int) -> None:
    """More than there are drops all."""
    assert head == topic_log.truncated(Bounds(head=2, tail=10), 2 + count).head


def test_truncating_a_million_messages_is_paid_in_parts() -> None:
    """One write looks at as many pages as it is allowed, however much is owed."""
    bounds = topic_log.truncated(Bounds(tail=1_000_000, size=1), 1_000_000)
    plan = topic_log.plan_sweep(bounds, Retention(), 2)
    assert plan.pages == (0, 1)
