"""What an answer is: a handler's result, an error of ours, or a page of somebody who is not Restate. Pure.

Errors are told by the code in their metadata. Objects of older versions, and the TypeScript one, send none: then by
status and text, which are part of the contract.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from restate_pubsub.errors import (
    AlreadyAnswered,
    CallAborted,
    CallFailed,
    InvalidMessage,
    InvalidRequest,
    InvalidTopic,
    KeyReused,
    NoSuchQuestion,
    OffsetGone,
    PubsubError,
    PullTimeout,
    RestateRefused,
    StreamReplaced,
    StreamStopped,
    TooLarge,
    TopicClosed,
    Unavailable,
    WrongAddress,
)
from restate_pubsub.protocol.calls import Stopped, decode_pull_response
from restate_pubsub.protocol.messages import Batch
from restate_pubsub.protocol.names import PROBLEM_TYPE

Count = Annotated[int, msgspec.Meta(ge=0)]


class Target(NamedTuple):
    """What was called, for error texts."""

    at: str
    name: str
    topic: str
    handler: str


class Answer(NamedTuple):
    """A whole HTTP response. `headers` are looked up in lower case, or in any."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The media type of the body."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def source(self) -> str | None:
        """Whose answer an error is: `ingress` or `invocation`; None where nobody says, as before Restate 1.7.4."""
        failure = _failure(self.body)
        return self.headers.get("x-restate-error-source") or (None if failure is None else failure.source)

    @property
    def message(self) -> str:
        """The text of an error."""
        failure = _failure(self.body)
        return f"status {self.status}" if failure is None or not failure.message else failure.message

    @property
    def is_foreign(self) -> bool:
        """Whether this is no answer that Restate gives."""
        if self.status == 200:
            return bool(self.body) and self.kind != "application/json"
        return _failure(self.body) is None


class Published(msgspec.Struct):
    """The output of `publish`."""

    offset: Count
    count: int | None = None


class Appended(msgspec.Struct, rename="camel"):
    """The output of `append`."""

    offset: Count
    next_offset: Count
    count: int | None = None


class Closed(msgspec.Struct, rename="camel"):
    """The output of `close`."""

    next_offset: Count


class Bounds(msgspec.Struct):
    """What every version's `info` says."""

    head: Count
    tail: Count
    closed: bool


class _Failure(msgspec.Struct):
    message: str
    source: str | None = None
    metadata: dict[str, Any] | None = None


def _failure(body: bytes) -> _Failure | None:
    try:
        return msgspec.json.decode(body, type=_Failure)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def result(answer: Answer, target: Target) -> bytes:
    """Return a handler's result.

    Raises:
        Unavailable: an answer that says nothing about the call (the ingress's own, a 5xx, another server's).
        WrongAddress: this is another server, for good.
        PubsubError: the handler's answer.

    """
    if answer.status == 200 and not answer.is_foreign:
        return answer.body
    raise _error(answer, target)


def _error(answer: Answer, target: Target) -> PubsubError:
    failure = _failure(answer.body)
    if failure is None or answer.status == 200:
        return foreign(answer, target.at)
    # Before 1.7.4 Restate did not say whose answer it is; then a 404 or 5xx can only be the ingress's.
    if (answer.source or "ingress") == "ingress":
        return _from_ingress(answer.status, failure.message, target)
    return _from_handler(answer.status, failure, target)


class _Problem(msgspec.Struct):
    type: str


def foreign(answer: Answer, at: str) -> PubsubError:
    """Return what to raise where somebody answered who is not Restate: a proxy, another port, our own service."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        if msgspec.json.decode(answer.body, type=_Problem).type.startswith(PROBLEM_TYPE):
            return our_own_service(at)
    text = answer.body[:80].decode(errors="replace").strip()
    shown = f"status {answer.status}, {answer.kind or 'no content type'}, {text!r}"
    if answer.status in (401, 403):
        return RestateRefused(f"{at} refused the call ({shown}): check the token (RESTATE_AUTH_TOKEN)", answer.status)
    if answer.status == 413:
        return TooLarge("A proxy before Restate refused the call for its size (413): raise its limit")
    if where := answer.headers.get("location"):
        shown += f", it leads to {where[:200]}"
    return Unavailable(f"What answers at {at} is not Restate's ingress ({shown}): check the URL, and proxies before it")


def our_own_service(at: str) -> WrongAddress:
    """Say that a call went to the service's own HTTP side."""
    return WrongAddress(
        f"{at} is the restate-pubsub service itself, not Restate's ingress: give the ingress's URL "
        "(RESTATE_INGRESS_URL), such as http://localhost:8080"
    )


def _from_ingress(status: int, message: str, target: Target) -> PubsubError:
    if status == 404 and f"'{target.handler}'" in message and target.handler != target.name:
        return Unavailable(
            f"The object {target.name!r} has no handler {target.handler!r}: another object, or an older version, has "
            f"its name; register this one (`restate-pubsub register`) ({message})"
        )
    if status == 404:
        return Unavailable(
            f"The object {target.name!r} is not registered with Restate at {target.at}: run `restate-pubsub register`, "
            f"or correct the name ({message})"
        )
    if status >= 500 or status == 429:
        return Unavailable(f"Restate's ingress answered {status}: {message}")
    if status in (401, 403):
        return RestateRefused(f"Restate refused the call ({status}): check RESTATE_AUTH_TOKEN ({message})", status)
    return _from_handler(status, _Failure(message), target)


_Coded = (
    InvalidRequest
    | TooLarge
    | TopicClosed
    | StreamReplaced
    | KeyReused
    | PullTimeout
    | AlreadyAnswered
    | NoSuchQuestion
)
_BY_CODE: dict[str, type[_Coded]] = {
    known.code: known
    for known in (
        InvalidRequest,
        InvalidMessage,
        InvalidTopic,
        TooLarge,
        TopicClosed,
        StreamReplaced,
        KeyReused,
        PullTimeout,
        AlreadyAnswered,
        NoSuchQuestion,
    )
}
_BY_STATUS: dict[int, type[PubsubError]] = {
    400: InvalidRequest,
    408: PullTimeout,
    409: TopicClosed,
    413: TooLarge,
    422: KeyReused,
}
_REPLACED = "was opened again"
_GONE = re.compile(r"Offset (\d+) is lower than the head (\d+)")
_ABORTED = frozenset({"killed", "cancelled", "canceled"})
"""Restate's own texts for a call that an operator ended; the last one where it had not begun yet."""


def _from_handler(status: int, failure: _Failure, target: Target) -> PubsubError:
    message, metadata = failure.message or f"status {status}", failure.metadata or {}
    if "code" in metadata:
        return _coded(str(metadata["code"]), status, message, metadata)
    if gone := _GONE.search(message):
        return OffsetGone(int(gone[1]), int(gone[2]))
    if status == 409 and message.lower() in _ABORTED:
        return CallAborted.named(message.lower(), target.topic, target.handler)
    if status == 409 and _REPLACED in message:
        return StreamReplaced(message)
    known = _BY_STATUS.get(status)
    return CallFailed(message, status) if known is None else known(message)


def _coded(code: str, status: int, message: str, metadata: Mapping[str, Any]) -> PubsubError:
    """Return the error that `code` names; one of a later version keeps its code."""
    facts = {name: int(value) for name, value in metadata.items() if isinstance(value, str) and value.isdecimal()}
    if code == OffsetGone.code and {"offset", "head"} <= facts.keys():
        return OffsetGone(facts["offset"], facts["head"])
    if code == StreamStopped.code:
        reason = metadata.get("reason")
        return StreamStopped(message, offset=facts.get("offset"), reason=reason if isinstance(reason, str) else None)
    if (known := _BY_CODE.get(code)) is not None:
        return known(message, **{name: facts[name] for name in known.facts if name in facts})
    error = CallFailed(message, status)
    error.code = code
    return error


Shape = TypeVar("Shape", Published, Appended, Closed, Bounds, Stopped)


def shaped(body: bytes, shape: type[Shape], target: Target) -> Shape:
    """Return a result as what it should be.

    Raises:
        WrongAddress: another object has answered, or our own service; the text says which.
        Unavailable: it is neither ours nor anybody's that we know.

    """
    if not body:
        msg = (
            f"The object {target.name!r} at {target.at} did {target.handler} and answered nothing, as the TypeScript "
            "object does: register this project's object, or use that one's client"
        )
        raise WrongAddress(msg)
    try:
        found = msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _misshapen(target, error) from None
    if getattr(found, "count", None) is not None:  # only the service's own HTTP publishing counts
        raise our_own_service(target.at)
    return found


def pulled(body: bytes, offset: int, target: Target, *, named: bool) -> Batch:
    """Return the answer to a pull from `offset`; `named` where the caller gave its name.

    Raises:
        Unavailable: it is no such answer.

    """
    try:
        batch = decode_pull_response(body or b"-", offset)
    except InvalidRequest as error:
        raise _misshapen(target, error) from None
    covered = len(batch.messages) + sum(batch.spans.values()) - len(batch.spans)
    if batch.next_offset != batch.offset + covered or (batch.offset != offset and not named):
        said = f"{len(batch.messages)} messages from {batch.offset} to {batch.next_offset}, from {offset} on"
        raise _misshapen(target, ValueError(said))
    return batch


def _misshapen(target: Target, error: Exception) -> Unavailable:
    return Unavailable(
        f"What answers {target.handler} at {target.at} is not the object {target.name!r} as this version knows it "
        f"({error}): register it again, and check the URL"
    )
