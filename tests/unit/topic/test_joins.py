"""What a topic's state says of messages that continue one another, from the handlers' side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest

from restate_pubsub.errors import InvalidRequest, PubsubError, PullTimeout
from restate_pubsub.protocol.calls import StreamRef, decode, decode_pull_response, encode_append
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import state
from restate_pubsub.topic.handlers import Handlers
from restate_pubsub.topic.memory import MemoryTopic
from restate_pubsub.topic.policy import Policy
from restate_pubsub.topic.steps import TopicOptions


class Topic:
    """The handlers on a topic in memory."""

    def __init__(self, *, pages: bool = True) -> None:
        self.topic = MemoryTopic()
        self.sent: Mapping[str, bytes] | None = self.topic.state
        self.handlers = Handlers(TopicOptions(policy=Policy(pages=pages), sent_along=lambda: self.sent))

    def call(self, handler: str, argument: bytes | None = None) -> bytes:
        call = self.topic.call(handler, argument)
        self.topic.start(self.handlers, call).to_end()
        assert isinstance(call.outcome, bytes), call.outcome
        return call.outcome

    def write(
        self, *texts: str, attempt: str | None = None, join: str | None = "text", event: str | None = None
    ) -> None:
        messages = [Message(b'{"text":%b}' % json.dumps(text).encode(), event) for text in texts]
        ref = None if attempt is None else StreamRef("s", attempt, first=True)
        self.call("append", encode_append(messages, close=False, stream=ref, join=join))

    def pull(self, offset: int = 0, *, join: bool = True) -> Batch:
        asked = json.dumps({"offset": offset, "timeout": 0, "join": join}).encode()
        return decode_pull_response(self.call("pull", asked), offset)

    def texts(self, offset: int = 0) -> list[str]:
        return [json.loads(message.data).get("text", "-") for message in self.pull(offset).messages]


def test_tokens_one_by_one_are_read_as_one_message_across_pages() -> None:
    topic = Topic()
    for at in range(200):
        topic.write(f"{at} ")
    batch = topic.pull()
    assert (["".join(f"{at} " for at in range(200))], {0: 200}, 200) == (topic.texts(), batch.spans, batch.next_offset)
    assert ["".join(f"{at} " for at in range(70, 200))] == topic.texts(70)


def test_without_join_every_message_is_read_as_it_was_written() -> None:
    topic, plain = Topic(), Topic()
    for at in range(150):
        topic.write(str(at))
        plain.write(str(at), join=None)
    assert plain.pull(join=False) == topic.pull(join=False) == plain.pull()


def test_what_was_written_without_join_is_not_joined_nor_is_what_follows_it() -> None:
    topic = Topic()
    for join in ("text", None, "text"):
        topic.write("a", "b", join=join)
    assert ["ab", "a", "b", "ab"] == topic.texts()


def test_attempts_and_other_writers_are_never_joined() -> None:
    topic = Topic()
    topic.write("a", attempt="one")
    topic.write("b", attempt="one")
    topic.write("c", attempt="two")  # says restart first
    topic.write("d", attempt="two")
    topic.write("e")
    assert ["b", "-", "cd", "e"] == topic.texts(1)


def test_who_comes_late_is_not_shown_an_attempt_that_was_replaced() -> None:
    """What follows covers its offsets; who has seen some of it is told of the restart."""
    topic = Topic()
    topic.write("?", join=None)
    for attempt in ("one", "two", "three"):
        for text in "ab":
            topic.write(text + attempt, attempt=attempt)
    batch = topic.pull()
    assert ["?", "athreebthree"] == topic.texts()
    assert ({1: 8}, 9) == (batch.spans, batch.next_offset)
    assert ["bone", "-", "athreebthree"] == topic.texts(2)
    assert ["-", "athreebthree"] == topic.texts(3)
    assert ["athreebthree"] == topic.texts(4)
    assert len(topic.pull(join=False).messages) == 9


def test_an_attempt_among_whose_messages_are_others_is_shown_with_its_restart() -> None:
    """Which of the messages are the attempt's, the log does not say then."""
    topic = Topic()
    topic.write("a", attempt="one")
    topic.write("other", join=None)
    topic.write("b", attempt="one")
    topic.write("c", attempt="two")
    assert ["a", "other", "b", "-", "c"] == topic.texts()


def test_an_attempt_is_shown_as_long_as_nothing_follows_its_restart() -> None:
    """Nothing could stand for its offsets."""
    topic = Topic()
    topic.write("a", "b", attempt="one")
    topic.write("c", attempt="two")
    asked = json.dumps({"offset": 0, "limit": 3, "timeout": 0, "join": True}).encode()
    batch = decode_pull_response(topic.call("pull", asked), 0)
    assert ([b'{"text":"ab"}', b'{"id":"s","offset":0,"count":2}'], 3) == (
        [one.data for one in batch.messages],
        batch.next_offset,
    )


def test_events_of_another_name_are_not_joined_and_keep_theirs() -> None:
    topic = Topic()
    topic.write("a", "b", event="thought")
    topic.write(*"c" * 100, event="said")
    assert [("thought", 2), ("said", 100)] == [
        (message.event, topic.pull().spans[index]) for index, message in enumerate(topic.pull().messages)
    ]


def test_a_page_of_tokens_takes_a_quarter_of_the_bytes() -> None:
    topic, plain = Topic(), Topic()
    for one, join in ((topic, "text"), (plain, None)):
        one.write(*["word "] * 6400, join=join)

    def size(of: Topic) -> int:
        return sum(len(raw) for key, raw in of.topic.state.items() if key.startswith("p_"))

    assert size(topic) * 2 < size(plain)


def test_a_page_without_runs_is_as_it_was() -> None:
    topic = Topic()
    topic.write(*["x"] * 64, join=None)
    raw = topic.topic.state[state.page_key(0)]
    assert raw.startswith(b'{"offset":0,"messages":[{"text":"x"},')
    assert b"runs" not in raw
    topic.write(*["x"] * 64, join="other")  # no message has that field
    assert topic.topic.state[state.page_key(1)].startswith(b'{"offset":64,"messages":[')


def test_the_version_before_refuses_a_page_with_runs() -> None:
    """It knows `messages` alone, which it cannot do without."""

    class Page(msgspec.Struct):
        offset: int
        messages: list[msgspec.Raw]
        events: dict[str, str] = {}

    topic = Topic()
    topic.write(*"a" * 128)
    for page in (0, 1):
        with pytest.raises(InvalidRequest, match="page: Object missing required field `messages`"):
            decode(topic.topic.state[state.page_key(page)], Page, "page")


@pytest.mark.parametrize("offset", [0, 63, 64, 100, 127])
@pytest.mark.parametrize("join", [False, True])
def test_a_page_of_a_version_after_this_one_fails_by_name_and_nothing_is_left_out(offset: int, join: bool) -> None:  # noqa: FBT001
    """What comes after it is read."""
    topic = Topic()
    topic.write(*"a" * 150)
    key = state.page_key(1)
    topic.topic.state[key] = topic.topic.state[key].replace(b'"joined"', b'"later"')
    asked = {"offset": offset, "timeout": 0, "join": join}
    call = topic.topic.call("pull", json.dumps(asked).encode())
    topic.topic.start(topic.handlers, call).to_end()
    assert isinstance(call.outcome, PubsubError)
    assert "The page at offset 64 holds neither messages nor runs: another version wrote it" == str(call.outcome)
    assert 22 == sum(topic.pull(128).spans.values())


def test_without_pages_nothing_is_joined_and_unsealing_gives_each_message_its_key() -> None:
    topic = Topic()
    topic.write(*map(str, range(70)))
    topic.handlers = Handlers(TopicOptions(policy=Policy(pages=False)))
    topic.call("unseal", b"{}")
    keys = {key: raw for key, raw in topic.topic.state.items() if key.startswith("m_")}
    assert {f"m_{at}": b'{"text":"%d"}' % at for at in range(70)} == keys
    topic.write("a", "b")
    assert topic.pull(70).spans == {}


def test_deleting_a_topic_ends_what_continues() -> None:
    topic = Topic()
    topic.write("a", "b")
    topic.call("delete")
    topic.write("c", "d")
    assert ["cd"] == topic.texts(2)


def test_a_joined_read_covers_more_offsets_than_it_gives_messages_but_never_gives_more() -> None:
    """A long chat is opened with one call; a topic without runs is read as before."""
    most = Limits().pull_messages
    topic = Topic()
    for text in ("a", "b"):
        topic.write(*[text] * most)
        topic.write("end", join=None)
    assert ["a" * most, "end", "b" * most, "end"] == topic.texts()
    assert len(topic.pull(join=False).messages) == most
    plain = Topic()
    for _ in range(2):
        plain.write(*["a"] * most, join=None)
    assert (most, most) == (len(plain.pull().messages), plain.pull().next_offset)


def whole(topic: Topic) -> bool:
    return bool(json.loads(topic.call("info"))["whole"])


@pytest.mark.parametrize("join", [True, False])
def test_history_is_what_pull_gives(join: bool) -> None:  # noqa: FBT001
    """From every kind of place, and up to the newest message."""
    topic = Topic()
    for at in range(300):
        topic.write(f"{at} ")
    for offset in (0, 63, 64, 200, 256, 299):
        asked = json.dumps({"offset": offset, "timeout": 0, "join": join}).encode()
        assert topic.call("pull", asked) == topic.call("history", asked)
    assert whole(topic)


def test_history_has_what_lies_in_keys_of_its_own() -> None:
    """A page that is full and not sealed yet, and messages too large to be inlined."""
    topic = Topic()
    topic.write(*"a" * 128)
    for _ in range(65):
        topic.write("x" * 5000)
    for offset in (0, 128, 192):
        asked = json.dumps({"offset": offset, "timeout": 0}).encode()
        assert topic.call("pull", asked) == topic.call("history", asked)


class Here:
    """Stands for the readers of one process: takes what is read with the word `waited for`."""

    def __init__(self) -> None:
        self.taken: Batch | None = None

    def read(self, subscriber: str, reading: str, batch: Batch) -> bool:
        if (subscriber, reading) != ("here", "waited for"):
            return False
        self.taken = batch
        return True


@pytest.mark.parametrize(
    ("subscriber", "reading"), [("here", "waited for"), ("here", "given up"), ("there", "waited for")]
)
def test_history_hands_over_what_is_waited_for_in_its_own_process(subscriber: str, reading: str) -> None:
    """The answer says nothing more then; else it is the same."""
    topic, here = Topic(), Here()
    topic.write(*"abc")
    topic.handlers.options = replace(topic.handlers.options, readers=here)  # type: ignore[arg-type]
    asked = {"offset": 1, "limit": 9, "subscriber": subscriber, "join": True}
    expected = decode_pull_response(topic.call("history", json.dumps(asked).encode()), 1)
    assert [Message(b'{"text":"bc"}')] == expected.messages
    found = decode_pull_response(topic.call("history", json.dumps(asked | {"reading": reading}).encode()), 1)
    if (subscriber, reading) == ("here", "waited for"):
        assert expected == here.taken
        assert Batch(1, [], 1, head=0) == found
    else:
        assert expected == found
        assert here.taken is None


@pytest.mark.parametrize("offset", [0, 9], ids=["not all of it came", "nothing yet"])
def test_history_says_that_pull_is_to_be_asked(offset: int) -> None:
    topic = Topic()
    topic.write(*"a" * 9)
    if offset == 0:
        topic.sent = None
    call = topic.topic.call("history", b'{"offset":%d}' % offset)
    topic.topic.start(topic.handlers, call).to_end()
    assert isinstance(call.outcome, PullTimeout)
    assert "ask pull" in call.outcome.message
    assert call.journal == []


def test_nobody_is_told_to_ask_history_where_the_endpoint_does_not_hear_what_comes_along() -> None:
    topic = Topic()
    topic.write("a")
    assert whole(topic)
    topic.handlers = Handlers(TopicOptions())
    assert not whole(topic)


def test_a_topic_is_not_sent_along_that_is_large_or_has_no_pages() -> None:
    large, keys, counted, foreign = Topic(), Topic(pages=False), Topic(), Topic()
    keys.write("a")
    assert not whole(keys)
    for at in range(9):
        large.write(str(at) * 1_000_000)
        assert whole(large) == (at < 8)
    counted.write("a")
    assert whole(counted)
    foreign.topic.state |= {"messagesMetadata": b'{"head":0,"tail":1}', "m_0": b'"of unknown size"'}
    foreign.write("a")
    assert not whole(foreign)
