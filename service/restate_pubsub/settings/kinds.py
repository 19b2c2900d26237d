"""What kinds of settings there are: what people call each, how its values are written, and what text it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of setting; the annotation of a type carries it.

    `pattern` is what its text must match, `words` are all that it can be, `number` says that it may be written as a
    number of this JSON type, or as zero alone. What says nothing of these takes any text, and the service checks it
    when it starts.
    """

    name: str
    pattern: str | None = None
    words: tuple[str, ...] = ()
    number: Literal["integer", "number", "zero"] | None = None
    write: Callable[[Any], str] = str


def write_list(values: tuple[str, ...]) -> str:
    """Write a list as the environment has it."""
    return ",".join(values)


def _write_bool(value: bool) -> str:  # noqa: FBT001 - the value is the subject
    return "true" if value else "false"


TRUTH = Kind("true or false", words=("true", "false"), write=_write_bool)
NUMBER = Kind("number", pattern=r"^\d+$", number="integer")
SECRET = Kind("secret")
TEXT = Kind("text")
_OF_TYPES = {bool: TRUTH, int: NUMBER, SecretStr: SECRET}


def kind_of(field: FieldInfo) -> Kind:
    """Return the kind of a setting, as its type says."""
    for item in (*field.metadata, *_annotations(field.annotation)):
        if isinstance(item, Kind):
            return item
        if get_origin(item) is Literal:
            words = get_args(item)
            return Kind(f"{', '.join(words[:-1])} or {words[-1]}", words=words)
        if isinstance(item, type) and item in _OF_TYPES:
            return _OF_TYPES[item]
    return TEXT


def _annotations(annotation: Any) -> Iterator[Any]:
    """Yield what an annotation is made of, from the outside in."""
    if get_origin(annotation) is Annotated:
        kept, *metadata = get_args(annotation)
        yield from metadata
        yield from _annotations(kept)
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _annotations(member)
    else:
        yield annotation
