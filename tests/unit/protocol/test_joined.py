"""Runs: what may be joined, what never is, and that every message can be cut out again as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.protocol.joined import JOINED_MAX_BYTES, Run, check_field, joined, parts, pieces, runs, span
from restate_pubsub.protocol.messages import Message

TEXTS = st.sampled_from(
    ['"Hel"', '"lo"', '""', r'"\ud83d"', r'"\ude00"', r'"\""', r'"\\"', '"\u00e9\U0001f600"', r'"a\\\"b"', "7", "null"]
)
SHAPES = st.sampled_from(
    [
        b'{"text":%b}',
        b'{"a":1,"text":%b,"b":"x"}',
        b'{"a":{"text":"in"},"text":%b}',
        b'{"text":%b,"text":"twice"}',
        b'{"t\\u0065xt":%b}',
        b'{"other":%b}',
        b"[%b]",
        b"%b",
    ]
)
MESSAGES = st.lists(
    st.builds(
        lambda shape, text, event: Message(shape % text.encode(), event), SHAPES, TEXTS, st.sampled_from([None, "tool"])
    ),
    max_size=12,
)


def told(messages: list[Message]) -> list[tuple[str | None, str]]:
    """Return what a reader shows who appends the field's text, and starts anew where anything else differs."""
    shown: list[tuple[str | None, str]] = []
    for message in messages:
        value = json.loads(message.data)
        text = value.get("text") if isinstance(value, dict) else None
        rest = json.dumps([message.event, {**value, "text": ""} if isinstance(text, str) else value])
        if isinstance(text, str) and shown and shown[-1][0] == rest:
            shown[-1] = (rest, shown[-1][1] + text)
        else:
            shown.append((rest, text if isinstance(text, str) else ""))
    # Two halves of a pair that come one after the other are one letter, as in a browser.
    return [(rest, text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")) for rest, text in shown]


@given(MESSAGES)
def test_every_message_is_cut_out_of_its_run_as_it_was(messages: list[Message]) -> None:
    entries = runs(messages, "text")
    assert messages == [message for entry in entries for message in pieces(entry)]
    assert sum(map(span, entries)) == len(messages)


def test_nothing_of_a_run_is_no_entry() -> None:
    """Not one that covers no offset, wherever in the run it would be."""
    (run,) = runs([Message(b'{"text":"Hel"}'), Message(b'{"text":"lo"}')], "text")
    for at in range(3):
        assert [] == parts([run, Message(b"1")], at, at)


@given(MESSAGES, st.integers(0, 12), st.integers(0, 12), st.integers(1, 200))
def test_a_joined_reader_shows_the_same_text_from_every_place_on(
    messages: list[Message], start: int, more: int, size: int
) -> None:
    wanted = messages[start : start + more]
    entries = parts(runs(messages, "text"), start, start + more)
    shown: list[Message] = []
    while entries:
        found = joined(entries, size)
        shown += found.messages
        assert found.count == len(found.messages) + sum(n - 1 for n in found.spans.values())
        entries = parts(entries, found.count, len(messages))
    assert told(wanted) == told(shown)


def test_what_continues_comes_as_one_across_entries_and_up_to_a_bound() -> None:
    first, second = (
        runs([Message(b'{"text":"a"}')] * 3, "text"),
        runs([Message(b'{"text":"b"}')] * 2, "text", continues=True),
    )
    both = joined([*first, *second], 1000)
    assert ([Message(b'{"text":"aaabb"}')], {0: 5}) == (both.messages, both.spans)

    apart = joined([*first, *runs([Message(b'{"text":"b"}')], "text")], 1000)
    assert [b'{"text":"aaa"}', b'{"text":"b"}'] == [message.data for message in apart.messages]

    large = runs([Message(b'{"text":"%b"}' % (b"x" * 1000))] * 200, "text")
    cut = joined(large, 10**9)
    assert max(len(message.data) for message in cut.messages) <= JOINED_MAX_BYTES
    assert cut.count == 200
    assert len(cut.messages) == 4


def test_half_a_pair_that_the_next_text_completes_becomes_whole() -> None:
    (run,) = runs([Message(rb'{"text":"\ud83d"}'), Message(rb'{"text":"\ude00"}')], "text")
    assert isinstance(run, Run)
    assert json.loads(run.data) == {"text": "\U0001f600"}


@pytest.mark.parametrize("other", [b'{"text":"b","x":1}', b'{"text":1}', b'{"text":"b","text":"c"}', b'"b"', b"{}"])
def test_what_differs_in_more_than_the_field_is_not_joined(other: bytes) -> None:
    found = joined(runs([Message(b'{"text":"a"}'), Message(other)], "text"), 1000)
    assert [b'{"text":"a"}', other] == [message.data for message in found.messages]


@pytest.mark.parametrize("name", ["", "x" * 65, "\ud83d"])
def test_a_field_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="join"):
        check_field(name)
