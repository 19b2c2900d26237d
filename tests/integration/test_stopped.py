"""A writer whose model is silent learns that its stream was stopped, at little cost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from restate_pubsub import (
    InvalidRequest,
    PubsubClient,
    StreamFailed,
    StreamStopped,
    TopicClosed,
    create_pubsub_client,
)
from restate_pubsub.client import stop_watch
from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.protocol.messages import Batch
from support.harness import ROOT, Service, topic_name
from support.waiting import until

SOON = 3.0
"""Seconds: a second is promised, on a machine that has nothing else to do."""


@pytest.fixture
async def client(restate: RestateServer, service: Service) -> AsyncIterator[PubsubClient]:
    """Return a client of the running service."""
    assert service.process is not None
    async with create_pubsub_client(restate.ingress_url) as client:
        yield client


class Pulls:
    """Counts the pulls of a client."""

    def __init__(self, client: PubsubClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        pull = client._ingress.pull

        async def counted(*args: Any, **options: Any) -> Batch:
            self.count += 1
            return await pull(*args, **options)

        monkeypatch.setattr(client._ingress, "pull", counted)


@pytest.mark.parametrize("named", [True, False])
async def test_a_silent_writer_learns_of_a_stop(client: PubsubClient, topic: str, *, named: bool) -> None:
    """Of its own stream, and of all that are unfinished; the reason comes along, and the block ends as it should."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            await stream.write("hello")
            await until(lambda: stream.acknowledged, "the first token")
            told = await client.stop(topic, "answer" if named else None, reason="enough")
            stopped = await asyncio.wait_for(stream.stopped, SOON)
            assert isinstance(stopped, StreamStopped)
            assert (told.offset, "enough") == (stopped.offset, stopped.reason)
            await stream.write("nobody wants this")


async def test_a_stop_before_anybody_waits_is_not_missed(client: PubsubClient, topic: str) -> None:
    """The wait begins where the last answer proved that there was no stop."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            await client.stop(topic, "answer")
            await client.append(topic, [{"n": n} for n in range(100)])
            await asyncio.wait_for(stream.stopped, SOON)


async def test_a_stop_of_another_stream_is_none_of_this_one(client: PubsubClient, topic: str) -> None:
    """The others go on waiting, and are told of their own."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="one") as one:
            first = one.stopped
            with pytest.raises(StreamStopped):
                async with client.stream(topic, id="two") as two:
                    second = two.stopped
                    await client.stop(topic, "two")
                    assert isinstance(await asyncio.wait_for(second, SOON), StreamStopped)
            assert not first.done()
            await client.stop(topic, "one")
            assert isinstance(await asyncio.wait_for(first, SOON), StreamStopped)


async def test_the_end_of_a_stream_ends_the_wait(client: PubsubClient, topic: str) -> None:
    """Nobody stopped it: the result is None."""
    async with client.stream(topic, id="answer") as stream:
        stopped = stream.stopped
        await stream.write("all")
    assert await asyncio.wait_for(stopped, SOON) is None


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting(client: PubsubClient, topic: str) -> None:
    """Whoever waits beside it is told that it is over."""
    waiting: list[asyncio.Future[StreamStopped | None]] = []

    async def write() -> None:
        async with client.stream(topic, id="answer") as stream:
            waiting.append(stream.stopped)
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await until(lambda: waiting, "the stream")
    task.cancel()
    assert await asyncio.wait_for(waiting[0], SOON) is None


async def test_many_streams_of_a_topic_share_one_reader(
    client: PubsubClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty writers wait for a stop: one pull waits in Restate."""
    pulls = Pulls(client, monkeypatch)
    streams = [client.stream(topic, id=f"s{n}") for n in range(50)]
    for stream in streams:
        await stream.__aenter__()
    waits = [stream.stopped for stream in streams]
    await until(lambda: pulls.count, "a pull")
    await client.stop(topic)
    told = await asyncio.wait_for(asyncio.gather(*waits), 10)
    assert all(isinstance(one, StreamStopped) for one in told)
    assert pulls.count <= 3
    for stream in streams:
        with pytest.raises(StreamStopped):
            await stream.__aexit__(None, None, None)


async def test_a_writer_that_writes_asks_for_nothing(
    client: PubsubClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a stop all the time, and its calls tell it: there is no pull until it is silent."""
    monkeypatch.setattr(stop_watch, "PACE_SECONDS", 10.0)  # a call that a full machine delays is no silence
    pulls = Pulls(client, monkeypatch)
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            stopped = stream.stopped
            for n in range(100):
                await stream.write(n)
                await asyncio.sleep(0.02)
            assert pulls.count == 0
            await client.stop(topic, "answer")
            while not stopped.done():
                await stream.write("more")
                await asyncio.sleep(0.02)
    assert isinstance(stopped.result(), StreamStopped)


async def test_a_wait_that_was_given_up_can_begin_again(client: PubsubClient, topic: str) -> None:
    """As `asyncio.wait_for` does, which cancels what it waits for."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream.stopped, 0.05)
            await client.stop(topic, "answer")
            assert await asyncio.wait_for(stream.stopped, SOON) is not None


async def test_a_restart_of_restate_is_survived(restate: RestateServer, client: PubsubClient, topic: str) -> None:
    """The wait goes on when it is back."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            await stream.write("x")
            await until(lambda: stream.acknowledged, "the first token")
            stopped = stream.stopped
            await restate.kill()
            await restate.start()
            await client.stop(topic, "answer")
            assert await asyncio.wait_for(stopped, 30) is not None


async def test_the_page_s_example_works_as_written(client: PubsubClient, topic: str) -> None:
    """A model that goes on thinking is given up; one that answers is heard."""
    page = (ROOT / "docs" / "talk-back.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "async def think" in code]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is our own
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            assert "forty-two" == await names["think"](stream, asyncio.sleep(0.01, "forty-two"))
            silent = asyncio.create_task(names["think"](stream, asyncio.Event().wait()))
            await client.stop(topic, "answer")
            assert await asyncio.wait_for(silent, SOON) is None


async def test_what_cannot_be_stopped_says_so(client: PubsubClient) -> None:
    """A stream without a name, and one that is not open yet."""
    async with client.stream(topic_name()) as stream:
        with pytest.raises(InvalidRequest, match="without an id"):
            assert stream.stopped
    with pytest.raises(InvalidRequest, match="within"):
        assert client.stream(topic_name(), id="a").stopped


async def test_a_stop_that_was_truncated_is_not_missed(client: PubsubClient, topic: str) -> None:
    """The event is gone before anybody waits: the topic is asked, which remembers the stop."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            told = await client.stop(topic, "answer", reason="enough")
            await client.truncate(topic, 1)
            stopped = await asyncio.wait_for(stream.stopped, SOON)
            assert stopped is not None
            assert (told.offset, "enough") == (stopped.offset, stopped.reason)


async def test_who_asks_has_said_nothing(client: PubsubClient, topic: str) -> None:
    """An attempt that was not stopped goes on waiting; what the one before it said stands until it says something."""
    async with client.stream(topic, id="answer") as stream:
        await stream.write("said")
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            await client.append(topic, [1, 2, 3])
            await client.truncate(topic, 3)
            opened = stream.heard_at
            stopped = stream.stopped
            await until(lambda: stream.heard_at > opened, "the topic to be asked")
            assert not stopped.done()
            assert 4 == (await client.bounds(topic)).tail
            await client.stop(topic, "answer")
            assert await asyncio.wait_for(stopped, SOON) is not None


async def test_the_end_of_a_topic_ends_the_wait(client: PubsubClient, topic: str) -> None:
    """Nothing of the stream will be taken any more: its model need not go on, and the block says why."""
    with pytest.raises(StreamFailed) as failed:
        async with client.stream(topic, id="answer") as stream:
            await stream.write("x")
            await until(lambda: stream.acknowledged, "the first token")
            stopped = stream.stopped
            await client.close(topic)
            assert await asyncio.wait_for(stopped, SOON) is None
    assert isinstance(failed.value.cause, TopicClosed)
    assert (1, 1) == (failed.value.acknowledged, failed.value.written)


async def test_a_stop_after_a_deletion_is_heard(client: PubsubClient, topic: str) -> None:
    """What comes after it is still read."""
    with pytest.raises(StreamStopped):
        async with client.stream(topic, id="answer") as stream:
            await stream.write("x")
            await until(lambda: stream.acknowledged, "the first token")
            stopped = stream.stopped
            await client.delete(topic)
            await client.stop(topic, "answer")
            assert await asyncio.wait_for(stopped, SOON) is not None


async def test_waits_that_are_given_up_and_begun_again_cost_one_pull(
    client: PubsubClient, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may wait for each of its tokens anew."""
    pulls = Pulls(client, monkeypatch)
    async with client.stream(topic, id="answer") as stream:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.stopped, 1)
        await until(lambda: pulls.count, "a pull")
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.stopped, 0.02)
    assert pulls.count == 1
