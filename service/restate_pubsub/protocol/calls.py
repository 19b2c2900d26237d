"""The inputs and outputs of the object's handlers: their JSON, read and written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from restate_pubsub.errors import InvalidRequest, PubsubError
from restate_pubsub.protocol.joined import check_field
from restate_pubsub.protocol.json_text import Mask, check_depth, compact, minified, shown
from restate_pubsub.protocol.messages import Batch, Message, event_names, join, named
from restate_pubsub.protocol.names import (
    MAX_DIGEST_LENGTH,
    MAX_STREAM_ID_LENGTH,
    MAX_SUBSCRIBER_LENGTH,
    check_event,
    check_offset,
    check_reason,
    check_stream_id,
    invocation_of,
)


class AppendEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One message of an `append`."""

    data: msgspec.Raw
    event: str | None = None


class StreamRef(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The stream that a batch belongs to (`topic/streams.py`).

    `attempt` and `first`: a stream with attempts, and whether this call opens one; without messages it does nothing
    else. `start`: a counted stream, and how many of its messages come before this batch; `digest` is the digest of
    those. `last` says that the stream ends with this batch: with attempts, that it is no more unfinished.
    """

    id: str
    attempt: str | None = None
    first: bool = False
    start: int | None = None
    digest: str | None = None
    last: bool = False


class AppendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The input of `append`."""

    messages: list[AppendEntry]
    close: bool = False
    stream: StreamRef | None = None
    join: str | None = None


class AppendInput(NamedTuple):
    """What an `append` asks for: its messages, whether it closes the topic, its stream, and the field they continue."""

    messages: Sequence[Message]
    close: bool
    stream: StreamRef | None
    join: str | None = None


class PullRequest(msgspec.Struct):
    """The input of `pull`; fields of other versions are passed over.

    `opening` is a word that a replica makes up for the pull with which it begins to follow a topic: that gives it the
    topic's position, at once and in process where the pull runs there, as the answer everywhere else. `reading` is one
    for a read that need not wait: where it runs there, it is handed over, and the answer is empty.
    """

    offset: int | None = None
    limit: int | None = None
    timeout: float | None = None
    subscriber: str | None = None
    join: bool = False
    opening: str | None = None
    reading: str | None = None


class Subscription(msgspec.Struct, omit_defaults=True):
    """The input of `subscribe`, and one entry of the `subscription` state key.

    `cancel` takes the awakeable out again (its pull has timed out).
    """

    offset: int
    id: str
    subscriber: str | None = None
    cancel: bool = False


class Notification(msgspec.Struct, omit_defaults=True, rename="camel"):
    """What an awakeable of a waiting pull is resolved with; `newOffset`, `newMessages` are the reference's."""

    new_offset: int
    new_messages: list[msgspec.Raw]
    offset: int | None = None
    events: dict[str, str] = {}
    closed: bool = False
    head: int | None = None
    trace: str = ""


class PullResponse(msgspec.Struct, rename="camel"):
    """The output of `pull`, as its callers read it."""

    messages: list[msgspec.Raw]
    next_offset: int
    offset: int | None = None
    events: dict[str, str] = {}
    closed: bool = False
    head: int | None = None
    spans: dict[int, int] = {}
    trace: str = ""
    whole: int | None = None


T = TypeVar("T", bound=msgspec.Struct)


def decode(raw: bytes, type_: type[T], what: str) -> T:
    """Decode a request or an answer; errors become InvalidRequest and name the field and the rule."""
    try:
        return msgspec.json.decode(raw or b"{}", type=type_)
    except msgspec.ValidationError as error:
        msg = f"{what}: {error}"
        raise InvalidRequest(msg) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{what}: not JSON: {error}"
        raise InvalidRequest(msg) from None


def decode_messages(raw: bytes, type_: type[T], what: str, key: str, field: str | None = None) -> Masked[T]:
    """Decode a struct whose list `key` holds messages (or entries with a message in `field`), kept as JSON text."""
    mask = Mask(raw)
    struct = decode(mask.masked, type_, what)
    attribute = _CAPITAL.sub(lambda match: "_" + match.group().lower(), key)
    texts = [mask.restore(bytes(entry.data if field else entry)) for entry in getattr(struct, attribute)]
    return Masked(struct, texts, mask)


class Masked(NamedTuple, Generic[T]):
    """A struct, its messages' own JSON text, and what its other strings have to be restored with."""

    struct: T
    texts: list[bytes]
    mask: Mask


_CAPITAL = re.compile(r"[A-Z]")


def decode_append(raw: bytes) -> AppendInput:
    """Decode the input of `append`. Sizes are not checked here: which limits hold, the topic's state says (`Policy`).

    Raises:
        InvalidRequest: not the shape of the contract, an unknown field, a bad event name.
        InvalidMessage: a message that `compact` refuses; the text names its place.

    """
    # One pass over the whole batch; where it fails, the messages one by one tell which of them is to blame.
    whole = minified(raw)
    request, texts, mask = decode_messages(whole or raw, AppendRequest, "append", "messages", "data")
    messages = []
    for at, (entry, text) in enumerate(zip(request.messages, texts, strict=True)):
        try:
            if whole is None:
                text = compact(text)  # noqa: PLW2901
            check_depth(text)
            if entry.event is not None:
                check_event(entry.event)
        except PubsubError as error:
            error.message = f"append: message {at}: {error.message}"
            raise
        messages.append(Message(text, entry.event))
    stream = None if request.stream is None else _restored(request.stream, mask)
    return AppendInput(messages, request.close, stream, _field(request.join, mask))


def _field(name: str | None, mask: Mask) -> str | None:
    """Return the name of the field that messages continue, checked."""
    if name is not None:
        try:
            name = mask.text(name)
        except ValueError:
            msg = "join: the field's name holds half a surrogate pair, which is no text"
            raise InvalidRequest(msg) from None
        check_field(name)
    return name


def _restored(ref: StreamRef, mask: Mask) -> StreamRef:
    """Return the stream's names as their sender wrote them, checked."""
    try:
        ref = msgspec.structs.replace(ref, id=mask.text(ref.id), attempt=ref.attempt and mask.text(ref.attempt))
    except ValueError:
        msg = "stream: its id or attempt holds half a surrogate pair, which is no text"
        raise InvalidRequest(msg) from None
    check_stream(ref)
    return ref


def check_stream(ref: StreamRef) -> None:
    """Refuse a stream's name or counts that make no sense."""
    check_stream_id(ref.id)
    if (ref.attempt is None) == (ref.start is None):
        msg = f"stream {ref.id!r}: give either attempt (and first), or start"
        raise InvalidRequest(msg)
    if ref.start is not None and ref.start < 0:
        msg = f"stream {ref.id!r}: start {ref.start} is less than 0"
        raise InvalidRequest(msg)
    if ref.start is None and ref.digest is not None:
        msg = f"stream {ref.id!r}: digest goes with start, not with attempt"
        raise InvalidRequest(msg)
    if ref.start is not None and ref.first:
        msg = f"stream {ref.id!r}: first goes with attempt, not with start"
        raise InvalidRequest(msg)
    if ref.digest is not None and len(ref.digest) > MAX_DIGEST_LENGTH:
        msg = f"stream {ref.id!r}: digest has {len(ref.digest)} characters; at most {MAX_DIGEST_LENGTH} are allowed"
        raise InvalidRequest(msg)
    if ref.attempt is not None and not 0 < len(ref.attempt) <= MAX_STREAM_ID_LENGTH:
        msg = f"stream {ref.id!r}: attempt has {len(ref.attempt)} characters; 1 to {MAX_STREAM_ID_LENGTH} are allowed"
        raise InvalidRequest(msg)


def encode_append(
    messages: Iterable[Message], *, close: bool, stream: StreamRef | None = None, join: str | None = None
) -> bytes:
    """Write the input of `append`."""
    entries = b",".join(
        b'{"data":%b}' % message.data
        if message.event is None
        else b'{"data":%b,"event":%b}' % (message.data, msgspec.json.encode(message.event))
        for message in messages
    )
    more = b',"close":true' if close else b""
    if stream is not None:
        more += b',"stream":' + msgspec.json.encode(stream)
    if join is not None:
        more += b',"join":' + msgspec.json.encode(join)
    return b'{"messages":[%b]%b}' % (entries, more)


def decode_pull(raw: bytes) -> PullRequest:
    """Decode and check the input of `pull`."""
    request = decode(raw, PullRequest, "pull")
    check_offset(request.offset, "pull")
    if request.limit is not None and request.limit < 1:
        msg = f"pull: limit {request.limit} is less than 1"
        raise InvalidRequest(msg)
    if request.timeout is not None and not 0 <= request.timeout <= MAX_TIMEOUT:
        msg = f"pull: timeout {request.timeout} is not between 0 and {MAX_TIMEOUT} seconds"
        raise InvalidRequest(msg)
    if request.subscriber is not None and not 0 < len(request.subscriber) <= MAX_SUBSCRIBER_LENGTH:
        msg = f"pull: subscriber has {len(request.subscriber)} characters; 1 to {MAX_SUBSCRIBER_LENGTH} are allowed"
        raise InvalidRequest(msg)
    if request.opening is not None and (request.subscriber is None or request.offset is not None):
        msg = "pull: opening comes with a subscriber, and without an offset"
        raise InvalidRequest(msg)
    return request


MAX_TIMEOUT = 24 * 60 * 60


def decode_subscribe(raw: bytes) -> Subscription:
    """Decode and check the input of `subscribe`."""
    request = decode(raw, Subscription, "subscribe")
    check_offset(request.offset, "subscribe")
    return request


class QuestionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The input of `ask` and `answer`."""

    id: str
    data: msgspec.Raw


class WithdrawRequest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The input of `withdraw`; `finish`: only make good what a killed call has left of an answer."""

    id: str
    finish: bool = False


def decode_question(raw: bytes, what: str) -> tuple[str, bytes]:
    """Decode the input of `ask` or `answer`: the question's id, and the data as JSON text.

    Raises:
        InvalidRequest, InvalidMessage: not the shape of the contract, or data that `compact` refuses.

    """
    mask = Mask(raw)
    request = decode(mask.masked, QuestionRequest, what)
    return request.id, compact(mask.restore(bytes(request.data)))


def decode_withdraw(raw: bytes) -> WithdrawRequest:
    """Decode the input of `withdraw`."""
    return decode(raw, WithdrawRequest, "withdraw")


class StopRequest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The input of `stop`: the stream that is to stop, or all that are unfinished, and why.

    `cancel`: the invocation that writes the stream ends as well; the stream is named after it.
    """

    id: str | None = None
    reason: str | None = None
    cancel: bool = False


def decode_stop(raw: bytes) -> StopRequest:
    """Decode and check the input of `stop`."""
    request = decode(raw, StopRequest, "stop")
    check_stop(request)
    return request


def check_stop(request: StopRequest) -> None:
    """Refuse a stream's name or a reason that is none, and to cancel what is no invocation."""
    check_reason(request.reason)
    if request.id is None:
        return
    check_stream_id(request.id)
    if request.cancel and invocation_of(request.id) is None:
        msg = (
            f"stop: cancel: the stream {request.id[:80]!r} is not named after an invocation; only one that is opened "
            "with step=ctx, or whose id is an invocation's, can be cancelled with it"
        )
        raise InvalidRequest(msg)


class Stopped(msgspec.Struct, omit_defaults=True):
    """The output of `stop`: where its event is, the streams that are stopped, and the invocations that are cancelled.

    Where nothing was unfinished, there is no event, and `offset` is the topic's tail.
    """

    offset: int
    stopped: list[str]
    cancelled: list[str] = []


class UnsealRequest(msgspec.Struct):
    """The input of `unseal`."""

    page: int = 0


class Unsealed(msgspec.Struct):
    """The output of `unseal`."""

    pages: int
    next: int | None = None


def decode_unseal(raw: bytes) -> int:
    """Decode the input of `unseal`: the page to begin at."""
    page = decode(raw, UnsealRequest, "unseal").page
    check_offset(page, "unseal")
    return page


def decode_count(raw: bytes) -> int:
    """Decode the input of `truncate`: an integer of 0 or more."""
    try:
        count = msgspec.json.decode(raw, type=int)
    except (msgspec.DecodeError, UnicodeDecodeError):
        count = -1
    if count < 0:
        msg = f"truncate: {shown(raw)} is not a count of messages; send an integer of 0 or more"
        raise InvalidRequest(msg)
    return count


def _extras(batch: Batch, *, with_offset: bool) -> bytes:
    return b"".join(
        (
            b',"offset":%d' % batch.offset if with_offset else b"",
            event_names(batch.placed()),
            b',"closed":true' if batch.closed else b"",
            b',"head":%d' % batch.head if batch.head is not None else b"",
            b',"spans":' + msgspec.json.encode(batch.spans) if batch.spans else b"",
            b',"trace":' + msgspec.json.encode(batch.trace) if batch.trace else b"",
            b',"whole":%d' % batch.whole if batch.whole is not None else b"",
        )
    )


def encode_pull_response(batch: Batch, *, with_offset: bool) -> bytes:
    """Write the answer to a pull. `events` names events by offset; `offset` goes to callers that named themselves."""
    extras = _extras(batch, with_offset=with_offset)
    return b'{"messages":[%b],"nextOffset":%d%b}' % (join(batch.messages), batch.next_offset, extras)


def decode_pull_response(raw: bytes, requested: int) -> Batch:
    """Read the answer to a pull from `requested`."""
    answer, texts, _ = decode_messages(raw, PullResponse, "pull response", "messages")
    offset = requested if answer.offset is None else answer.offset
    found = named(offset, texts, answer.events, answer.spans)
    spans, trace = answer.spans, answer.trace
    return Batch(offset, found, answer.next_offset, answer.closed, answer.head, spans, trace, answer.whole)


def encode_notification(batch: Batch) -> bytes:
    """Write what a waiting pull's awakeable is resolved with."""
    extras = _extras(batch, with_offset=True)
    return b'{"newOffset":%d,"newMessages":[%b]%b}' % (batch.next_offset, join(batch.messages), extras)


def decode_notification(raw: bytes, requested: int) -> Batch:
    """Read what a waiting pull from `requested` was woken with."""
    news, texts, _ = decode_messages(raw, Notification, "notification", "newMessages")
    offset = requested if news.offset is None else news.offset
    found = named(offset, texts, news.events)
    return Batch(offset, found, news.new_offset, news.closed, news.head, trace=news.trace)
