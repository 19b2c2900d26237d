"""Replicas hand one another what they write: who is handed what, who is refused, and whom nobody calls."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.protocol.peers import Hello, Subscriber, prove
from support.faults import behind_a_balancer
from support.harness import (
    Service,
    call,
    free_port,
    publish,
    running_restate,
    state_of,
    stream,
    subscribed,
    topic_name,
)
from support.waiting import until

PEERS = "restate_pubsub_peer_news_total"
REFUSED = "restate_pubsub_peers_refused_total"
AWAKEABLE = "sign_1" + "A" * 37 + "Q"


@pytest.fixture(scope="module")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate of these tests' own."""
    async with running_restate(tmp_path_factory.mktemp("peers")) as server:
        yield server


class Replicas(NamedTuple):
    """A Restate, and services that share its requests."""

    restate: RestateServer
    services: Sequence[Service]


@contextlib.asynccontextmanager
async def replicas(restate: RestateServer, *services: Service) -> AsyncIterator[Replicas]:
    """Run services behind a balancer, which gives them Restate's requests in turn."""
    async with contextlib.AsyncExitStack() as stack:
        await behind_a_balancer(stack, services)
        yield Replicas(restate, services)


async def linked(service: Service, count: int = 1) -> None:
    """Wait until a replica hands its news to so many others."""

    async def there() -> bool:
        return await service.metric("restate_pubsub_peers_connected") == count

    await until(there, f"{count} peers", 20)


async def subscriber(restate: RestateServer, topic: str) -> Subscriber:
    """Return the one replica that waits, as its subscription names it."""
    await subscribed(restate, topic)
    (entry,) = json.loads((await state_of(restate, topic))["subscription"])
    return Subscriber.read(entry["subscriber"])


class Writer:
    """Speaks to a replica as another would, as far as the test wants."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def speaking(self, first: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open the connection with a first line."""

        async def body() -> AsyncIterator[bytes]:
            yield first
            while (said := await self.said.get()) is not None:
                yield said

        timeout = aiohttp.ClientTimeout(30)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{self.url}/peers", data=body()) as response,
        ):
            yield response

    @contextlib.asynccontextmanager
    async def greeted(self, peer: Subscriber, key: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        """Open it as one who has read the peer's key; another `key` is a guess."""
        hello = Hello("somebody", peer.name, "n")
        async with self.speaking(line({"from": "somebody", "to": peer.name, "nonce": "n"})) as response:
            assert response.status == 200
            welcome = json.loads(await response.content.readline())
            self.say(line({"proof": prove(key or peer.key, "writer", hello, welcome["nonce"])}))
            yield response

    def say(self, said: bytes) -> None:
        """Say more."""
        self.said.put_nowait(said)


def line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def test_news_go_to_the_other_replica_without_restate(restate: RestateServer) -> None:
    """Whichever ran the write; no pull is answered meanwhile, and each reader has everything in order."""
    topic = topic_name()
    async with (
        replicas(restate, Service(restate), Service(restate)) as (_, (one, two)),
        stream(one.topic_url(topic)) as first,
        stream(two.topic_url(topic)) as second,
    ):
        for service in (one, two):
            number = 0
            while not await service.metric("restate_pubsub_peers_connected"):
                await publish(restate, topic, f"hello {number}")
                number += 1
            await linked(service)
        await subscribed(restate, topic, 2)
        pulls = [await service.metric("restate_pubsub_pulls_total") for service in (one, two)]
        await publish(restate, topic, *range(40))
        for reader in (first, second):
            seen: list[Any] = []
            while not seen or seen[-1] != 39:
                seen.append((await reader.next()).data)
            assert [data for data in seen if isinstance(data, int)] == list(range(40))
        assert [await service.metric("restate_pubsub_pulls_total") for service in (one, two)] == pulls
        handed = [await service.metric(f'{PEERS}{{outcome="handed_over"}}') for service in (one, two)]
        assert sum(handed) >= 40  # each write once: the replica that runs it reads the topic as well
        assert min(handed) > 0


async def test_a_replica_without_an_address_is_told_through_restate(restate: RestateServer) -> None:
    """As one of the version before is, during a rollout, in either order."""
    topic = topic_name()
    old = Service(restate, PUBSUB_ADVERTISE="", PUBSUB_PEERS="")
    async with (
        replicas(restate, Service(restate), old) as (_, (new, old_)),
        stream(new.topic_url(topic)) as first,
        stream(old_.topic_url(topic)) as second,
    ):
        await publish(restate, topic, *range(30))
        assert [(await reader.take(30))[-1].data for reader in (first, second)] == [29, 29]
        assert not await new.metric(PEERS)
        async with aiohttp.ClientSession() as session, session.post(f"{old_.url}/peers", data=b"x") as response:
            assert response.status == 404


async def test_a_replica_that_starts_anew_under_its_address_is_another_one(restate: RestateServer) -> None:
    """What was for the one before is not taken by its successor, which is handed news in its turn."""
    topic = topic_name()
    async with replicas(restate, Service(restate), Service(restate)) as (_, (one, two)):
        async with stream(two.topic_url(topic)) as reader:
            while not await one.metric("restate_pubsub_peers_connected"):
                await publish(restate, topic, "x")
            await reader.next()
        await two.kill()
        await linked(one, 0)
        await two.start(register=False)
        async with stream(two.topic_url(topic, "offset=latest")) as reader:
            number = 0
            while not await one.metric("restate_pubsub_peers_connected"):
                await publish(restate, topic, number)
                number += 1
            await publish(restate, topic, "end")
            seen: list[Any] = []
            while not seen or seen[-1] != "end":
                seen.append((await reader.next()).data)
            assert seen[:-1] == list(range(number - len(seen) + 1, number))


async def test_only_who_has_read_the_key_may_hand_over(restate: RestateServer) -> None:
    """All others are refused, and counted; nothing of theirs reaches a reader."""
    topic = topic_name()
    service = await Service(restate).start()
    try:
        async with stream(service.topic_url(topic)) as reader:
            peer = await subscriber(restate, topic)
            for first in (
                line({"from": "a", "to": "b", "nonce": "n"}),
                line({"to": peer.name}),
                b"\n",
                b"{\n",
                b"x" * 10_000 + b"\n",
                b'{"x":' + b"[" * 1800 + b"\n",
            ):
                async with Writer(service.url).speaking(first) as response:
                    assert response.status == 403
                    assert (await response.json())["code"] == "peer-refused"
            forged = f'{topic} {{"newOffset":1,"newMessages":["forged"],"offset":0}}\n'.encode()
            for key in ("wrong", peer.name):
                writer = Writer(service.url)
                async with writer.greeted(peer, key) as response:
                    writer.say(forged)
                    assert await response.content.readline() == b""
            assert await service.metric(f'{REFUSED}{{reason="proof"}}') == 7
            assert await service.metric(f'{REFUSED}{{reason="name"}}') == 1
            assert service.log.count("a peer was refused") == 2  # once for each reason
            assert "Traceback" not in service.log
            await publish(restate, topic, "real")
            assert (await reader.next()).data == "real"
    finally:
        await service.stop()


@pytest.mark.parametrize(
    "garbage", [b"no-news\n", b"topic {\n", b"topic []\n", b"\xff\xff {}\n", b"x" * (17 * 1024 * 1024)]
)
async def test_a_peer_that_says_what_is_no_news_is_cut_off(restate: RestateServer, garbage: bytes) -> None:
    """The process goes on, and so do its readers."""
    topic = topic_name()
    service = await Service(restate).start()
    try:
        async with stream(service.topic_url(topic)) as reader:
            peer = await subscriber(restate, topic)
            writer = Writer(service.url)
            with contextlib.suppress(aiohttp.ClientError):  # it may be cut off before it has said everything
                async with writer.greeted(peer) as response:
                    assert await response.content.readline() == b"\n"
                    writer.say(garbage)
                    assert await response.content.readline() == b""
            await publish(restate, topic, "real")
            assert (await reader.next()).data == "real"
            assert not await service.metric("restate_pubsub_refused_total")
    finally:
        await service.stop()


async def test_a_silent_peer_is_cut_off(restate: RestateServer) -> None:
    """It may have written and not said so: Restate is asked of the topics that it has brought."""
    topic = topic_name()
    service = await Service(restate).start()
    try:
        async with stream(service.topic_url(topic)):
            peer = await subscriber(restate, topic)
            writer = Writer(service.url)
            async with writer.greeted(peer) as response:
                assert await response.content.readline() == b"\n"
                writer.say(f'{topic} {{"newOffset":0,"newMessages":[]}}\n'.encode())
                assert await response.content.readline() == b""
            assert await service.metric("restate_pubsub_suspected_writes_total") == 1
    finally:
        await service.stop()


async def test_peers_are_served_at_the_internal_address_alone(restate: RestateServer) -> None:
    """Neither where browsers are nor where metrics are scraped."""
    internal, metrics = free_port(), free_port()
    service = Service(restate)
    service.env |= {
        "PUBSUB_BIND": f"127.0.0.1:{service.port},127.0.0.1:{internal}",
        "PUBSUB_METRICS_BIND": f"127.0.0.1:{metrics}",
        "PUBSUB_ADVERTISE": f"http://127.0.0.1:{internal}",
    }
    await service.start(register=False)
    try:
        statuses = {}
        for port in (service.port, internal, metrics):
            async with Writer(f"http://127.0.0.1:{port}").speaking(b"{\n") as response:
                statuses[port] = response.status
        assert statuses == {service.port: 404, internal: 403, metrics: 404}
    finally:
        await service.stop()


class Listener:
    """Counts who connects, and answers everything in the same way."""

    def __init__(self, answer: bytes | Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.connections = 0
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self, address: str) -> AsyncIterator[Listener]:
        """Listen on an address of this machine."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            head = await reader.readuntil(b"}")
            writer.write(self.answer if isinstance(self.answer, bytes) else self.answer(head))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(accept, address, 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


async def subscribe(restate: RestateServer, topic: str, who: str) -> None:
    """Subscribe as anybody can who reaches the ingress."""
    entry = {"offset": 0, "id": AWAKEABLE, "subscriber": who}
    assert (await call(restate, topic, "subscribe", entry))[0] == 200


async def test_a_subscription_makes_nobody_call_another_address(restate: RestateServer) -> None:
    """Only those that PUBSUB_PEERS allows are called, whatever the ingress was told."""
    service = await Service(restate).start()
    try:
        async with Listener(b"").listening("127.0.0.2") as listener:
            for url in (f"http://127.0.0.2:{listener.port}", f"http://127.0.0.1@127.0.0.2:{listener.port}"):
                refused = await service.metric(f'{REFUSED}{{reason="address"}}')
                topic = topic_name()
                await subscribe(restate, topic, f"x {url} key-{url}")
                await publish(restate, topic, 1)

                async def was_refused(before: float = refused) -> bool:
                    return await service.metric(f'{REFUSED}{{reason="address"}}') > before

                await until(was_refused, "the refusal")
            assert listener.connections == 0
    finally:
        await service.stop()


def whole(head: bytes) -> bytes:
    """Answer as the peer would, and to the end, before the writer has said who it is."""
    hello = json.loads(head[head.index(b"{") :])
    proof = prove("key", "reader", Hello(hello["from"], hello["to"], hello["nonce"]), "n")
    body = line({"nonce": "n", "proof": proof})
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1c\r\n{"nonce":"n","proof":"ffff"}\n\r\n',
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.2:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2001\r\n\r\n" + b"[" * 2000 + b"\n",
        whole,
        b"not http at all",
        b"",
    ],
)
async def test_who_cannot_prove_to_be_the_peer_is_told_nothing(
    restate: RestateServer, answer: bytes | Callable[[bytes], bytes]
) -> None:
    """Another program may have the address by now; the write goes the way through Restate."""
    service = await Service(restate).start()
    try:
        topic = topic_name()
        async with Listener(answer).listening("127.0.0.1") as listener:
            await subscribe(restate, topic, f"x http://127.0.0.1:{listener.port} key")
            await publish(restate, topic, 1)
            await until(lambda: listener.connections, "a connection")
            await publish(restate, topic, 2)
            assert not await service.metric(f'{PEERS}{{outcome="handed_over"}}')
            assert await service.metric(f'{PEERS}{{outcome="fell_back"}}') == 1
            assert not await service.metric("restate_pubsub_peers_connected")
            assert "Traceback" not in service.log

            async def went_on() -> bool:
                return listener.connections > 1 or bool(await service.metric(REFUSED))

            await until(went_on, "it to be tried again, or to be refused for good")
    finally:
        await service.stop()
