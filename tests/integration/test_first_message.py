"""The main job: what one terminal publishes, the other shows."""

from __future__ import annotations

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Event, Service, publish, stream


async def test_a_published_message_is_on_the_stream(restate: RestateServer, service: Service, topic: str) -> None:
    """As in the README: `curl -N …/pubsub/demo` shows what `curl …/demo/publish` sends."""
    async with stream(service.topic_url(topic)) as reader:
        await publish(restate, topic, {"role": "user", "content": "hi"})
        assert Event("1", "message", {"role": "user", "content": "hi"}) == await reader.next()
    assert b'id: 1\ndata: {"role":"user","content":"hi"}\n\n' in reader.raw
