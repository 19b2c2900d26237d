"""The log's arithmetic, driven by the handlers themselves, against the simplest model there is: a list."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restate_pubsub.protocol.calls import decode_pull_response, encode_append
from restate_pubsub.protocol.messages import Message
from restate_pubsub.topic import log as topic_log
from restate_pubsub.topic import state
from restate_pubsub.topic.handlers import Handlers
from restate_pubsub.topic.log import INLINE_BYTES, PAGE, PAGE_MAX_BYTES, Bounds
from restate_pubsub.topic.memory import MemoryTopic
from restate_pubsub.topic.policy import Policy, Retention
from restate_pubsub.topic.steps import FIRST_READ, TopicOptions
from restate_pubsub.topic.write import stray_keys


class Log:
    """The handlers on a topic in memory, whose calls are run to their end."""

    def __init__(self, retention: Retention = Retention()) -> None:
        self.topic = MemoryTopic()
        self.handlers = Handlers(TopicOptions(policy=Policy(retention=retention)))

    @property
    def bounds(self) -> Bounds:
        return state.decode_topic(self.topic.state.get(state.METADATA_KEY)).bounds

    def call(self, handler: str, argument: bytes | None = None) -> bytes:
        call = self.topic.call(handler, argument)
        self.topic.start(self.handlers, call).to_end()
        assert isinstance(call.outcome, bytes), call.outcome
        return call.outcome

    def append(self, messages: list[Message]) -> None:
        self.call("append", encode_append(messages, close=False))

    def truncate(self, count: int) -> None:
        self.call("truncate", b"%d" % count)

    def rest(self) -> None:
        """Run what was sent."""
        while sent := [*self.topic.inbox, *self.topic.delayed]:
            self.topic.inbox.clear()
            self.topic.delayed.clear()
            for call in sent:
                self.call(call.handler, call.argument)

    def read(self, offset: int, limit: int) -> list[Message]:
        found: list[Message] = []
        while len(found) < limit and offset + len(found) < self.bounds.tail:
            at = offset + len(found)
            answer = self.call("pull", b'{"offset":%d,"limit":%d,"timeout":0}' % (at, limit - len(found)))
            found += decode_pull_response(answer, at).messages
        return found


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


@given(st.lists(STEPS, max_size=12), st.integers(0, 70))
@settings(max_examples=150, deadline=None)
def test_what_was_appended_is_read_back_in_order(steps: list[list[Message] | int], legacy: int) -> None:
    """Through any mix of publishes, batches and truncations, on a topic that another implementation began."""
    log, expected = Log(), [Message(b"%d" % at) for at in range(legacy)]
    if legacy:
        log.topic.state |= {state.message_key(at): message.data for at, message in enumerate(expected)}
        log.topic.state[state.METADATA_KEY] = json.dumps({"head": 0, "tail": legacy}).encode()
    head = 0
    for step in steps:
        before = log.bounds
        if isinstance(step, int):
            head = min(head + step, len(expected))
            log.truncate(step)
        else:
            expected += step
            log.append(step)
        bounds = log.bounds
        assert (head, len(expected)) == (bounds.head, bounds.tail)
        assert before.head <= bounds.head <= bounds.tail
        assert bounds.swept <= bounds.head
        assert expected[head:] == log.read(head, len(expected))
        assert expected[head:][:70] == log.read(head, 70)
        assert sum(map(len, bounds.open_data.values())) <= INLINE_BYTES
        for at, text in bounds.open_data.items():  # what is inlined is in its key as well
            assert text == log.topic.state[state.message_key(at)]
    log.rest()
    live = sum(len(message.data) for message in expected[max(head, legacy) :])
    partly_dropped = sum(len(message.data) for message in expected[max(head // PAGE * PAGE, legacy) : head])
    assert live <= log.bounds.size <= live + partly_dropped
    assert [] == stray_keys(list(log.topic.state), log.bounds)


@given(st.lists(MESSAGES, min_size=1, max_size=300), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_retention_by_count_keeps_exactly_the_newest(messages: list[Message], keep: int) -> None:
    """However they came, the last `keep` messages are there and no others; large ones leave the state at once."""
    log = Log(Retention(messages=keep))
    for message in messages[:100]:
        log.append([message])
    if messages[100:]:
        log.append(messages[100:])
    assert messages[-keep:] == log.read(log.bounds.head, len(messages))
    log.rest()
    assert log.bounds.size <= sum(len(message.data) for message in messages[-keep:]) + PAGE_MAX_BYTES


@given(st.lists(MESSAGES, min_size=1, max_size=300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_retention_by_size_keeps_the_newest_and_comes_under_the_limit(messages: list[Message], at_once: bool) -> None:  # noqa: FBT001
    """The newest message always stays; without further writes the rest fits, give or take a page."""
    limit = PAGE_MAX_BYTES
    log = Log(Retention(size=limit))
    for batch in [messages] if at_once else [[message] for message in messages]:
        log.append(batch)
        bounds = log.bounds
        assert bounds.head < bounds.tail
        assert messages[bounds.head : bounds.tail] == log.read(bounds.head, bounds.tail)
    log.rest()
    assert log.bounds.size <= limit + PAGE_MAX_BYTES


def test_full_pages_are_sealed_into_one_key() -> None:
    """64 single messages end as one page key and no message keys."""
    log = Log()
    for at in range(PAGE):
        log.append([Message(b"%d" % at)])
    assert {"messagesMetadata", "p_0"} == set(log.topic.state)


def test_what_fills_a_page_is_there_before_the_page_is_sealed() -> None:
    """Readers of the 64th message need not wait until the 63 before it are loaded."""
    plan = topic_log.plan_append(Bounds(tail=63, open_sizes={0: 630}), [TEN], {63: "done"})
    assert (range(0), (), (63,)) == (plan.load, plan.pages, plan.keys)
    assert plan.unsealed[0].events == {63: "done"}
    assert sum(plan.unsealed[0].sizes.values()) == 640
    assert plan.later == topic_log.PageWrite(0, 0, 64)


def test_a_large_batch_seals_the_page_it_fills_at_once() -> None:
    """Writing each of its messages to a key, and clearing all of them again, would cost more than the wait."""
    plan = topic_log.plan_append(Bounds(tail=10, open_sizes={0: 100}), [TEN] * 54, {})
    assert (range(10), (topic_log.PageWrite(0, 0, 64),), (), None) == (plan.load, plan.pages, plan.keys, plan.later)


def test_small_messages_fill_a_page_without_being_read_again() -> None:
    """The metadata has them: a token costs no read when its page is sealed, which is at once then."""
    before = topic_log.plan_append(Bounds(), [TEN] * 63, {}).bounds
    assert before.open_data == dict.fromkeys(range(63), TEN)
    plan = topic_log.plan_append(before, [TEN], {})
    assert (plan.pages, plan.keys, plan.later) == ((topic_log.PageWrite(0, 0, 64),), (), None)
    assert plan.bounds.open_data == {}


def test_the_metadata_has_no_more_inline_than_it_may() -> None:
    """What does not fit is left to its key; what comes after it may still fit."""
    large, small = b"x" * (INLINE_BYTES - 5), TEN
    bounds = topic_log.plan_append(Bounds(), [small, large, large, small, small], {}).bounds
    assert bounds.open_data == {0: small, 3: small, 4: small}
    assert bounds.open_sizes == {1: len(large), 2: len(large)}


def test_without_pages_messages_stay_in_keys_of_their_own() -> None:
    """The form that the reference reads."""
    plan = topic_log.plan_append(Bounds(), [TEN] * 200, {}, pages=False)
    assert (plan.pages, plan.later, len(plan.keys)) == ((), None, 200)


def test_a_batch_writes_whole_pages_directly() -> None:
    """A thousand messages are 15 pages and 40 keys, not a thousand keys."""
    plan = topic_log.plan_append(Bounds(), [TEN] * 1000, {})
    assert (len(plan.pages), len(plan.keys)) == (15, 40)


def test_a_page_that_would_be_too_large_stays_in_message_keys() -> None:
    """Restate takes 32 MiB in one value; a page of the largest messages would be 64 MiB."""
    plan = topic_log.plan_append(Bounds(), [b"x" * PAGE_MAX_BYTES] * PAGE, {3: "tool"})
    assert (plan.pages, len(plan.keys)) == ((), PAGE)
    assert plan.unsealed[0].events == {3: "tool"}


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
    assert plan.pages == range(2)


def test_a_batch_that_fills_pages_reads_all_that_it_needs_at_once() -> None:
    """Each look at Restate's state that comes later is a round trip of half a millisecond, paid by every batch."""
    log = Log()
    log.append([Message(b"1")] * 10)
    call = log.topic.call("append", encode_append([Message(b"2")] * 200, close=False))
    log.topic.start(log.handlers, call).to_end()
    names = [entry.command.name for entry in call.journal]
    reads = names.count("get")
    assert reads == len(FIRST_READ) + 1
    assert names[:reads] == ["get"] * reads
