"""Requests, answers and state as JSON, there and back."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import InvalidMessage, InvalidRequest, InvalidTopic, PubsubError, TooLarge
from restate_pubsub.protocol import calls, names
from restate_pubsub.protocol.answers import Answer
from restate_pubsub.protocol.calls import Subscription
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.topic import state as stored
from restate_pubsub.topic.log import Bounds, UnsealedPage
from restate_pubsub.topic.policy import JournaledPolicy, Policy, Retention
from restate_pubsub.topic.state import Topic
from restate_pubsub.topic.streams import KnownStream

MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from([b"1", b'"x"', b'{"a":[1,{"b":null}]}', b'"\\ud83d"', '"é"'.encode()]),
        st.sampled_from([None, "tool"]),
    ),
    max_size=5,
)


@given(MESSAGES, st.booleans(), st.integers(0, 2**53 - 1), st.booleans())
def test_a_pull_response_is_read_as_it_was_written(messages: list[Message], closed: bool, at: int, named: bool) -> None:  # noqa: FBT001
    """Messages, events, offset and end; half surrogate pairs among them."""
    batch = Batch(at, messages, at + len(messages), closed, head=at if named else None)
    assert batch == calls.decode_pull_response(calls.encode_pull_response(batch, with_offset=named), at)


@given(MESSAGES, st.integers(0, 1000))
def test_a_notification_is_read_as_it_was_written(messages: list[Message], at: int) -> None:
    """It says where it starts, as a named subscriber may get only the newest batch."""
    batch = Batch(at, messages, at + len(messages), head=0)
    assert batch == calls.decode_notification(calls.encode_notification(batch), 0)


def test_a_notification_of_the_reference_is_understood() -> None:
    """`{newOffset, newMessages}` alone, from a topic that the reference still serves."""
    batch = calls.decode_notification(b'{"newOffset":3,"newMessages":[1,{"a":2}]}', 1)
    assert Batch(1, [Message(b"1"), Message(b'{"a":2}')], 3) == batch


@given(MESSAGES, st.integers(0, 1000))
def test_a_page_is_read_as_it_was_written(messages: list[Message], at: int) -> None:
    """With its first offset and its events."""
    assert (at, messages) == stored.decode_page(stored.encode_page(at, messages))


def test_the_references_metadata_is_understood() -> None:
    """Head and tail alone: everything below the head is swept, nothing was counted."""
    topic = stored.decode_topic(b'{"head":3,"tail":70}')
    assert Bounds(head=3, tail=70, open_sizes={64: 0}, swept=3, sized_from=70) == topic.bounds
    assert (topic.exists, topic.policy) == (True, None)


def test_the_metadata_of_the_version_before_is_understood() -> None:
    """It knew the sum of the open page's bytes, and its streams lie in another key."""
    topic = stored.decode_topic(b'{"head":0,"tail":2,"openBytes":9,"openData":{"0":1},"swept":0,"size":9,"timer":2}')
    assert Bounds(tail=2, open_data={0: b"1"}, open_sizes={1: 8}, size=9) == topic.bounds
    assert (topic.streams, topic.timer, topic.timers) == (None, 2, 2)


def test_a_write_that_the_version_before_has_begun_sets_the_same_metadata() -> None:
    """A replay compares what is set: what this version adds comes only with a policy that it has journaled itself."""
    journaled = msgspec.json.decode(b"[1,2,3,null,null,null,true]", type=JournaledPolicy)
    topic = Topic(Bounds(), journaled.policy(answers=journaled.answers), answer=Answer(1, 0, 2), exists=True)
    assert b"answer" not in stored.encode_topic(topic)
    assert b'"policy":[1,2,3,null,null,null,true]' in stored.encode_topic(topic)
    told = stored.decode_topic(stored.encode_topic(replace(topic, policy=Policy())))
    assert (Policy(), Answer(1, 0, 2)) == (told.policy, told.answer)


def test_metadata_begins_with_what_the_reference_reads() -> None:
    """Its head and tail are ours."""
    bounds = Bounds(head=1, tail=2, open_events={1: "tool"}, open_sizes={1: 9}, swept=1)
    policy = Policy(message_bytes=5, retention=Retention(1, 2, 3.5), pages=False)
    known = KnownStream(1, 2, 1, "a", successor="b")
    topic = Topic(bounds, policy, stored.LastStream("s_é", known), (1, 2), 3, 4, 5, 6, 7, 8, 9, exists=True)
    text = stored.encode_topic(topic)
    assert text.startswith(b'{"head":1,"tail":2,')
    assert topic == stored.decode_topic(text)


def test_a_missing_state_is_an_empty_topic() -> None:
    """For every key."""
    assert Topic(streams=(0, 0)) == stored.decode_topic(None)
    assert stored.decode_subscriptions(None) == []
    assert UnsealedPage() == stored.decode_unsealed(None, 0)
    assert stored.decode_old_streams(None) == {}
    assert stored.decode_stream(None) is None


def test_the_references_subscriptions_are_understood() -> None:
    """They have no subscriber."""
    assert [Subscription(1, "sign_1")] == stored.decode_subscriptions(b'[{"offset":1,"id":"sign_1"}]')


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"messages":[{"data":1}],"close":1}', "Expected `bool`"),
        ('{"messages":{}}', "Expected `array`"),
        ('{"messages":[1]}', "Expected `object`"),
        ('{"messages":[{"event":"x"}]}', "missing required field `data`"),
        ('{"messages":[{"data":1,"evnt":"x"}]}', "unknown field `evnt`"),
        ('{"messages":[{"data":1,"event":"a b"}]}', "message 0: event 'a b'"),
        ('{"messages":[{"data":1,"event":"a\\nb"}]}', "message 0: event"),
        ('{"messages":[{"data":1,"event":"reset"}]}', "streams send themselves"),
        ('{"messages":[], "stream":{"id":"", "start":0}}', "stream id ''"),
        ('{"messages":[], "stream":{"id":"x"}}', "either attempt"),
        ('{"messages":[], "stream":{"id":"x","start":-1}}', "less than 0"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_append_is_refused_by_field_and_rule(text: str, rule: str) -> None:
    """So that its caller can mend it."""
    with pytest.raises(InvalidRequest, match=rule):
        calls.decode_append(text.encode())


@pytest.mark.parametrize(
    ("policy", "texts"),
    [
        (Policy(batch_messages=1), [b"1", b"2"]),
        (Policy(message_bytes=3), [b"1", b'"abc"']),
        (Policy(batch_bytes=3), [b"10", b"20"]),
    ],
)
def test_a_batch_over_a_limit_is_refused(policy: Policy, texts: list[bytes]) -> None:
    """Count, size of one, size of all."""
    with pytest.raises(TooLarge, match=r"append: .*at most"):
        policy.check([Message(text) for text in texts], "append")


def test_half_a_surrogate_pair_leaves_its_neighbours_as_they_are() -> None:
    """Numbers keep their digits beside it, and doubled keys stay doubled."""
    messages = [Message(b'{"e":1.10e-7,"l":1,"l":2}'), Message(b'"\\ud83d"'), Message(b'"\\\\ud83d"')]
    batch = Batch(0, messages, 3)
    assert batch == calls.decode_pull_response(calls.encode_pull_response(batch, with_offset=False), 0)


def test_no_message_makes_its_neighbours_unreadable() -> None:
    """Whatever stands in one message, half a surrogate pair in the next one is told apart from it."""
    every_pair = "".join(a + b for a in string.punctuation for b in string.punctuation)
    messages = [Message(json.dumps(every_pair).encode()), Message(b'"\\ud83d"')]
    assert (0, messages) == stored.decode_page(stored.encode_page(0, messages))
    inlined = Bounds(tail=2, open_data={at: message.data for at, message in enumerate(messages)})
    assert inlined == stored.decode_topic(stored.encode_topic(Topic(inlined))).bounds


def test_an_append_with_half_a_surrogate_pair_is_read() -> None:
    """With its events and flags."""
    text = b'{"messages":[{"data":"\\ud83d"},{"data": {"a": 1}, "event":"tool"}],"close":true}'
    messages, close, stream, join = calls.decode_append(text)
    assert [Message(b'"\\ud83d"'), Message(b'{"a":1}', "tool")] == messages
    assert close
    assert stream is None
    assert join is None


def test_a_stream_is_what_its_name_means_however_it_is_written() -> None:
    """Escapes, as `json.dumps` writes them, are the characters they stand for."""
    plain = '{"messages":[{"data":1}],"stream":{"id":"\U0001f600","attempt":"\U0001f600!","first":true}}'
    escaped = json.dumps(json.loads(plain))
    assert "ud83d" in escaped
    expected = calls.StreamRef("\U0001f600", "\U0001f600!", first=True)
    assert expected == calls.decode_append(plain.encode()).stream == calls.decode_append(escaped.encode()).stream


def test_half_a_surrogate_pair_is_no_name() -> None:
    """No text has it."""
    with pytest.raises(InvalidRequest, match="half a surrogate"):
        calls.decode_append(b'{"messages":[],"stream":{"id":"\\ud83d","start":0}}')


@pytest.mark.parametrize(
    "text",
    [
        '{"offset":-1}',
        '{"offset":9007199254740992}',
        '{"offset":"1"}',
        '{"offset":1.5}',
        '{"offset":true}',
        '{"limit":0}',
        '{"limit":-1}',
        '{"timeout":-1}',
        '{"timeout":1e9}',
        '{"subscriber":""}',
        '{"subscriber":"%s"}' % ("x" * 200),
        "[]",
        "x",
    ],
)
def test_a_bad_pull_is_refused(text: str) -> None:
    """Types and ranges."""
    with pytest.raises(InvalidRequest, match="pull"):
        calls.decode_pull(text.encode())


def test_a_pull_needs_nothing() -> None:
    """No body is the tail, with the defaults."""
    request = calls.decode_pull(b"")
    assert (request.offset, request.limit, request.timeout, request.subscriber) == (None, None, None, None)


@pytest.mark.parametrize("text", ["-1", "1.5", '"1"', "null", "[]", "", "true", "x"])
def test_a_truncate_count_is_an_integer_of_zero_or_more(text: str) -> None:
    """Everything else is named."""
    with pytest.raises(InvalidRequest, match="integer of 0 or more"):
        calls.decode_count(text.encode())


@pytest.mark.parametrize(
    ("topic", "error"), [("", "empty"), ("x" * 513, "513 bytes"), ("é" * 257, "514"), ("\ud800", "half")]
)
def test_a_bad_topic_is_refused(topic: str, error: str) -> None:
    """Empty, too long in bytes, not UTF-8."""
    with pytest.raises(InvalidTopic, match=error):
        names.check_topic(topic, Limits())


@pytest.mark.parametrize("topic", ["a", "a/b", "..", "é" * 256, "%2F", " ", "\n"])
def test_any_other_topic_is_a_topic(topic: str) -> None:
    """Slashes, dots, spaces and any Unicode."""
    names.check_topic(topic, Limits())


@pytest.mark.parametrize("text", [b'{"messages":[{"data":[' + b"[" * 2000, b'{"messages":' * 3000])
def test_json_that_explodes_is_refused_not_followed(text: bytes) -> None:
    """No recursion error gets out."""
    with pytest.raises(PubsubError):
        calls.decode_append(text)


def test_a_deep_message_in_a_batch_is_refused() -> None:
    """As it is alone."""
    deep = b"[" * 200 + b"]" * 200
    with pytest.raises(InvalidMessage, match="message 0"):
        calls.decode_append(b'{"messages":[{"data":%b}]}' % deep)


def test_an_append_is_read_as_it_is_written() -> None:
    """What the client sends is what the object gets."""
    ref: Any = calls.StreamRef("s", attempt="a", first=True)
    messages = [Message(b"1", "tool"), Message(b'"x"')]
    written = calls.encode_append(messages, close=True, stream=ref, join="t\u00e9xt")
    assert calls.AppendInput(messages, close=True, stream=ref, join="t\u00e9xt") == calls.decode_append(written)
