"""The watch over an idle connection: a timer first, a task only where nothing comes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from hypercorn.asyncio.task_group import TaskGroup

from restate_pubsub.server.hypercorn_fixes.idle import LATER_SECONDS, IdleWatch
from restate_pubsub.server.hypercorn_fixes.request_stream import RequestStream
from support.http2 import Http2Client
from support.waiting import until
from unit.server.conftest import Server, Serving


class Action:
    """What a watch runs."""

    def __init__(self) -> None:
        self.began = 0
        self.ended = 0

    async def __call__(self) -> None:
        self.began += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_what_is_stopped_at_once_has_no_task() -> None:
    watch, action, before = IdleWatch(), Action(), len(asyncio.all_tasks())
    async with TaskGroup(asyncio.get_running_loop()) as group:
        for _ in range(3):
            await watch.restart(group, action)
            assert before == len(asyncio.all_tasks())
            await watch.stop()
        await asyncio.sleep(2 * LATER_SECONDS)
    assert 0 == action.began


async def test_it_runs_after_a_moment_and_ends_when_it_is_stopped() -> None:
    watch, action = IdleWatch(), Action()
    async with TaskGroup(asyncio.get_running_loop()) as group:
        await watch.restart(group, action)
        await until(lambda: 1 == action.began, "the watch to begin")
        await watch.restart(group, action)
        assert 1 == action.ended
        await until(lambda: 2 == action.began, "the watch to begin again")
        await watch.stop()
    assert 2 == action.ended


async def test_one_that_is_called_off_does_not_begin_in_a_group_that_ends() -> None:
    watch, action = IdleWatch(), Action()
    async with TaskGroup(asyncio.get_running_loop()) as group:
        await watch.restart(group, action)
        watch.end()
        await watch.restart(group, action)
    await asyncio.sleep(2 * LATER_SECONDS)
    assert 0 == action.began


async def test_what_was_asked_for_last_counts() -> None:
    """While a watch is being stopped, more may come: two ends of requests, or an end and a beginning."""
    watch, action = IdleWatch(), Action()
    async with TaskGroup(asyncio.get_running_loop()) as group:
        await watch.restart(group, action)
        await until(lambda: 1 == action.began, "the watch to begin")
        await asyncio.gather(watch.restart(group, action), watch.restart(group, action))
        await until(lambda: 2 == action.began, "one watch to begin")
        await asyncio.gather(watch.restart(group, action), watch.stop())
        await asyncio.sleep(2 * LATER_SECONDS)
        assert (2, 2) == (action.began, action.ended)


async def test_a_limit_that_is_shorter_than_the_moment_holds(serving: Serving) -> None:
    """The connection is closed after the moment, and told so where a request has begun."""
    async with serving(request=LATER_SECONDS / 4) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HT")
        assert b"408" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        await server.nothing_left()
        assert 1 == server.seen.idle


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"])
async def test_a_connection_that_is_young_when_the_server_stops_is_closed(serving: Serving, sent: bytes) -> None:
    """Its watch has not begun, and sees the stop as soon as it does."""
    stopping = serving()
    server = await stopping.__aenter__()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    if sent:
        assert b"200" in await reader.readline()
    async with asyncio.timeout(5):
        await stopping.__aexit__(None, None, None)
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()


@pytest.mark.parametrize("path", ["/", "/large", "/early", "/unread", "/broken"])
async def test_a_request_leaves_no_circles_to_the_collector(serving: Serving, path: str) -> None:
    """Thousands of requests a second would make it walk what they leave."""
    async with serving() as server:
        server.app.release.set()
        gc.collect()
        gc.disable()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await server.nothing_left()
            assert [] == left_by(server)
        finally:
            gc.enable()


async def test_neither_does_one_over_http2(serving: Serving) -> None:
    """While its connection goes on, as Restate's do."""
    async with serving() as server, Http2Client.connect(server.port) as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await client.answer(client.open())
            await until(lambda: 3 == server.app.ended, "the requests to end")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [] == left_by(server)
        finally:
            gc.enable()


def left_by(server: Server) -> list[Any]:
    """Return the requests that are still there."""
    server.app.scopes.clear()
    return [one for one in gc.get_objects() if isinstance(one, RequestStream)]
