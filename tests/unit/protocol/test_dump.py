"""Python's values as JSON: what is refused, and that the refusal says how to write it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from restate_pubsub.errors import InvalidMessage
from restate_pubsub.protocol.json_text import dump


class Model:
    """As pydantic's models look from outside; the library does not need pydantic."""

    def model_dump(self) -> dict[str, int]:
        return {"a": 1}


@dataclasses.dataclass
class Record:
    """A dataclass."""

    a: int = 1


class Name(str):
    """A kind of text."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (Model(), "Model is a model"),
        ({"a": [Model()]}, "model_dump(mode='json')"),
        (Record(), "dataclasses.asdict"),
        ([Record()], "model_dump()"),
        ({1: "a"}, "the key 1 is of type int"),
        ({"a": [({True: 1},)]}, "the key True is of type bool"),
        ({None: 1}, "model_dump"),
        ({1: "a", "1": "b"}, "str(key)"),
        ({(1, 2): 3}, "keys must be str"),
        ({1: "\ud83d"}, "the key 1"),
        (b"text", "decode it"),
        ({1, 2}, "set is not JSON"),
    ],
)
def test_what_only_looks_like_json_says_how_to_write_it(value: object, part: str) -> None:
    """Keys are never turned into text silently: two of them could become one."""
    with pytest.raises(InvalidMessage) as caught:
        dump(value)
    assert part in caught.value.message


@pytest.mark.parametrize(
    "value", [{"a": {"b": [{"c": ()}]}}, [], {}, ({"a": 1},), [[[]]], {Name("a"): 1}, "text", None]
)
def test_what_is_json_is_written(value: object) -> None:
    """Tuples as lists; keys that are a kind of text as text."""
    assert json.loads(json.dumps(value)) == json.loads(dump(value))


def test_a_list_that_holds_itself_is_refused() -> None:
    """Neither the writer nor the check of keys goes round for ever."""
    circle: list[object] = [{"a": 1}]
    circle.append(circle)
    with pytest.raises(InvalidMessage, match="Circular"):
        dump(circle)
