"""What a handler publishes outside of its journal: once, however often it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from restate_pubsub import InvalidRequest, PubsubClient, create_pubsub_client
from support.harness import Service, topic_name


@pytest.fixture
async def client(service: Service) -> AsyncIterator[PubsubClient]:
    async with create_pubsub_client(service.env["RESTATE_INGRESS_URL"]) as client:
        yield client


async def test_the_first_one_stands(client: PubsubClient) -> None:
    """A repetition adds nothing, says where the first one is, and may say something else."""
    topic = topic_name()
    assert 0 == await client.publish(topic, {"result": 1}, event="tool", once="call-1")
    assert 1 == await client.publish(topic, {"result": 2}, once="call-2")
    assert 0 == await client.publish(topic, {"result": "another"}, event="tool", once="call-1")
    assert 2 == (await client.info(topic))["tail"]


async def test_it_holds_when_the_topic_is_closed(client: PubsubClient) -> None:
    """A replay that comes after the end is not refused for what it has said before."""
    topic = topic_name()
    await client.publish(topic, 1, once="key")
    await client.close(topic)
    assert 0 == await client.publish(topic, 1, once="key")


async def test_two_promises_do_not_go_together(client: PubsubClient) -> None:
    """And the text says which holds longer."""
    with pytest.raises(InvalidRequest, match="once holds longer"):
        await client.publish(topic_name(), 1, once="a", idempotency_key="b")


async def test_a_step_names_its_stream(client: PubsubClient) -> None:
    """Streams of one invocation are numbered as they are asked for; the next attempt counts from one again."""
    topic = topic_name()

    def attempt() -> SimpleNamespace:
        return SimpleNamespace(request=lambda: SimpleNamespace(id="inv_1"))

    ctx = attempt()
    for text in ("first", "second"):
        async with client.stream(topic, step=ctx) as stream:
            await stream.write(text)
    async with client.stream(topic, step=attempt()) as stream:
        await stream.write("first again")
    await client.close(topic)
    read = [(message.data, message.event) async for message in client.pull(topic, 0)]
    assert [
        ("first", None),
        ("second", None),
        ({"id": "inv_1/1", "offset": 0, "count": 1}, "restart"),
        ("first again", None),
    ] == read


async def test_a_step_or_an_id(client: PubsubClient) -> None:
    """Not both."""
    with pytest.raises(InvalidRequest, match="either id or step"):
        client.stream(topic_name(), id="a", step=SimpleNamespace(request=lambda: SimpleNamespace(id="inv_1")))
