"""Every error this project raises on purpose: one tree, each with an HTTP status and a stable code.

PubsubError
├── InvalidRequest          400  a value breaks a rule; the message names both
│   ├── InvalidMessage      400  not JSON, or JSON that no reader could take
│   └── InvalidTopic        400  empty, too long, or not UTF-8
├── Unauthorized            401  no token, or one that is not valid
├── Forbidden               403  the token does not permit it, or a cookie alone would
│   └── ClaimMissing        403  the token has no claim that says what it permits
├── NotEnabled              405  something that is switched off by a setting
├── UnsupportedType         415  a body that is neither JSON nor NDJSON
├── TooLarge                413  a message or a batch over its limit
│   └── RequestTooLong      413  a request that publishes for too long, or too much
├── TopicClosed             409  a write to a closed topic
├── StreamReplaced          409  a batch of an attempt that a later one has replaced
├── StreamStopped           409  a batch, or a later attempt, of a stream that was stopped
├── KeyReused               422  an idempotency key that came with another body before
├── AlreadyAnswered         409  somebody else answered the question first
├── NoSuchQuestion          404  nobody asks this here, or the answer was long ago
├── TooManyQuestions        429  as many questions of a topic are open as it may have
├── StreamFailed                 a token stream ended early; says how far it got
├── OffsetGone              410  the messages asked for were truncated
├── PullTimeout             408  nothing arrived while a pull waited
├── CallFailed              4xx  any other answer of a handler that is final
│   └── RestateRefused      4xx  Restate does not take this service's own credentials
├── CallAborted             503  an operator killed or cancelled the call; a write may be there or not
├── WrongAddress            421  what answers is not what this client speaks to; says what to set
├── OverLimit                    a limit of this service; says when to try again
│   ├── TooMany             429  one client's
│   └── Busy                503  the process's, or a topic's
├── Unavailable             503  Restate or the object cannot be reached; trying again may help
│   ├── Draining            503  the process is about to stop: another one takes the request
│   └── KeysUnavailable     503  the keys that verify tokens cannot be fetched
└── ConfigError                  a setting that cannot work (exit code 2)
"""

from __future__ import annotations

from typing import ClassVar

MAY_PASS = frozenset({401, 403, 408, 429})
"""A token that is set right, a wait, a limit."""


class PubsubError(Exception):
    """Something went wrong in restate-pubsub."""

    status = 500
    code = "internal"
    facts: ClassVar[tuple[str, ...]] = ()
    """Attributes, integers, that travel with the code; one that is None does not."""

    def __init__(self, message: str | None = None) -> None:
        """Keep `message`; without one, the class's docstring is the message."""
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    @property
    def public(self) -> str:
        """The message for strangers: without what lies behind this service."""
        return self.message

    @property
    def public_status(self) -> int:
        """The status for strangers."""
        return self.status

    @property
    def final(self) -> bool:
        """Whether the same again would be refused again: a 4xx, but for those that time or an operator mends."""
        return 400 <= self.status < 500 and self.status not in MAY_PASS

    @property
    def metadata(self) -> dict[str, str]:
        """Return what a caller on the other side decides by: the code and the facts. Texts are for people."""
        known = {name: getattr(self, name, None) for name in self.facts}
        return {"code": self.code} | {name: str(value) for name, value in known.items() if value is not None}


class InvalidRequest(PubsubError):
    """The request breaks a rule."""

    status = 400
    code = "invalid-request"


class InvalidMessage(InvalidRequest):
    """The message is not JSON."""

    code = "invalid-message"


class InvalidTopic(InvalidRequest):
    """The topic name is not valid."""

    code = "invalid-topic"


class Unauthorized(PubsubError):
    """A token is needed."""

    status = 401
    code = "unauthorized"

    def __init__(self, message: str | None = None, *, invalid: bool = False, setting: str | None = None) -> None:
        """`invalid`: there was a token, and it is not good (RFC 6750, section 3.1). `setting` decided it."""
        self.invalid = invalid
        self.setting = setting
        super().__init__(message)


class Forbidden(PubsubError):
    """The token does not permit this."""

    status = 403
    code = "forbidden"

    def __init__(self, message: str | None = None, *, setting: str | None = None) -> None:
        """`setting` is the one that decided it, if one did."""
        self.setting = setting
        super().__init__(message)


class ClaimMissing(Forbidden):
    """The token has no claim that says what it permits."""

    code = "claim-missing"

    @classmethod
    def named(cls, claim: str) -> ClaimMissing:
        """Name the claim."""
        return cls(
            f"The token is valid, but has no claim {claim!r}, which says what it permits: "
            'its issuer must add it, as {"subscribe": [topic…]}',
            setting="PUBSUB_JWT_CLAIM",
        )


class NotEnabled(PubsubError):
    """This is switched off by a setting."""

    status = 405
    code = "not-enabled"


class UnsupportedType(PubsubError):
    """The body's type is not one that can be published."""

    status = 415
    code = "unsupported-type"


class TooLarge(PubsubError):
    """The message or batch is over its size limit."""

    status = 413
    code = "too-large"


class RequestTooLong(TooLarge):
    """One request has brought as much, or gone on for as long, as one may."""

    code = "request-too-long"

    @classmethod
    def after(cls, what: str) -> RequestTooLong:
        """Say what the request has or did."""
        return cls(f"The request {what}, which is the most allowed: send the rest in a new one")


class TopicClosed(PubsubError):
    """The topic is closed."""

    status = 409
    code = "topic-closed"
    facts = ("tail",)

    def __init__(self, message: str | None = None, *, tail: int | None = None) -> None:
        """`tail` is the offset at which the topic ended, where that is known."""
        self.tail = tail
        super().__init__(message)

    @classmethod
    def at(cls, topic: str, tail: int) -> TopicClosed:
        """Name the topic and the offset at which it ended."""
        return cls(
            f"Topic {topic!r} was closed at offset {tail}: publish to another topic, "
            "or delete this one to use its name again",
            tail=tail,
        )


class StreamReplaced(PubsubError):
    """A later attempt of the stream has begun."""

    status = 409
    code = "stream-replaced"
    facts = ("offset",)

    def __init__(self, message: str | None = None, *, offset: int | None = None) -> None:
        """`offset` is where the attempt that replaced this one began, where that is known."""
        self.offset = offset
        super().__init__(message)

    @classmethod
    def by(cls, stream: str, offset: int) -> StreamReplaced:
        """Name the stream, and where the attempt that replaced this one began."""
        return cls(
            f"Stream {stream!r} was opened again and goes on from offset {offset}: this attempt must stop",
            offset=offset,
        )

    @classmethod
    def unknown(cls, stream: str) -> StreamReplaced:
        """Name a stream that the topic does not know, or no longer."""
        return cls(
            f"Stream {stream!r} was opened again, or its topic was deleted since: this attempt must stop, "
            "and may open the stream anew"
        )


class StreamStopped(PubsubError):
    """The stream was stopped: nothing more of it is wanted, from this attempt or a later one."""

    status = 409
    code = "stream-stopped"
    facts = ("offset",)

    def __init__(self, message: str | None = None, *, offset: int | None = None, reason: str | None = None) -> None:
        """`offset` is where the event `stop` is, `reason` what its sender said, where they are known."""
        self.offset = offset
        self.reason = reason
        super().__init__(message)

    @classmethod
    def at(cls, stream: str, offset: int, reason: str | None) -> StreamStopped:
        """Name the stream, where it was stopped, and why."""
        why = "" if reason is None else f" ({reason})"
        return cls(
            f"Stream {stream!r} was stopped at offset {offset}{why}: end this step, and do not open the stream again",
            offset=offset,
            reason=reason,
        )

    @property
    def metadata(self) -> dict[str, str]:
        """The reason as well."""
        return super().metadata | ({} if self.reason is None else {"reason": self.reason})


class KeyReused(PubsubError):
    """An idempotency key was used before, for another request."""

    status = 422
    code = "key-reused"

    @classmethod
    def other_messages(cls, key: str) -> KeyReused:
        """Say that the messages differ."""
        return cls(f"The key {key!r} was used before with other messages: a key belongs to one request; take a new one")

    @classmethod
    def other_length(cls, key: str, count: int) -> KeyReused:
        """Say that there were another number of messages."""
        return cls(
            f"The key {key!r} was used before for a request of {count} messages: "
            "a key belongs to one request; take a new one"
        )


class AlreadyAnswered(PubsubError):
    """The question was answered before."""

    status = 409
    code = "already-answered"
    facts = ("offset",)

    def __init__(self, message: str, offset: int | None = None) -> None:
        """`offset` is where the answer is, None where that is not known."""
        self.offset = offset
        super().__init__(message)

    @classmethod
    def at(cls, question: str, offset: int, *, withdrawn: bool) -> AlreadyAnswered:
        """Say where the answer is, or that nobody waits for one any more."""
        how = "was withdrawn" if withdrawn else "is answered"
        return cls(f"The question {question!r} {how} (offset {offset}): the first answer counts", offset)


class NoSuchQuestion(PubsubError):
    """There is no such question."""

    status = 404
    code = "no-such-question"

    @classmethod
    def called(cls, question: str) -> NoSuchQuestion:
        """Name the question."""
        return cls(f"No question {question[:80]!r} was asked in this topic: answer one by the id in its event")


class TooManyQuestions(PubsubError):
    """Too many questions of the topic are open."""

    status = 429
    code = "too-many-questions"

    @classmethod
    def open_are(cls, count: int) -> TooManyQuestions:
        """Say how many."""
        return cls(f"{count} questions of this topic are open, which is the most allowed: answer or withdraw some")


class StreamFailed(PubsubError):
    """A stream could not be written to its end."""

    code = "stream-failed"

    def __init__(
        self,
        topic: str,
        acknowledged: int,
        written: int,
        next_offset: int | None,
        cause: PubsubError,
        *,
        uncertain: int = 0,
    ) -> None:
        """Of `written` messages `acknowledged` are in the topic, up to `next_offset`; `cause` is what went wrong.

        Of the rest, the first `uncertain` were in a call whose end is not known: they may be there, too, all or none.
        """
        self.acknowledged = acknowledged
        self.written = written
        self.next_offset = next_offset
        self.cause = cause
        self.uncertain = uncertain
        self.status = cause.status
        there = f"{acknowledged} of {written} messages are there"
        if next_offset is not None:
            there += f", up to offset {next_offset}"
        if uncertain:
            there += f" (the next {uncertain} may be there, too)"
        self._what = f"The stream to topic {topic!r} failed: {there}"
        super().__init__(f"{self._what}: {cause}")

    @property
    def public(self) -> str:
        """The same without what the cause keeps to itself."""
        return f"{self._what}: {self.cause.public}"


class OffsetGone(PubsubError):
    """The messages asked for are gone."""

    status = 410
    code = "offset-gone"
    facts = ("offset", "head")

    def __init__(self, offset: int, head: int) -> None:
        """`offset` was asked for, `head` is the first that there is.

        The text is the reference's own (`@restatedev/pubsub` 0.3.2), and part of the contract.
        """
        self.offset = offset
        self.head = head
        super().__init__(f"Offset {offset} is lower than the head {head}")


class PullTimeout(PubsubError):
    """Nothing was published while the pull waited: ask again from the same offset."""

    status = 408
    code = "pull-timeout"


class CallFailed(PubsubError):
    """A handler refused the call for good."""

    code = "call-failed"

    def __init__(self, message: str, status: int, *, public: str | None = None) -> None:
        """`status` is the handler's own; `public` is what strangers are told instead of the message."""
        super().__init__(message)
        self.status = status
        self._public = public

    @property
    def public(self) -> str:
        """The handler's words, unless it was not the handler that spoke."""
        return self._public or self.message


class RestateRefused(CallFailed):
    """Restate refused this service's own call: an operator has to look at its credentials."""

    code = "restate-refused"

    def __init__(self, message: str, status: int) -> None:
        """`status` is Restate's."""
        super().__init__(message, status, public=type(self).__doc__)

    @property
    def public_status(self) -> int:
        """Neither 401 nor 403: the stranger's own token is not to blame."""
        return 502


class CallAborted(PubsubError):
    """An operator killed or cancelled the call in Restate.

    A write may be in the topic or not, and Restate answers the same for as long as it remembers the idempotency key:
    look at the topic, then write again under another key.
    """

    status = 503
    code = "call-aborted"

    @classmethod
    def named(cls, how: str, topic: str, handler: str) -> CallAborted:
        """Name the call, and whether it was killed or cancelled."""
        return cls(
            f"An operator {how} the call of {handler} on topic {topic!r} in Restate: it may have been done or not. "
            "Look at the topic; repeat a write under another idempotency key, as this one gets the same answer again"
        )


class WrongAddress(PubsubError):
    """What answers is not what this client speaks to."""

    status = 421
    code = "wrong-address"

    def __init__(self, message: str | None = None, *, public: str | None = None) -> None:
        """`public` is what strangers are told; by default nothing that names an address behind this service."""
        super().__init__(message)
        self._public = public

    @property
    def public(self) -> str:
        """No address."""
        return self._public or type(self).__doc__ or ""

    @property
    def public_status(self) -> int:
        """Where this service's own calls go is not the stranger's mistake."""
        return self.status if self._public else 502


class OverLimit(PubsubError):
    """A limit is reached: try again later."""

    def __init__(self, message: str, *, code: str, retry_after: float) -> None:
        """`code` names the limit; after `retry_after` seconds another try may succeed."""
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class TooMany(OverLimit):
    """One client is over its limit."""

    status = 429
    code = "too-many-requests"


class Busy(OverLimit):
    """The process is over a limit of its own."""

    status = 503
    code = "busy"


class Unavailable(PubsubError):
    """Restate cannot be reached at the moment: try again."""

    status = 503
    code = "restate-unavailable"

    def __init__(self, message: str | None = None, *, public: str | None = None) -> None:
        """`public` is what strangers are told; by default only that, as the message names addresses behind us."""
        super().__init__(message)
        self._public = public or type(self).__doc__ or ""

    @property
    def public(self) -> str:
        """No address."""
        return self._public


class Draining(Unavailable):
    """This process is about to stop: connect again."""

    code = "draining"


class KeysUnavailable(Unavailable):
    """The keys that verify tokens cannot be fetched at the moment: try again."""

    code = "token-keys-unavailable"


class ConfigError(PubsubError):
    """A setting cannot work."""

    code = "config"
