"""The client: publish, append, pull and the rest over Restate's ingress, from any Python program.

A handler's refusal (a 4xx) is raised at once, with its text. A network fault or an error of the ingress is tried
again; writes carry an idempotency key, so that one that arrived twice counts once.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import CallFailed, InvalidRequest, PullTimeout, Unavailable
from restate_pubsub.ingress import Ingress
from restate_pubsub.protocol import calls, names
from restate_pubsub.protocol.json_text import dump, read
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Batch, Message
from restate_pubsub.protocol.sse import HEARTBEAT, end_frame, message_frame

if TYPE_CHECKING:
    from types import TracebackType

PULL_SECONDS = 30.0
MAX_KEY_LENGTH = 256


class Received(NamedTuple):
    """A message as a reader gets it: its offset, its data decoded, and the name of its event if it has one."""

    offset: int
    data: Any
    event: str | None = None


class Appended(NamedTuple):
    """Where a batch went: `[offset, next_offset)`."""

    offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call that got no answer is tried again: waits double from `first` to `longest`, for `seconds` in all."""

    first: float = 0.05
    longest: float = 5.0
    seconds: float = 60.0


class PubsubClient:
    """A client of one pubsub object. Use it as an async context manager, or close it."""

    def __init__(self, ingress: Ingress, *, retry: RetryPolicy | None = None, limits: Limits | None = None) -> None:
        """See `create_pubsub_client`."""
        self._ingress = ingress
        self._retry = retry or RetryPolicy()
        self.limits = limits or Limits()

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
        await self._ingress.close()

    # --- writes ------------------------------------------------------------------------------------------------

    async def publish(
        self, topic: str, message: Any, *, event: str | None = None, idempotency_key: str | None = None
    ) -> int:
        """Append one message and return its offset.

        Args:
            topic: the topic; any non-empty text.
            message: anything that `json.dumps` takes.
            event: a name that browsers get as the event's type.
            idempotency_key: repeat it, and the message is published once. Without one, only this call's own
                retries are protected.

        Raises:
            TopicClosed, TooLarge, InvalidRequest: the object refused.
            Unavailable: no answer within the retry policy's time.

        """
        if event is not None:
            return (await self.append(topic, [(message, event)], idempotency_key=idempotency_key)).offset
        answer = await self._write(topic, "publish", dump(message), idempotency_key)
        return int(msgspec.json.decode(answer)["offset"])

    async def append(
        self, topic: str, messages: Iterable[Any], *, close: bool = False, idempotency_key: str | None = None
    ) -> Appended:
        """Append messages in one atomic step; `(data, "event")` pairs give a message an event's name.

        `close` ends the topic with the last of them. Errors are as for `publish`.
        """
        entries = [Message(dump(data), event) for data, event in map(_entry, messages)]
        return await self.append_encoded(topic, entries, close=close, idempotency_key=idempotency_key)

    def stream(self, topic: str, *, id: str | None = None, close: bool = False) -> TokenStream:  # noqa: A002
        """Return a writer for tokens, to be used with `async with`; see `TokenStream`.

        Args:
            topic: where the tokens go.
            id: names the stream. Opened again under the same id (a durable step that is retried), it first
                announces that with a `restart` event, whose data are `{"id", "offset"}`: readers drop what
                this stream wrote from that offset on. What an earlier attempt still tries to write is refused.
            close: end the topic with the stream, if the block ends without an exception. Not together with `id`:
                a step that is retried could not write to the topic that its last attempt has closed.

        Raises:
            InvalidRequest: a bad topic or id, or `id` with `close`.

        """
        if id is not None and close:
            msg = "stream: id and close do not go together: close the topic after the step that may be retried"
            raise InvalidRequest(msg)
        return TokenStream(self, topic, self.limits, stream_id=id, close=close)

    async def append_encoded(
        self,
        topic: str,
        messages: Iterable[Message],
        *,
        close: bool = False,
        stream: calls.StreamRef | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append messages whose data is JSON text already, perhaps as part of a stream."""
        body = calls.encode_append(messages, close=close, stream=stream)
        answer = msgspec.json.decode(await self._write(topic, "append", body, idempotency_key))
        return Appended(answer["offset"], answer["nextOffset"])

    async def truncate(self, topic: str, count: int, *, idempotency_key: str | None = None) -> None:
        """Drop `count` messages from the head; more than there are drops all."""
        await self._write(topic, "truncate", dump(count), idempotency_key)

    async def close(self, topic: str) -> int:
        """End the topic, and return its tail: readers end there, further messages are refused."""
        answer = await self._write(topic, "close", None, None)
        return int(msgspec.json.decode(answer)["nextOffset"])

    async def delete(self, topic: str) -> None:
        """Forget the topic's messages; its offsets go on where they were."""
        await self._write(topic, "delete", None, None)

    async def _write(self, topic: str, handler: str, body: bytes | None, key: str | None) -> bytes:
        names.check_topic(topic, self.limits)
        key = key or uuid.uuid4().hex
        if len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
            msg = (
                f"The idempotency key {key[:40]!r} ({len(key)} characters): use 1 to {MAX_KEY_LENGTH}, printable ASCII"
            )
            raise InvalidRequest(msg)
        return await self._retried(topic, handler, body, key)

    async def _retried(self, topic: str, handler: str, body: bytes | None, key: str | None) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry.seconds
        delay = self._retry.first
        while True:
            try:
                return await self._ingress.call(topic, handler, body, idempotency_key=key)
            except Unavailable:
                if loop.time() + delay > deadline:
                    raise
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            delay = min(delay * 2, self._retry.longest)

    # --- reads -------------------------------------------------------------------------------------------------

    async def info(self, topic: str) -> dict[str, Any]:
        """Return the topic's `head`, `tail`, `closed`, `bytes`, `subscribers` and `retention`."""
        names.check_topic(topic, self.limits)
        answer: dict[str, Any] = msgspec.json.decode(await self._retried(topic, "info", None, None))
        return answer

    async def pull(self, topic: str, offset: int | None = None) -> AsyncIterator[Received]:
        """Yield messages from `offset` on (None: those that come from now on), for ever.

        Waits, timeouts, disconnects and restarts are survived. The iteration ends at the tail of a closed topic.

        Raises:
            OffsetGone: the messages from `offset` on were truncated; `error.head` is where to go on.

        """
        async for batch in self._batches(topic, offset):
            for at, message in enumerate(batch.messages, batch.offset):
                yield Received(at, read(message.data), message.event)

    async def sse(self, topic: str, offset: int | None = None, *, heartbeat: float = 15.0) -> AsyncIterator[bytes]:
        """Yield Server-Sent Events as bytes, for any ASGI framework's streaming response.

        Frames are those of the service: `id` is the offset to go on at, so pass `Last-Event-ID` as `offset`.
        Every reader of this method is a pull of its own; for many readers, point them at the service.
        """
        yield HEARTBEAT
        batches = aiter(self._batches(topic, offset))
        waiting = asyncio.ensure_future(anext(batches))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=heartbeat)
                if not done:
                    yield HEARTBEAT
                    continue
                try:
                    batch = waiting.result()
                except StopAsyncIteration:
                    return
                frames = [message_frame(at, message) for at, message in enumerate(batch.messages, batch.offset)]
                if frames:
                    yield b"".join(frames)
                if batch.closed:
                    yield end_frame(batch.next_offset)
                waiting = asyncio.ensure_future(anext(batches))
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _batches(self, topic: str, offset: int | None) -> AsyncIterator[Batch]:
        names.check_topic(topic, self.limits)
        if offset is None:  # fixed now, so that nothing is missed between two pulls
            offset = int((await self.info(topic))["tail"])
        delay = self._retry.first
        while True:
            request = msgspec.json.encode({"offset": offset, "timeout": PULL_SECONDS})
            try:
                answer = await self._ingress.call(topic, "pull", request, seconds=PULL_SECONDS + 10.0)
            except PullTimeout:
                continue
            except (Unavailable, CallFailed) as error:
                # Restate kills a read that it could not run for some ten seconds, and answers 500.
                if error.status < 500:
                    raise
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, self._retry.longest)
                continue
            delay = self._retry.first
            batch = calls.decode_pull_response(answer, offset)
            offset = batch.next_offset
            yield batch
            if batch.closed:
                return


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

    """
    return PubsubClient(Ingress(url, name, token), retry=retry, limits=limits)
