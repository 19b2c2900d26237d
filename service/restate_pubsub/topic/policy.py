"""What a topic keeps and how much one call may carry: the settings, as the topic's own state holds them.

A handler decides by the policy in the topic's metadata, never by the settings of the process that runs it. A write
that was cut off is run again somewhere else, perhaps with other settings, and must then make the same commands. New
settings come in as a journaled value: at a topic's first write, when the policy would refuse a write, and whenever
the topic is swept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import msgspec

from restate_pubsub.errors import TooLarge
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Message

_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a topic is kept; None is no limit. `idle` is in seconds."""

    messages: int | None = None
    size: int | None = None
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide which commands a write makes. Sizes in bytes of compact JSON.

    Without `pages`, messages stay in keys of their own, the form that the reference reads. With `answers`, the metadata
    says where the topic's last answer is; the version before does not, and its writes go on without.
    """

    message_bytes: int = _LIMITS.message_bytes
    batch_bytes: int = _LIMITS.batch_bytes
    batch_messages: int = _LIMITS.batch_messages
    retention: Retention = field(default_factory=Retention)
    pages: bool = True
    answers: bool = True

    def check(self, messages: Sequence[Message], handler: str) -> None:
        """Refuse what `handler` may not write in one call.

        Raises:
            TooLarge: too many messages, one of them or all together over the limit.

        """
        if len(messages) > self.batch_messages:
            msg = f"{handler}: {len(messages)} messages in one batch; at most {self.batch_messages} are allowed"
            raise TooLarge(msg)
        sizes = [len(data) for data, _ in messages]
        if sizes and max(sizes) > self.message_bytes:
            at, size = next((at, size) for at, size in enumerate(sizes) if size > self.message_bytes)
            place = "The message" if handler == "publish" else f"{handler}: message {at}: The message"
            msg = f"{place} has {size} bytes; at most {self.message_bytes} are allowed"
            raise TooLarge(msg)
        total = sum(sizes)
        if total > self.batch_bytes:
            msg = f"{handler}: the batch has {total} bytes; at most {self.batch_bytes} are allowed: send it in parts"
            raise TooLarge(msg)


class StoredPolicy(msgspec.Struct, array_like=True):
    """A policy as JSON: a short array, as it is part of every write. The metadata shows whether it has `answers`."""

    message_bytes: int
    batch_bytes: int
    batch_messages: int
    retain_messages: int | None = None
    retain_bytes: int | None = None
    retain_idle: float | None = None
    pages: bool = True

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Return what is stored of a policy."""
        kept = policy.retention
        return cls(
            policy.message_bytes,
            policy.batch_bytes,
            policy.batch_messages,
            kept.messages,
            kept.size,
            kept.idle,
            policy.pages,
        )

    def policy(self, *, answers: bool) -> Policy:
        """Return the policy."""
        kept = Retention(self.retain_messages, self.retain_bytes, self.retain_idle)
        return Policy(self.message_bytes, self.batch_bytes, self.batch_messages, kept, self.pages, answers)


class JournaledPolicy(StoredPolicy, array_like=True):
    """A policy as a write journals it: without the last member, the version before has written it."""

    answers: bool = False
