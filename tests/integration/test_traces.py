"""One trace leads from the step of an agent to the readers of its tokens, wherever those are."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.collector import Collector, Span
from support.faults import behind_a_balancer
from support.harness import Service, call, running_restate, stream, subscribed, topic_name
from support.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
"""That of an agent's step, as the W3C writes it."""


@pytest.fixture(scope="module")
async def restate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RestateServer]:
    """Return a Restate of these tests' own: their services register themselves, and end."""
    async with running_restate(tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """Return a collector of this test's own."""
    async with Collector() as collector:
        yield collector


@pytest.fixture
async def traced(restate: RestateServer, collector: Collector) -> AsyncIterator[Service]:
    """Return a service that traces."""
    service = await Service(restate, env=collector.env, PUBSUB_PUBLISH_ENABLED="true").start()
    try:
        yield service
    finally:
        await service.stop()


async def only(collector: Collector, name: str, **attributes: object) -> Span:
    """Wait for a span, and return it: there is one."""
    await until(lambda: collector.named(name, **attributes), f"a span {name!r} among {collector.spans}")
    (span,) = collector.named(name, **attributes)
    return span


async def test_a_write_and_its_delivery_belong_to_the_caller_s_trace(
    restate: RestateServer, traced: Service, collector: Collector
) -> None:
    """In one process, the write hands its messages over: that is a child of the write."""
    topic = topic_name()
    async with stream(traced.topic_url(topic)) as reader:
        await subscribed(restate, topic)
        async with aiohttp.ClientSession(headers={"traceparent": TRACEPARENT}) as session:
            url = f"{restate.ingress_url}/pubsub/{topic}/append"
            async with session.post(url, json={"messages": [{"data": 1}, {"data": 2}]}) as answer:
                assert 200 == answer.status, await answer.text()
        assert [1, 2] == [event.data for event in await reader.take(2)]
    write = await only(collector, "append topic", messaging__destination__name=topic)
    assert (TRACE, CALLER) == (write.trace, write.parent)
    assert 2 == write.attributes["messaging.batch.message_count"]
    assert "send" == write.attributes["messaging.operation.type"]
    assert "restate-pubsub" == write.resource["service.name"]
    handed = await only(collector, "deliver topic", messaging__destination__name=topic)
    assert (TRACE, write.id) == (handed.trace, handed.parent)


async def test_what_is_published_over_http_is_traced_through_restate(traced: Service, collector: Collector) -> None:
    """The request, the call that it makes, and the write are one trace; no span has the token that came with it."""
    topic = topic_name()
    async with aiohttp.ClientSession(headers={"traceparent": TRACEPARENT}) as session:
        async with session.post(f"{traced.topic_url(topic)}?x=secret", json="hello") as answer:
            assert answer.status in (200, 202, 204), await answer.text()
    request = await only(collector, "POST /pubsub/{topic}")
    assert (TRACE, CALLER) == (request.trace, request.parent)
    write = await only(collector, "append topic")
    made = await only(collector, "POST")
    assert (TRACE, request.id) == (made.trace, made.parent)
    assert (TRACE, made.id) == (write.trace, write.parent)
    assert not [span for span in collector.spans if "secret" in str(span)]


async def test_a_stream_is_one_span_from_its_request_to_its_end(
    restate: RestateServer, traced: Service, collector: Collector
) -> None:
    """It ends when the reader goes, not when the head of the response is out."""
    topic = topic_name()
    assert 200 == (await call(restate, topic, "publish", 1))[0]
    async with stream(traced.topic_url(topic), traceparent=TRACEPARENT) as reader:
        assert 1 == (await reader.next()).data
        await until(lambda: collector.named("publish topic"), "the spans from before")
        assert not collector.named("GET /pubsub/{topic}")
    span = await only(collector, "GET /pubsub/{topic}")
    assert (TRACE, CALLER, 200) == (span.trace, span.parent, span.attributes["http.response.status_code"])


async def test_a_stream_of_several_topics_is_one_span(
    restate: RestateServer, traced: Service, collector: Collector
) -> None:
    """It lasts as long as the stream, and belongs to the caller's trace."""
    topics = [topic_name(), topic_name()]
    assert 200 == (await call(restate, topics[1], "publish", 1))[0]
    async with stream(f"{traced.url}/pubsub?topic={topics[0]}&topic={topics[1]}", traceparent=TRACEPARENT) as reader:
        assert topics[1] == (await reader.next()).data["topic"]
        await until(lambda: collector.named("publish topic"), "the spans from before")
        assert not collector.named("GET /pubsub")
    span = await only(collector, "GET /pubsub")
    assert (TRACE, CALLER, 200) == (span.trace, span.parent, span.attributes["http.response.status_code"])


@pytest.mark.usefixtures("traced")
async def test_a_refused_write_is_a_failed_span(restate: RestateServer, collector: Collector) -> None:
    """Its status says why."""
    topic = topic_name()
    assert 200 == (await call(restate, topic, "close"))[0]
    assert 409 == (await call(restate, topic, "publish", 1))[0]
    span = await only(collector, "publish topic", messaging__destination__name=topic)
    assert span.failed is not None
    assert "closed" in span.failed


async def test_health_checks_make_no_spans(traced: Service, collector: Collector) -> None:
    """They come every few seconds, and nobody asks for them."""
    for _ in range(3):
        assert await traced.answers("/health/ready")
    topic = topic_name()
    async with aiohttp.ClientSession() as session:
        async with session.post(traced.topic_url(topic), json=1) as answer:
            assert answer.ok
    await only(collector, "append topic")
    assert not [span for span in collector.spans if "ping" in str(span) or "health" in str(span)]


async def test_readers_on_another_replica_are_reached_in_the_same_trace(tmp_path: Path, collector: Collector) -> None:
    """The write tells the other replica to which trace it belongs, directly or by a pull, to which there is a link."""
    async with running_restate(tmp_path) as restate, contextlib.AsyncExitStack() as stack:
        one, two = (Service(restate, env=collector.env | {"OTEL_SERVICE_NAME": name}) for name in ("one", "two"))
        await behind_a_balancer(stack, [one, two])
        topic = topic_name()
        async with aiohttp.ClientSession() as session:
            readers = [await stack.enter_async_context(stream(each.topic_url(topic))) for each in (one, two)]
            for n in range(20):
                await subscribed(restate, topic, 2)
                url = f"{restate.ingress_url}/pubsub/{topic}/publish"
                traceparent = f"00-{TRACE[:-2]}{n:02d}-{CALLER}-01"
                async with session.post(url, json=n, headers={"traceparent": traceparent}) as answer:
                    assert 200 == answer.status
                assert [n, n] == [(await reader.next()).data for reader in readers]
        await until(lambda: 40 <= len(collector.named("deliver topic")), "all deliveries")
        await until(lambda: 20 <= len(collector.named("publish topic")), "all writes")
        writes = {span.trace: span for span in collector.named("publish topic")}
        far = [
            span
            for span in collector.named("deliver topic")
            if span.resource["service.name"] != writes[span.trace].resource["service.name"]
        ]
        assert {span.trace for span in far} == writes.keys()
        for span in far:
            assert span.parent == writes[span.trace].id
        links = {link for span in far for link in span.links}
        await until(lambda: links <= {span.id for span in collector.named("pull topic")}, "their pulls")


async def test_the_spans_of_restate_come_between(tmp_path: Path, collector: Collector) -> None:
    """Where Restate exports traces, the write is a child of the attempt that Restate has a span of."""
    exports = {"RESTATE_TRACING_ENDPOINT": f"otlp+http://127.0.0.1:{collector.port}/v1/traces"}
    async with running_restate(tmp_path, **exports) as restate:
        service = await Service(restate, env=collector.env).start()
        topic = topic_name()
        async with aiohttp.ClientSession(headers={"traceparent": TRACEPARENT}) as session:
            async with session.post(f"{restate.ingress_url}/pubsub/{topic}/publish", json=1) as answer:
                assert 200 == answer.status
        write = await only(collector, "publish topic")
        assert TRACE == write.trace
        # Restate sends its spans every few seconds, and may lose the last ones when it is stopped.
        await until(lambda: [span for span in collector.spans if span.id == write.parent], "the span of Restate")
        assert 0 == await service.stop()


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "'otlp' or 'none'"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
    ],
)
async def test_traces_that_cannot_be_had_are_a_warning(restate: RestateServer, env: dict[str, str], word: str) -> None:
    """The service does its work without them."""
    service = await Service(restate, env=env).start()
    try:
        assert "traces are asked for, and there are none" in service.log
        assert word in service.log
    finally:
        await service.stop()


async def test_a_collector_that_is_away_costs_no_message(restate: RestateServer, collector: Collector) -> None:
    """Nobody listens at the endpoint: spans are dropped, messages are not, and the end is in time."""
    env = collector.env | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    service = await Service(restate, env=env, PUBSUB_DRAIN_TIMEOUT="2s").start()
    topic = topic_name()
    async with stream(service.topic_url(topic)) as reader:
        for n in range(50):
            assert 200 == (await call(restate, topic, "publish", n))[0]
        assert list(range(50)) == [event.data for event in await reader.take(50)]
    assert 0 == await service.stop(seconds=10)


@pytest.mark.parametrize("env", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_without_being_asked_nothing_of_it_is_imported(env: dict[str, str]) -> None:
    """Off, it costs nothing."""
    program = (
        "import os, sys\n"
        "from restate_pubsub.server.app import create_service\n"
        "from restate_pubsub.settings.fields import load\n"
        "from restate_pubsub.telemetry.tracing.asked import tracing_from\n"
        "create_service(load({}), tracing=tracing_from(os.environ))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"} if env else {}
    done = subprocess.run(
        [sys.executable, "-c", program], env=away | env, capture_output=True, text=True, check=False, timeout=60
    )
    assert (0, "[]") == (done.returncode, done.stdout.strip()), done.stderr
