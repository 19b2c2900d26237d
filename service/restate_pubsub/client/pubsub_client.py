"""The client: publish, append, pull and the rest over Restate's ingress, from any Python program.

A handler's refusal (a 4xx) is raised at once, with its text. A network fault or an error of the ingress is tried
again; writes carry an idempotency key, so that one that arrived twice counts once.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from restate_pubsub.backoff import Backoff, PollPace
from restate_pubsub.client.event_stream import event_stream
from restate_pubsub.client.numbering import next_step
from restate_pubsub.client.outage import Outage
from restate_pubsub.client.stop_watch import StopWatch
from restate_pubsub.client.token_stream import RECOUNTS, TokenStream
from restate_pubsub.errors import CallAborted, InvalidRequest, PubsubError, PullTimeout, Unavailable
from restate_pubsub.ingress import Ingress, answers
from restate_pubsub.ingress.connection import ANSWER_SECONDS
from restate_pubsub.protocol import calls, names
from restate_pubsub.protocol.joined import check_field
from restate_pubsub.protocol.json_text import dump, read
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Batch, Message

if TYPE_CHECKING:
    from types import TracebackType

PULL_SECONDS = 15.0
"""How long a reader's call waits for news. With the ingress's spare time it is over 25 s after a link has died, whoever
keeps the connection alive meanwhile: so every reader is back within half a minute of the link.
"""
LAST_TRY_SECONDS = 1.0
"""The last try of a call may take so long past the retry policy's time, not as long as the first."""
MAX_KEY_LENGTH = 256
ONCE = "once/"
"""What the streams of `publish(once=…)` begin their id with."""


class _Received(NamedTuple):
    offset: int
    data: Any
    event: str | None = None


class Received(_Received):
    """A message as a reader gets it: its offset, its data decoded, and the name of its event if it has one.

    `next_offset` is where to go on after it. A joined message covers more than one offset.
    """

    next_offset: int

    def __new__(cls, offset: int, data: Any, event: str | None = None, *, next_offset: int | None = None) -> Self:
        """Make one; without `next_offset` it covers its own offset."""
        made = super().__new__(cls, offset, data, event)
        made.next_offset = offset + 1 if next_offset is None else next_offset
        return made


class Appended(NamedTuple):
    """Where a batch went: `[offset, next_offset)`."""

    offset: int
    next_offset: int


class Stopped(NamedTuple):
    """What a stop did: where its event is, which streams are stopped, and which invocations are cancelled.

    Where nothing was unfinished, `offset` is the topic's tail, and the rest is empty.
    """

    offset: int
    stopped: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call that got no answer is tried again: waits double from `first` to `longest`, for `seconds` in all."""

    first: float = 0.05
    longest: float = 5.0
    seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse waits that would never grow."""
        if not (0 < self.first <= self.longest and self.seconds >= 0):
            msg = f"{self}: use 0 < first <= longest and seconds >= 0"
            raise InvalidRequest(msg)

    def backoff(self) -> Backoff:
        """Return the waits, from the first on."""
        return Backoff(self.first, self.longest)


class PubsubClient:
    """A client of one pubsub object. Use it as an async context manager, or close it.

    One that is made once, at module level, works in every `asyncio.run` and in several loops side by side: each loop
    has connections of its own, which are closed when it shuts down.
    """

    def __init__(self, ingress: Ingress, *, retry: RetryPolicy | None = None, limits: Limits | None = None) -> None:
        """See `create_pubsub_client`."""
        self._ingress = ingress
        self._retry = retry or RetryPolicy()
        self.limits = limits or Limits()
        self._stops = StopWatch()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close_connections()

    async def close_connections(self) -> None:
        """Close the connections to Restate."""
        await self._stops.close()
        await self._ingress.close()

    # --- writes ------------------------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        message: Any,
        *,
        event: str | None = None,
        idempotency_key: str | None = None,
        once: str | None = None,
    ) -> int:
        """Append one message and return its offset.

        Args:
            topic: the topic; any non-empty text.
            message: anything that `json.dumps` takes.
            event: a name that browsers get as the event's type.
            idempotency_key: repeat it, and the message is published once. Without one, only this call's own
                retries are protected. Restate remembers it for an hour (PUBSUB_IDEMPOTENCY_RETENTION).
            once: repeat it, and the message is published once for as long as the topic keeps the first one, and an
                hour at least; whatever the repetition says, the first one stands. For what a handler publishes outside
                of its journal, where a replay may come days later.

        Raises:
            TopicClosed, TooLarge, InvalidRequest: the object refused.
            CallAborted: an operator killed or cancelled the call; the message may be there or not.
            WrongAddress: this is not Restate's ingress, or not this project's object.
            Unavailable: no answer within the retry policy's time; the text says why.

        """
        if once is not None:
            if idempotency_key is not None:
                msg = "publish: give either once or idempotency_key: once holds longer"
                raise InvalidRequest(msg)
            return await self._publish_once(topic, Message(dump(message), event), once)
        if event is not None:
            return (await self.append(topic, [(message, event)], idempotency_key=idempotency_key)).offset
        answer = await self._write(topic, "publish", dump(message), idempotency_key)
        return answers.shaped(answer, answers.Published, self._ingress.target(topic, "publish")).offset

    async def append(
        self,
        topic: str,
        messages: Iterable[Any],
        *,
        close: bool = False,
        join: str | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append messages in one atomic step; `(data, "event")` pairs give a message an event's name.

        `close` ends the topic with the last of them. `join` names the field whose text continues from one message to
        the next, as in `stream`. Errors are as for `publish`.
        """
        entries = [Message(dump(data), event) for data, event in map(_entry, messages)]
        for entry in entries:
            names.check_event(entry.event)
        return await self.append_encoded(topic, entries, close=close, join=join, idempotency_key=idempotency_key)

    async def _publish_once(self, topic: str, message: Message, once: str) -> int:
        """Append a counted stream of one message: where the topic has it, nothing is added."""
        names.check_event(message.event)
        stream = calls.StreamRef(f"{ONCE}{once}", start=0)
        names.check_stream_id(stream.id)
        backoff, again = Backoff(0.1, 2.0), 0
        while True:
            try:
                return (await self.append_encoded(topic, [message], stream=stream)).offset
            except CallAborted:  # the message may be there or not; sent again, it is there once
                again += 1
                if again > RECOUNTS:
                    raise
            await asyncio.sleep(backoff.next())

    def stream(
        self,
        topic: str,
        *,
        id: str | None = None,  # noqa: A002
        step: Any = None,
        close: bool = False,
        linger: float = 0.0,
        join: str | None = None,
    ) -> TokenStream:
        """Return a writer for tokens, to be used with `async with`; see `TokenStream`.

        Args:
            topic: where the tokens go.
            id: names the stream. Opened again under the same id (a durable step that is retried), it first
                announces that with a `restart` event, whose data are `{"id", "offset"}`: readers drop what
                this stream wrote from that offset on. What an earlier attempt still tries to write is refused.
            step: a handler's context, instead of an id: names the stream after the invocation and the number of this
                stream in it. Call `stream` before the step that writes it, and enter it inside.
            close: end the topic with the stream, if the block ends without an exception. Not together with `id`:
                a step that is retried could not write to the topic that its last attempt has closed.
            linger: the least time between two calls of the stream, in seconds, at most 10. Tokens gather meanwhile, so
                many streams cost less; the first token, the end and what no call could carry together go at once.
            join: the field whose text continues from one message to the next, such as "text" of `{"text": "Hel"}`,
                `{"text": "lo"}`. Tokens that gather during a call are sent as one message, and readers who come
                later get the whole text as few messages: append the field's text, and nothing else changes.

        Raises:
            InvalidRequest: a bad topic, id, field or linger, `id` with `step`, or one of them with `close`.

        """
        if step is not None:
            if id is not None:
                msg = "stream: give either id or step: step makes an id"
                raise InvalidRequest(msg)
            id = next_step(step)  # noqa: A001
        if id is not None and close:
            msg = "stream: id and close do not go together: close the topic after the step that may be retried"
            raise InvalidRequest(msg)
        return TokenStream(
            self,
            topic,
            self.limits,
            stream_id=id,
            close=close,
            linger=linger,
            join=join,
            stops=partial(self._stops.wait_for, partial(self.batches, join=True)),
        )

    async def append_encoded(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        close: bool = False,
        stream: calls.StreamRef | None = None,
        join: str | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append messages whose data is JSON text already, perhaps as part of a stream; `join` as in `stream`."""
        check_field(join)
        body = calls.encode_append(messages, close=close, stream=stream, join=join)
        answer = await self._write(topic, "append", body, idempotency_key)
        found = answers.shaped(answer, answers.Appended, self._ingress.target(topic, "append"))
        return Appended(found.offset, found.next_offset)

    async def answer(self, topic: str, question: str, data: Any, *, idempotency_key: str | None = None) -> int:
        """Answer a question by the id in its event, and return the offset of the answer; the first one counts.

        Raises:
            AlreadyAnswered: somebody was first; `error.offset` is where that answer is.
            NoSuchQuestion: it was not asked in this topic.
            TopicClosed, TooLarge, InvalidRequest: the object refused.

        """
        return await self.answer_encoded(topic, question, dump(data), idempotency_key=idempotency_key)

    async def answer_encoded(
        self, topic: str, question: str, data: bytes, *, idempotency_key: str | None = None
    ) -> int:
        """Answer a question with data that is JSON text already."""
        body = b'{"id":%b,"data":%b}' % (msgspec.json.encode(question), data)
        answer = await self._write(topic, "answer", body, idempotency_key)
        return answers.shaped(answer, answers.Published, self._ingress.target(topic, "answer")).offset

    async def truncate(self, topic: str, count: int, *, idempotency_key: str | None = None) -> None:
        """Drop `count` messages from the head; more than there are drops all."""
        await self._write(topic, "truncate", dump(count), idempotency_key)

    async def stop(
        self,
        topic: str,
        id: str | None = None,  # noqa: A002
        *,
        reason: str | None = None,
        cancel: bool = False,
        idempotency_key: str | None = None,
    ) -> Stopped:
        """Stop the token stream `id` for good, or all of the topic that are unfinished, with the event `stop`.

        What they wrote stays. Their writers get `StreamStopped` from their next call on, and so does every later
        attempt under their ids; with an `id`, also one that was not open yet. Stopping twice is stopping once.

        Args:
            topic: the topic.
            id: the stream's; None for all that have one and are unfinished, of the newest 256 by name.
            reason: what readers and writers are told, at most 256 characters.
            cancel: cancel the invocation, too, that a stream is named after (`step=ctx`): the steps after this one do
                not run. Only of streams that were opened in this topic.
            idempotency_key: as for `publish`.

        Raises:
            InvalidRequest: a bad id or reason, or to cancel what is not named after an invocation.
            TopicClosed: the topic has ended.

        """
        request = calls.StopRequest(id, reason, cancel)
        calls.check_stop(request)
        answer = await self._write(topic, "stop", msgspec.json.encode(request), idempotency_key)
        done = answers.shaped(answer, calls.Stopped, self._ingress.target(topic, "stop"))
        return Stopped(done.offset, tuple(done.stopped), tuple(done.cancelled))

    async def close(self, topic: str) -> int:
        """End the topic, and return its tail: readers end there, further messages are refused."""
        answer = await self._write(topic, "close", None, None)
        return answers.shaped(answer, answers.Closed, self._ingress.target(topic, "close")).next_offset

    async def unseal(self, topic: str) -> AsyncIterator[int]:
        """Turn a topic back into the form of `@restatedev/pubsub`, and yield how many pages each call has turned.

        Raises:
            InvalidRequest: the deployment packs messages into pages (PUBSUB_PAGES).

        """
        page: int | None = 0
        while page is not None:
            answer = await self._write(topic, "unseal", dump({"page": page}), None)
            done = msgspec.json.decode(answer, type=calls.Unsealed)
            yield done.pages
            page = done.next

    async def delete(self, topic: str) -> None:
        """Forget the topic's messages; its offsets go on where they were."""
        await self._write(topic, "delete", None, None)

    async def _write(self, topic: str, handler: str, body: bytes | None, key: str | None) -> bytes:
        names.check_topic(topic, self.limits)
        key = uuid.uuid4().hex if key is None else key
        # A header loses the spaces at its ends, so two keys that differ in them would be one.
        if not 0 < len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable() or key != key.strip():
            msg = (
                f"The idempotency key {key[:40]!r} ({len(key)} characters): use 1 to {MAX_KEY_LENGTH} of printable "
                "ASCII, without spaces at its ends"
            )
            raise InvalidRequest(msg)
        return await self._retried(topic, handler, body, key)

    async def _retried(self, topic: str, handler: str, body: bytes | None, key: str | None) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry.seconds
        backoff, outage = self._retry.backoff(), Outage(f"{handler} on topic {topic!r}")
        seconds = ANSWER_SECONDS
        while True:
            try:
                answer = await self._ingress.call(topic, handler, body, idempotency_key=key, seconds=seconds)
            except (Unavailable, CallAborted) as error:
                if isinstance(error, CallAborted) and key is not None:
                    raise  # Restate has the same answer for this key from now on
                outage.failed(error)
                wait = backoff.next()
                if loop.time() + wait > deadline:
                    error.message = f"{error.message} (gave up after {self._retry.seconds:g} s)"
                    raise
                await asyncio.sleep(wait)
                seconds = min(ANSWER_SECONDS, max(deadline - loop.time(), LAST_TRY_SECONDS))
            else:
                outage.over()
                return answer

    # --- reads -------------------------------------------------------------------------------------------------

    async def info(self, topic: str) -> dict[str, Any]:
        """Return the topic's `head`, `tail`, `closed`, `bytes`, `subscribers` and `retention`."""
        answer, _ = await self._info(topic)
        return dict(msgspec.json.decode(answer))

    async def bounds(self, topic: str) -> answers.Bounds:
        """Return the topic's `head`, `tail` and `closed`."""
        return (await self._info(topic))[1]

    async def _info(self, topic: str) -> tuple[bytes, answers.Bounds]:
        names.check_topic(topic, self.limits)
        answer = await self._retried(topic, "info", None, None)
        return answer, answers.shaped(answer, answers.Bounds, self._ingress.target(topic, "info"))

    async def pull(self, topic: str, offset: int | None = None, *, join: bool = False) -> AsyncIterator[Received]:
        """Yield messages from `offset` on (None: those that come from now on), for ever.

        Waits, timeouts, disconnects, restarts and pulls that an operator kills are survived; while Restate does not
        answer, a warning in the log says why. The iteration ends at the tail of a closed topic.

        `join`: messages whose writer said that they continue one another in a field may come as one, with the texts of
        all of them; `next_offset` of each says where to go on.

        Raises:
            OffsetGone: the messages from `offset` on were truncated; `error.head` is where to go on.
            WrongAddress: this is not Restate's ingress.

        """
        async for batch in self.batches(topic, offset, join=join):
            for index, (at, message) in enumerate(batch.placed()):
                after = at + batch.spans.get(index, 1)
                yield Received(at, read(message.data), message.event, next_offset=after)

    def sse(
        self, topic: str, offset: int | None = None, *, heartbeat: float = 15.0, retry: float = 2.0
    ) -> AsyncIterator[bytes]:
        """Yield Server-Sent Events as bytes, for any ASGI framework's streaming response.

        They are what the service sends: first a comment and `retry`, then messages, whose `id` is the offset to go on
        at, so pass `Last-Event-ID` as `offset`; `reset` where messages are gone, `end` after the last one of a closed
        topic, a comment after every `heartbeat` silent seconds. Without an `offset` a lone `id` says where it begins.

        A status is the framework's to send: answer 204, which stops an `EventSource` for good, to a `Last-Event-ID`
        at or past the `tail` of a topic whose `info` says `closed`. Every reader of this method is a pull of its own;
        for many readers, point them at the service.

        Args:
            topic: the topic.
            offset: where to begin; None for what comes from now on.
            heartbeat: seconds.
            retry: seconds that a browser waits at least before it connects again; at most twice that.

        Raises:
            InvalidRequest: a bad topic or offset.

        """
        names.check_topic(topic, self.limits)
        names.check_offset(offset, "sse")
        return event_stream(self, topic, offset, heartbeat=heartbeat, retry=retry)

    async def batches(self, topic: str, offset: int | None = None, *, join: bool = False) -> AsyncIterator[Batch]:
        """Yield what `pull` does as it comes: batches of messages whose data is JSON text, perhaps empty ones."""
        names.check_topic(topic, self.limits)
        if offset is None:  # fixed now, so that nothing is missed between two pulls
            offset = (await self.bounds(topic)).tail
        loop = asyncio.get_running_loop()
        backoff, pace, outage = self._retry.backoff(), PollPace(), Outage(f"pull of topic {topic!r}")
        while True:
            began = loop.time()
            batch: Batch | None = None
            try:
                batch = await self._ingress.pull(topic, offset, wait=PULL_SECONDS, join=join)
            except PullTimeout:
                pass
            except PubsubError as error:
                # Restate kills a read that it could not run for some ten seconds, and answers 500.
                if error.status < 500:
                    raise
                outage.failed(error)
                await asyncio.sleep(backoff.next())
                continue
            took = loop.time() - began
            outage.over()
            backoff.reset()
            moved = batch is not None and (batch.closed or batch.next_offset > offset)
            if batch is not None:
                offset = batch.next_offset
                yield batch
                if batch.closed:
                    return
            if pause := pace.after(took, PULL_SECONDS, moved=moved):
                await asyncio.sleep(pause)


def _entry(message: Any) -> tuple[Any, str | None]:
    if isinstance(message, tuple) and len(message) == 2 and isinstance(message[1], str):
        return message
    return message, None


def create_pubsub_client(
    url: str = "http://localhost:8080",
    name: str = "pubsub",
    *,
    token: str | None = None,
    retry: RetryPolicy | None = None,
    limits: Limits | None = None,
) -> PubsubClient:
    """Return a client of the pubsub object `name` behind the ingress at `url`.

    Args:
        url: Restate's ingress.
        name: the object's name, as given to `create_pubsub_object`.
        token: a bearer token (Restate Cloud).
        retry: how calls that got no answer are tried again.
        limits: the object's limits, if they are not the default ones.

    `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are honoured as they are now; this machine itself is reached directly.

    Raises:
        WrongAddress: `url` is no URL of an ingress.
        ConfigError: the environment names a proxy that does not speak HTTP.

    """
    return PubsubClient(Ingress(url, name, token), retry=retry, limits=limits)
