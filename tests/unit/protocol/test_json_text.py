"""JSON as text: what is let in, and that nothing but white space is taken away."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import InvalidMessage, TooLarge
from restate_pubsub.protocol.json_text import MAX_DEPTH, compact, dump, read

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 0, 2]))
def test_any_json_survives_and_fits_on_one_line(value: object, indent: int | None) -> None:
    """However it was laid out, it means the same afterwards, and holds no line break."""
    text = compact(json.dumps(value, indent=indent).encode(), 10**6)
    assert value == json.loads(text)
    assert not set(text) & set(b"\r\n")


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        (b' { "a" : [ 1 , 2.50 ] }\n', b'{"a":[1,2.50]}'),
        (b"123456789012345678901234567890", b"123456789012345678901234567890"),
        (b"1E400", b"1E400"),
        (b'"a b\\n"', b'"a b\\n"'),
        ('"é\u2028"'.encode(), '"é\u2028"'.encode()),
        (b'"\\ud83d"', b'"\\ud83d"'),
        (b'{"d": "\\ude00 tail of an emoji"}', b'{"d":"\\ude00 tail of an emoji"}'),
        (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
        (b'[1.10e-7, 1e400, "\\ud83d \\u00e9"]', b'[1.10e-7,1e400,"\\ud83d \\u00e9"]'),
        (b'["\\ud83d", "\\\\ud83d \x7f\x7f \x7f~"]', b'["\\ud83d","\\\\ud83d \x7f\x7f \x7f~"]'),
    ],
)
def test_the_text_is_kept_as_it_was_written(given_text: bytes, kept: bytes) -> None:
    """Numbers keep their digits, strings their characters; half a surrogate pair is JSON as well."""
    assert kept == compact(given_text, 10**6)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"nope",
        b"{",
        b"[1,]",
        b"01",
        b"NaN",
        b"Infinity",
        b'"a\nb"',
        b'"\xff"',
        b"1 2",
        b"\xef\xbb\xbf1",
        b"'a'",
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    """Python's own extensions, broken UTF-8 and a second value included."""
    with pytest.raises(InvalidMessage):
        compact(text, 10**6)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nesting_beyond_the_limit_is_refused_whatever_its_depth(depth: int) -> None:
    """A parser that recurses would fail at a depth of its own choosing."""
    with pytest.raises(InvalidMessage, match=f"{MAX_DEPTH + 1} levels deep or more"):
        compact(b"[" * depth + b"]" * depth, 10**6)


def test_brackets_in_strings_do_not_nest() -> None:
    """A long text full of brackets is one level."""
    text = json.dumps(["[{" * 1000 + '\\"']).encode()
    assert text == compact(text, 10**6)


def test_size_is_checked_before_anything_else() -> None:
    """The message names both numbers."""
    with pytest.raises(TooLarge, match=r"11 bytes; at most 10"):
        compact(b"x" * 11, 10)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    """NaN, sets and arbitrary objects."""
    with pytest.raises(InvalidMessage, match="cannot be written as JSON"):
        dump(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"1e999999999", float("inf")), (b"9" * 5000, float("inf")), (b'"\\ud83d"', "\ud83d"), (b"[1.5,2]", [1.5, 2])],
)
def test_whatever_is_in_a_log_can_be_read(text: bytes, value: object) -> None:
    """A reader must get past any message that was let in."""
    assert value == read(compact(text, 10**6))


def test_half_a_surrogate_pair_is_written_as_an_escape() -> None:
    """UTF-8 cannot carry it, JSON can."""
    assert dump("\ud83d") == b'"\\ud83d"'
