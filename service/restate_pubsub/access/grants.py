"""What a token permits. No I/O, and no package of the server: what makes tokens needs it as well.

A token's claim is `{"subscribe": [pattern…], "publish": [pattern…], "control": [pattern…]}`. A pattern is a topic, a
prefix ending in `*`, or `{"exact": topic}`: that one topic, whatever it is named. Whoever makes patterns of names that
users choose writes them so: `room/` and a user named `*` would be all rooms.

`subscribe` permits to read; `publish` to write and to delete; `control` to stop a stream and to answer a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

CLAIM = "pubsub"
"""The claim's name, if PUBSUB_JWT_CLAIM does not say another."""

Action = Literal["subscribe", "publish", "control"]
ACTIONS: tuple[Action, ...] = get_args(Action)
SHAPE = (
    '{"subscribe": [pattern…], "publish": [pattern…], "control": [pattern…]}, a pattern being text or {"exact": text}'
)


@dataclass(frozen=True, slots=True)
class Patterns:
    """Topics by their names, and by how their names begin."""

    topics: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def fit(self, topic: str) -> bool:
        """Whether one of them fits `topic`."""
        return topic in self.topics or topic.startswith(self.prefixes)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token permits, and until when (seconds since the epoch; None: for ever)."""

    patterns: Mapping[Action, Patterns]
    expires: float | None = None

    def permits(self, action: Action, topic: str) -> bool:
        """Whether one of the action's patterns fits `topic`. No action contains another."""
        return self.patterns.get(action, Patterns()).fit(topic)


def grant_of(claim: object, expires: float | None = None) -> Grant:
    """Read a claim.

    Raises:
        ValueError: it does not have its shape.

    """
    if not isinstance(claim, dict):
        raise ValueError(SHAPE)  # noqa: TRY004 - what is wrong is the text of a token
    return Grant({action: _patterns(claim.get(action, [])) for action in ACTIONS}, expires)


def _patterns(entries: object) -> Patterns:
    if not isinstance(entries, list):
        raise ValueError(SHAPE)  # noqa: TRY004
    topics, prefixes = set(), []
    for entry in entries:
        match entry:
            case str() if entry.endswith("*"):
                prefixes.append(entry[:-1])
            case str():
                topics.add(entry)
            case {"exact": str(topic), **other} if not other:
                topics.add(topic)
            case _:
                raise ValueError(SHAPE)
    return Patterns(frozenset(topics), tuple(prefixes))


def claim_of(claims: Mapping[str, Any], name: str) -> object:
    """Return the claim of that name; None if there is none.

    A name is taken whole first. If there is no such claim, and it is no URL, its dots lead into claims inside others.
    """
    if name in claims or "://" in name:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found
