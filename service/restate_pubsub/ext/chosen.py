"""What differs from run to run, such as the topic: a text, or how it is found from what is known of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Known = TypeVar("Known")
Chosen = str | Callable[[Known], str]


def chosen(how: Chosen[Known], known: Known) -> str:
    """Return the text for a run of which a framework knows `known`."""
    return how if isinstance(how, str) else how(known)
