"""Results of agents and tools as JSON: all frameworks have pydantic, which knows how."""

from __future__ import annotations

from typing import Any


def jsonable(value: Any) -> Any:
    """Return `value` as JSON has it; what has no form in JSON becomes its text."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - no part of the base install

    return to_jsonable_python(value, serialize_unknown=True)
