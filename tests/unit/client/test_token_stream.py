"""The token stream: when it calls, what a call carries, and what it says when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from restate_pubsub.client import token_stream
from restate_pubsub.client.pubsub_client import Appended
from restate_pubsub.client.token_stream import TokenStream
from restate_pubsub.errors import (
    CallAborted,
    InvalidMessage,
    InvalidRequest,
    StreamFailed,
    StreamStopped,
    TooLarge,
    TopicClosed,
    Unavailable,
)
from restate_pubsub.protocol.calls import StreamRef
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.protocol.messages import Message
from support.waiting import until


class Log:
    """An appender in memory; calls wait while `gate` is shut."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.keys: list[str | None] = []
        self.refs: list[StreamRef | None] = []
        self.closed = False
        self.calls = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: Exception | None = None
        self.aborts = 0
        self.joins: list[str | None] = []
        self.lost: list[str | None] = []

    @property
    def messages(self) -> list[bytes]:
        return [message for batch in self.batches for message in batch]

    async def append_encoded(
        self,
        topic: str,
        messages: Sequence[Message],
        *,
        close: bool = False,
        stream: StreamRef | None = None,
        join: str | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        self.calls += 1
        self.most = max(self.most, self.calls)
        try:
            await self.gate.wait()
        finally:
            self.calls -= 1
        if self.refuse is not None:
            raise self.refuse
        if self.aborts:
            self.aborts -= 1
            self.lost.append(idempotency_key)
            how = "killed"
            raise CallAborted.named(how, topic, "append")
        first = sum(map(len, self.batches))
        self.batches.append([message.data for message in messages])
        self.keys.append(idempotency_key)
        self.refs.append(stream)
        self.joins.append(join)
        self.closed = close
        return Appended(first, first + len(messages))


@pytest.fixture
async def log() -> Log:
    return Log()


async def test_the_first_token_goes_at_once_and_the_rest_gathers(log: Log) -> None:
    """While the first call is in flight, the next batch gathers; never two calls at a time."""
    log.gate.clear()
    async with TokenStream(log, "t", Limits()) as stream:
        await stream.write(0)
        await until(lambda: log.calls, "the first call")
        for at in range(1, 100):
            await stream.write(at)
        assert log.batches == []
        log.gate.set()
    assert [len(batch) for batch in log.batches] == [1, 99]
    assert [b"%d" % at for at in range(100)] == log.messages
    assert log.most == 1
    assert (stream.offset, stream.next_offset, stream.acknowledged, stream.written) == (0, 100, 100, 100)


async def test_every_batch_has_a_key_of_its_own(log: Log) -> None:
    """So that a call that is tried again counts once, and no other is taken for it."""
    for _ in range(2):
        async with TokenStream(log, "t", Limits()) as stream:
            for at in range(3):
                await stream.write(at)
                await until(lambda at=at: stream.acknowledged == at + 1, "the token to arrive")  # type: ignore[misc]
    assert len(set(log.keys)) == 6
    assert None not in log.keys


async def test_a_writer_too_far_ahead_waits(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on when there is room."""
    monkeypatch.setattr(token_stream, "WAITING_MESSAGES", 3)
    log.gate.clear()
    async with TokenStream(log, "t", Limits()) as stream:
        await stream.write(0)
        await until(lambda: log.calls, "the first call")
        for at in range(1, 4):
            await stream.write(at)
        blocked = asyncio.create_task(stream.write(4))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not blocked.done()
        log.gate.set()
        await blocked
    assert stream.acknowledged == 5


async def test_a_batch_is_no_larger_than_one_call_may_carry(log: Log) -> None:
    """In count and in bytes."""
    log.gate.clear()
    async with TokenStream(log, "t", Limits(batch_messages=4, batch_bytes=10)) as stream:
        for at in range(10):
            await stream.write(at)
        for _ in range(3):
            await stream.write("xxxx")
        log.gate.set()
    assert all(len(batch) <= 4 and sum(map(len, batch)) <= 10 for batch in log.batches)
    assert stream.acknowledged == 13


async def test_a_refusal_raises_on_the_next_write_and_says_how_far_it_got(log: Log) -> None:
    """What was acknowledged stays."""
    with pytest.raises(StreamFailed, match="1 of 2 messages are there, up to offset 1: Topic 't' was closed") as caught:
        async with TokenStream(log, "t", Limits()) as stream:
            await stream.write(0)
            await until(lambda: stream.acknowledged, "the first token to arrive")
            log.refuse = TopicClosed.at("t", 1)
            await stream.write(1)
            await until(lambda: stream._failed, "the refusal")
            await stream.write(2)
    assert (caught.value.acknowledged, caught.value.next_offset, caught.value.status) == (1, 1, 409)


async def test_a_refusal_of_the_last_batch_raises_at_the_end(log: Log) -> None:
    """Leaving the block flushes, and tells."""
    log.refuse = TopicClosed.at("t", 0)
    with pytest.raises(StreamFailed, match="0 of 1 messages"):
        async with TokenStream(log, "t", Limits()) as stream:
            await stream.write(0)


@pytest.mark.parametrize(
    ("data", "event", "error"), [({1}, None, InvalidMessage), ("x" * 50, None, TooLarge), (1, "a b", InvalidRequest)]
)
async def test_a_message_that_cannot_be_written_does_not_end_the_stream(
    log: Log, data: object, event: str | None, error: type[Exception]
) -> None:
    """It is refused where it is written; the others arrive."""
    async with TokenStream(log, "t", Limits(message_bytes=40)) as stream:
        await stream.write(1)
        with pytest.raises(error):
            await stream.write(data, event=event)
        await stream.write(2)
    assert log.messages == [b"1", b"2"]


async def test_an_exception_in_the_block_keeps_what_was_written_and_closes_nothing(log: Log) -> None:
    """Readers see the words up to the failure."""
    with pytest.raises(RuntimeError, match="model"):
        async with TokenStream(log, "t", Limits(), close=True) as stream:
            await stream.write(1)
            raise RuntimeError("model gone")  # noqa: EM101, TRY003
    assert (log.batches, log.closed) == ([[b"1"]], False)


@pytest.mark.parametrize("written", [0, 1])
async def test_close_ends_the_topic_with_the_last_message(log: Log, written: int) -> None:
    """In the same atomic append, or in an empty one where everything has gone already."""
    async with TokenStream(log, "t", Limits(), close=True) as stream:
        for at in range(written):
            await stream.write(at)
    assert log.closed


async def test_cancelling_the_writer_cancels_the_stream(log: Log) -> None:
    """Nobody waits for a flush that may take long."""
    log.gate.clear()

    async def write() -> None:
        async with TokenStream(log, "t", Limits()) as stream:
            await stream.write(1)
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await until(lambda: log.calls, "the call")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert log.calls == 0


async def test_an_attempt_is_opened_before_its_block_and_named_in_every_batch(log: Log) -> None:
    """The order of attempts is that of their opening, whenever their tokens come."""
    async with TokenStream(log, "t", Limits(), stream_id="s") as stream:
        assert [StreamRef("s", stream._attempt, first=True)] == log.refs
        for at in range(2):
            await stream.write(at)
            await until(lambda at=at: stream.acknowledged == at + 1, "the token to arrive")  # type: ignore[misc]
    first, second, end = log.refs[1:]
    assert first == second == StreamRef("s", stream._attempt)
    assert end == StreamRef("s", stream._attempt, last=True)


async def test_the_end_comes_with_the_last_batch(log: Log) -> None:
    """It costs a call of its own only where nothing waits to be sent; nor does a failed block say that it ended."""
    async with TokenStream(log, "t", Limits(), stream_id="s") as stream:
        await stream.write(0)
        await stream.write(1)
    assert [b"1"] == log.batches[-1]
    opened, first, last = log.refs
    assert (opened, first) == (StreamRef("s", stream._attempt, first=True), StreamRef("s", stream._attempt))
    assert last == StreamRef("s", stream._attempt, last=True)
    with pytest.raises(ZeroDivisionError):
        async with TokenStream(log, "t", Limits(), stream_id="s") as failed:
            await failed.write(1)
            raise ZeroDivisionError
    assert [StreamRef("s", failed._attempt, first=True), StreamRef("s", failed._attempt)] == log.refs[3:]


@pytest.mark.parametrize("refusal", [Unavailable("gone"), CallAborted("killed"), TopicClosed("closed")])
async def test_all_is_there_even_if_the_end_cannot_be_said(log: Log, refusal: Exception) -> None:
    """The step is done; its stream counts as unfinished."""
    async with TokenStream(log, "t", Limits(), stream_id="s") as stream:
        await stream.write(0)
        await until(lambda: stream.acknowledged, "the token to arrive")
        log.refuse = refusal
    assert [b"0"] == log.messages


async def test_who_is_stopped_at_the_end_is_told(log: Log) -> None:
    """Though all of it is there: whoever pressed stop wants no more of this."""
    with pytest.raises(StreamStopped):
        async with TokenStream(log, "t", Limits(), stream_id="s") as stream:
            await stream.write(0)
            await until(lambda: stream.acknowledged, "the token to arrive")
            log.refuse = StreamStopped("enough")


async def test_a_write_that_nobody_would_send_is_refused(log: Log) -> None:
    """Before the block, after it, in a block that was cancelled, and by a task that waited when it ended."""
    stream = TokenStream(log, "t", Limits())
    with pytest.raises(InvalidRequest, match="async with"):
        await stream.write(0)
    async with stream:
        await stream.write(1)
    with pytest.raises(InvalidRequest, match="its block has ended"):
        await stream.write(2)
    with pytest.raises(InvalidRequest, match="used before"):
        async with stream:
            pass
    assert (log.messages, stream.written) == ([b"1"], 1)


async def test_a_task_that_waits_for_room_when_the_block_ends_is_told(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is not counted among those that were written."""
    monkeypatch.setattr(token_stream, "WAITING_MESSAGES", 1)
    log.gate.clear()
    async with TokenStream(log, "t", Limits()) as stream:
        await stream.write(0)
        await until(lambda: log.calls, "the first call")
        await stream.write(1)
        late = asyncio.create_task(stream.write(2))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(log.gate.set)
    with pytest.raises(InvalidRequest, match="its block has ended"):
        await late
    assert (log.messages, stream.written, stream.acknowledged) == ([b"0", b"1"], 2, 2)


async def test_a_cancelled_block_takes_no_more(log: Log) -> None:
    """What was written is lost with it, as its owner wanted; what comes later is refused."""
    log.gate.clear()
    stream = TokenStream(log, "t", Limits())

    async def write() -> None:
        async with stream:
            await stream.write(1)
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await until(lambda: log.calls, "the call")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises((InvalidRequest, StreamFailed)):
        await stream.write(2)


async def test_whatever_ends_the_sender_wakes_the_writer(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of, too: a writer that waits for room learns of it."""
    monkeypatch.setattr(token_stream, "WAITING_MESSAGES", 1)
    log.gate.clear()
    log.refuse = RuntimeError("a bug")
    with pytest.raises(StreamFailed, match="a bug"):
        async with asyncio.timeout(10), TokenStream(log, "t", Limits()) as stream:
            await stream.write(0)
            await until(lambda: log.calls, "the call")
            await stream.write(1)
            asyncio.get_running_loop().call_soon(log.gate.set)
            await stream.write(2)


async def test_a_counted_stream_sends_again_what_an_operator_ended(log: Log) -> None:
    """Under another key, as the old one's answer stands; the topic passes over what it has."""
    log.aborts = 2
    async with TokenStream(log, "t", Limits(), stream_id="s", resume=True, close=True) as stream:
        await stream.write(0)
    assert (log.messages, log.closed, stream.acknowledged) == ([b"0"], True, 1)
    assert len({*log.lost, *log.keys}) == len(log.lost) + len(log.keys)
    assert {ref.start for ref in log.refs if ref is not None} <= {0, 1}


async def test_a_counted_stream_does_not_send_again_for_ever(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who ends every call means it."""
    monkeypatch.setattr(token_stream, "RECOUNTS", 1)
    log.aborts = 100
    with pytest.raises(StreamFailed, match="killed"):
        async with TokenStream(log, "t", Limits(), stream_id="s", resume=True) as stream:
            await stream.write(0)
    assert len(log.lost) == 2


@pytest.mark.parametrize("stream_id", [None, "s"])
async def test_a_stream_that_is_not_counted_ends_where_nobody_knows(log: Log, stream_id: str | None) -> None:
    """Never twice, never silently lost: what is there, what may be, and that another attempt may help."""
    with pytest.raises(StreamFailed, match=r"1 of 3 messages are there, up to offset 1 \(the next 2 may be") as caught:
        async with TokenStream(log, "t", Limits(), stream_id=stream_id) as stream:
            await stream.write(0)
            await until(lambda: stream.acknowledged, "the first token")
            log.aborts = 1
            await stream.write(1)
            await stream.write(2)
    failed = caught.value
    assert (failed.acknowledged, failed.uncertain, failed.next_offset, failed.final) == (1, 2, 1, False)
    assert isinstance(failed.cause, CallAborted)
    assert len(log.lost) == 1


@pytest.mark.parametrize(("cause", "uncertain"), [(TopicClosed.at("t", 0), 0), (Unavailable("gone"), 1)])
async def test_a_refusal_is_certain_and_silence_is_not(log: Log, cause: Exception, uncertain: int) -> None:
    """A topic that is closed took nothing; a call without an answer may have been done."""
    log.refuse = cause
    with pytest.raises(StreamFailed) as caught:
        async with TokenStream(log, "t", Limits()) as stream:
            await stream.write(0)
    assert caught.value.uncertain == uncertain


@pytest.mark.parametrize("stream_id", ["", "x" * 257])
def test_a_bad_stream_id_is_refused(stream_id: str) -> None:
    """By its length."""
    with pytest.raises(InvalidRequest, match="stream id"):
        TokenStream(Log(), "t", Limits(), stream_id=stream_id)


async def test_slow_calls_are_spaced_and_a_batch_that_is_full_or_last_is_not(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When calls are slow the next batch gathers; but neither a full one waits, nor the end."""
    monkeypatch.setattr(token_stream.Pace, "after", lambda _pace, _took: 3600.0)
    async with asyncio.timeout(10), TokenStream(log, "t", Limits(batch_messages=3)) as stream:
        await stream.write(0)
        await until(lambda: log.batches, "the first call")
        for at in range(1, 3):
            await stream.write(at)
            await asyncio.sleep(0)
        assert len(log.batches) == 1
        await stream.write(3)
        await until(lambda: len(log.batches) == 2, "the full batch")
        await stream.write(4)
    assert [len(batch) for batch in log.batches] == [1, 3, 1]
    async with asyncio.timeout(10), TokenStream(log, "t", Limits()) as stream:
        for _ in range(5):
            await stream.write("x" * (token_stream.WAITING_BYTES // 2))  # a writer that waits for room


def test_a_pace_follows_the_mean_call() -> None:
    """Calls that take as long as ever begin two calls apart; a slow one is followed at once; an outage is forgotten."""
    pace = token_stream.Pace()
    for _ in range(100):
        pause = pace.after(0.01)
    assert pause == pytest.approx(0.01, rel=0.01)
    assert pace.after(0.5) == 0
    pace.after(60.0)
    assert pace.after(0.01) < 0.15
    for _ in range(20):
        assert pace.after(0.25) <= token_stream.LONGEST_PAUSE


def test_a_linger_is_the_least_time_between_two_calls() -> None:
    """Counted from the beginning of the one before; calls that are slower than that are not held up by it."""
    pace = token_stream.Pace(linger=1.0)
    assert pace.after(0.25) == 0.75
    assert pace.after(2.0) == 0


async def test_tokens_gather_for_the_linger_but_the_first_and_the_end_do_not_wait(log: Log) -> None:
    """One call for the first token, and one for the rest, which the block's end sends."""
    async with asyncio.timeout(5), TokenStream(log, "t", Limits(), linger=10.0) as stream:
        await stream.write(0)
        await until(lambda: len(log.batches) == 1, "the first token's call")
        for at in range(1, 50):
            await stream.write(at)
            await asyncio.sleep(0)
        assert len(log.batches) == 1
    assert [len(batch) for batch in log.batches] == [1, 49]


async def test_what_has_gathered_goes_when_the_linger_is_over(log: Log) -> None:
    """Without another token, and no sooner."""
    loop = asyncio.get_running_loop()
    async with TokenStream(log, "t", Limits(), linger=0.2) as stream:
        await stream.write(0)
        await until(lambda: len(log.batches) == 1, "the first token's call")
        began = loop.time()
        await stream.write(1)
        await until(lambda: len(log.batches) == 2, "the second call")
        assert loop.time() - began > 0.1


@pytest.mark.parametrize("linger", [-0.1, 10.1, float("nan")])
def test_a_bad_linger_is_refused(linger: float) -> None:
    """By its value and the rule."""
    with pytest.raises(InvalidRequest, match="not between 0 and 10 seconds"):
        TokenStream(Log(), "t", Limits(), linger=linger)


async def test_what_gathers_during_a_call_is_one_message_where_the_writer_joins(log: Log) -> None:
    """With the texts of all; `written` and `acknowledged` count what was given to `write`."""
    log.gate.clear()
    async with TokenStream(log, "t", Limits(), join="text") as stream:
        await stream.write({"text": "Hel"})
        await until(lambda: log.calls, "the first call")
        for text in ("lo", " ", "you"):
            await stream.write({"text": text})
        await stream.write({"done": True})
        log.gate.set()
    assert log.messages == [b'{"text":"Hel"}', b'{"text":"lo you"}', b'{"done":true}']
    assert (stream.next_offset, stream.acknowledged, stream.written) == (3, 5, 5)
    assert {"text"} == set(log.joins)


async def test_a_counted_stream_sends_every_message_by_itself(log: Log) -> None:
    """However it is cut, a repetition counts the same."""
    async with TokenStream(log, "t", Limits(), stream_id="k", resume=True, join="text") as stream:
        for text in "abc":
            await stream.write({"text": text})
    assert [b'{"text":"a"}', b'{"text":"b"}', b'{"text":"c"}'] == log.messages
    assert {"text"} == set(log.joins)
