"""The package for pages, as the service serves it: what it does beyond the reader that docs/browser.md prints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page

from restate_pubsub.commands.local_restate import RestateServer
from support.faults import Proxy
from support.harness import Service, call, publish, topic_name
from support.origin import Origin
from support.tokens import SECRET, token
from support.waiting import PATIENCE, until

BLANK = "<!doctype html><title>package</title>"
FOLLOWED = """([client, url, options]) => import(client).then(({ follow }) => {
  const log = window.log = { all: [], live: [], refused: [] };
  if (options.getToken) options.token = (problem) => window.getToken(problem?.code ?? null);
  window.stop = follow(url, {
    "*": (name, data, offset) => log.all.push([name, data, offset]),
    connection: (live) => log.live.push(live),
    refused: (problem) => { log.refused.push(problem); },
  }, options);
})"""


@pytest.fixture
async def service(restate: RestateServer) -> AsyncIterator[Service]:
    """Return a service with keys, whose heartbeats are close together."""
    env = {"PUBSUB_PUBLISH_ENABLED": "true", "PUBSUB_CORS_ORIGINS": "*", "PUBSUB_JWT_KEY": SECRET}
    service = await Service(restate, PUBSUB_HEARTBEAT="500ms", PUBSUB_RETRY="200ms", env=env).start()
    yield service
    await service.stop()


@pytest.fixture
async def elsewhere(page: Page, service: Service) -> AsyncIterator[Page]:
    """Return the page, which comes from another origin than the service."""
    async with Origin(BLANK).serving(service) as origin:
        await page.goto(origin.url)
        yield page


async def start(page: Page, service: Service, url: str, **options: Any) -> None:
    """Let the page follow `url`."""
    await page.evaluate(FOLLOWED, [f"{service.url}/client/restate-pubsub.js", url, options])


async def events(page: Page, count: int) -> list[Any]:
    """Wait until the page has so many events; return all it has."""
    await page.wait_for_function(f"log.all.length >= {count}", timeout=PATIENCE * 1000)
    found: list[Any] = await page.evaluate("log.all")
    return found


async def issued(page: Page, get: Callable[[str | None], str | Awaitable[str]]) -> None:
    """Let `get` be what the page gets its tokens from."""
    await page.expose_function("getToken", get)


async def test_the_module_is_the_same_for_every_origin(service: Service) -> None:
    """It is no topic, costs no token, and is not sent again while it is the same."""
    async with aiohttp.ClientSession() as session:
        url = f"{service.url}/client/restate-pubsub.js"
        async with session.get(url) as answer:
            assert (200, "text/javascript") == (answer.status, answer.content_type)
            assert "*" == answer.headers["access-control-allow-origin"]
            etag = answer.headers["etag"]
        async with session.get(url, headers={"if-none-match": etag}) as answer:
            assert (304, b"") == (answer.status, await answer.read())


async def test_it_sends_the_token_as_a_header(elsewhere: Page, service: Service, restate: RestateServer) -> None:
    """No cookie, and nothing in the URL."""
    topic = topic_name("package")
    await publish(restate, topic, "secret")
    await start(elsewhere, service, service.topic_url(topic), token=token(subscribe=[topic]))
    assert [["message", "secret", 0]] == await events(elsewhere, 1)


async def test_a_token_is_renewed_before_it_ends(elsewhere: Page, service: Service, restate: RestateServer) -> None:
    """The stream goes over to the next one: none is ever refused, and no message is missed or shown twice."""
    topic = topic_name("package")
    given: list[str | None] = []

    def get(refused: str | None) -> str:
        given.append(refused)
        return token(subscribe=[topic], lasts=4, jti=str(len(given)))

    await issued(elsewhere, get)
    await publish(restate, topic, 0)
    await start(elsewhere, service, service.topic_url(topic), getToken=True)
    await events(elsewhere, 1)
    for count in (1, 2):
        await until(lambda: len(given) > count, "another token")  # noqa: B023 - used at once
        await publish(restate, topic, count)
        await events(elsewhere, count + 1)
    assert [["message", at, at] for at in range(3)] == await events(elsewhere, 3)
    assert {None} == set(given)
    assert [True] == await elsewhere.evaluate("log.live")


async def test_a_refused_token_is_replaced_and_a_second_refusal_is_told(
    elsewhere: Page, service: Service, restate: RestateServer
) -> None:
    """One that has ended while the page slept is no refusal; one that is never good is."""
    topic = topic_name("package")
    given: list[str | None] = []
    tokens = [token(subscribe=[topic], lasts=-60), token(subscribe=[topic])]

    def get(refused: str | None) -> str:
        given.append(refused)
        return tokens[min(len(given), len(tokens)) - 1]

    await issued(elsewhere, get)
    await publish(restate, topic, "secret")
    await start(elsewhere, service, service.topic_url(topic), getToken=True)
    assert [["message", "secret", 0]] == await events(elsewhere, 1)
    assert [None, "unauthorized"] == given
    assert [] == await elsewhere.evaluate("log.refused")

    await elsewhere.evaluate("stop()")
    tokens[:] = [token(subscribe=[topic], lasts=-60)]
    await start(elsewhere, service, service.topic_url(topic), getToken=True)
    await elsewhere.wait_for_function("log.refused.length", timeout=PATIENCE * 1000)
    assert "unauthorized" == (await elsewhere.evaluate("log.refused"))[0]["code"]
    assert 4 == len(given)


async def test_two_missed_heartbeats_are_a_broken_connection(
    elsewhere: Page, service: Service, restate: RestateServer
) -> None:
    """The service says how far apart they are, so nobody has to set it."""
    topic = topic_name("package")
    async with Proxy(service.port) as proxy:
        await publish(restate, topic, 0)
        await start(elsewhere, service, f"{proxy.url}/pubsub/{topic}", token=token(subscribe=[topic]))
        await events(elsewhere, 1)
        proxy.stall()
        stalled = asyncio.get_running_loop().time()
        await elsewhere.wait_for_function("log.live.length > 1", timeout=PATIENCE * 1000)
        assert asyncio.get_running_loop().time() - stalled < 10  # without the heartbeats' word it takes 40 s
        proxy.cut()
        proxy.flow()
        await publish(restate, topic, 1)
        assert [["message", 0, 0], ["message", 1, 1]] == await events(elsewhere, 2)


async def test_what_the_service_refuses_for_good_is_not_asked_again(elsewhere: Page, service: Service) -> None:
    """The problem is the page's own mistake, and names it."""
    topic = topic_name("package")
    url = service.topic_url(topic, "offset=soon")
    await start(elsewhere, service, url, token=token(subscribe=[topic]))
    await elsewhere.wait_for_function("log.refused.length", timeout=PATIENCE * 1000)
    (problem,) = await elsewhere.evaluate("log.refused")
    assert (400, True) == (problem["status"], "soon" in problem["detail"])


async def test_a_stop_and_a_signal_end_it(elsewhere: Page, service: Service, restate: RestateServer) -> None:
    """Nothing is told after that, not even that the connection has gone."""
    topic = topic_name("package")
    await publish(restate, topic, 0)
    await start(elsewhere, service, service.topic_url(topic), token=token(subscribe=[topic]))
    await events(elsewhere, 1)
    await elsewhere.evaluate("stop()")
    await elsewhere.evaluate(
        """([client, url, token]) => import(client).then(({ follow }) => {
          const on = { "*": () => log.all.push("late"), connection: (live) => log.live.push(live) };
          follow(url, on, { token, signal: AbortSignal.abort() });
        })""",
        [f"{service.url}/client/restate-pubsub.js", service.topic_url(topic), token(subscribe=[topic])],
    )

    await service.has_streams(0)
    assert [["message", 0, 0]] == await elsewhere.evaluate("log.all")
    assert [True] == await elsewhere.evaluate("log.live")


async def test_a_message_is_published_once_over_a_lost_answer(
    elsewhere: Page, service: Service, restate: RestateServer
) -> None:
    """The answer is lost, the call is repeated under the same key, and says where the message is."""
    topic = topic_name("package")
    async with Proxy(service.port) as proxy:
        proxy.cut_answers(1)
        published = await elsewhere.evaluate(
            "([client, url, options]) => import(client).then(({ publish }) => publish(url, { text: 'hi' }, options))",
            [
                f"{service.url}/client/restate-pubsub.js",
                f"{proxy.url}/pubsub/{topic}",
                {"token": token(publish=[topic]), "idempotencyKey": "first", "headers": {"traceparent": "00-1-1-00"}},
            ],
        )
    assert {"offset": 0, "nextOffset": 1, "count": 1} == published
    assert 1 == (await call(restate, topic, "info"))[1]["tail"]


async def test_a_refused_message_is_an_error_that_says_why(elsewhere: Page, service: Service) -> None:
    """And is not sent again."""
    topic = topic_name("package")
    problem = await elsewhere.evaluate(
        "([client, url, options]) => import(client).then(({ publish }) => publish(url, 1, options))"
        ".catch((error) => [error.name, error.problem.code, error.message])",
        [f"{service.url}/client/restate-pubsub.js", service.topic_url(topic), {"token": token(subscribe=[topic])}],
    )
    assert ["Refused", "forbidden"] == problem[:2]
    assert topic in problem[2]


async def test_a_stream_is_stopped_over_a_lost_answer(
    elsewhere: Page, service: Service, restate: RestateServer
) -> None:
    """The call is repeated; the stream was stopped once, and both say where."""
    topic = topic_name("package")
    ref = {"id": "answer", "attempt": "a"}
    await call(restate, topic, "append", {"messages": [], "stream": {**ref, "first": True}})
    await call(restate, topic, "append", {"messages": [{"data": "Hel"}], "stream": ref})
    async with Proxy(service.port) as proxy:
        proxy.cut_answers(1)
        stopped = await elsewhere.evaluate(
            "([client, url, options]) => import(client).then(({ stop }) => stop(url, options))",
            [
                f"{service.url}/client/restate-pubsub.js",
                f"{proxy.url}/pubsub/{topic}?offset=latest",
                {"token": token(control=[topic]), "id": "answer", "reason": "enough"},
            ],
        )
    assert {"offset": 1, "stopped": ["answer"]} == stopped
    assert 2 == (await call(restate, topic, "info"))[1]["tail"]


async def test_control_needs_its_right_and_a_question(elsewhere: Page, service: Service) -> None:
    """Who may only publish is refused; who may is told that nobody asked."""
    topic = topic_name("package")
    for permit, code in ((token(publish=[topic]), "forbidden"), (token(control=[topic]), "no-such-question")):
        said = await elsewhere.evaluate(
            "([client, url, options]) => import(client).then(({ answer }) => answer(url, 'none', 1, options))"
            ".catch((error) => [error.name, error.problem.code])",
            [f"{service.url}/client/restate-pubsub.js", service.topic_url(topic), {"token": permit}],
        )
        assert ["Refused", code] == said
