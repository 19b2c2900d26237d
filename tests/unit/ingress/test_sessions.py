"""A client at module level: in every `asyncio.run`, in several loops at once, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings
from collections.abc import Callable

from restate_pubsub import PubsubClient, create_pubsub_client
from support.odd_servers import threaded

RUNS = 5


def soon(condition: Callable[[], bool], what: str) -> None:
    """Wait for what happens in other threads."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)


async def publish_twice(client: PubsubClient) -> None:
    assert [7, 7] == [await client.publish("t", at) for at in range(2)]


def test_a_client_outlives_asyncio_run() -> None:
    """Each run has connections of its own, which end with it, although nobody closes the client."""
    with threaded(b'{"offset":7}') as (url, connections):
        client = create_pubsub_client(url)
        for _ in range(RUNS):
            asyncio.run(publish_twice(client))
            soon(lambda: not connections, "the connections of a loop that has ended to be closed")
        assert len(client._ingress._sessions._kept) == 1  # the last loop's; the next run would forget it


def test_a_loop_that_was_closed_without_a_shutdown_does_not_break_the_next() -> None:
    """What it left open is closed by the garbage collector, which says so; the client goes on."""
    with threaded(b'{"offset":7}') as (url, _connections):
        client = create_pubsub_client(url)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(publish_twice(client))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            asyncio.run(publish_twice(client))
            gc.collect()


def test_two_loops_at_once_do_not_share_connections() -> None:
    """As with a web framework's loop and one in a thread."""
    with threaded(b'{"offset":7}') as (url, connections):
        client = create_pubsub_client(url)
        threads = [threading.Thread(target=lambda: asyncio.run(publish_twice(client))) for _ in range(3)]
        for thread in threads:
            thread.start()
        asyncio.run(publish_twice(client))
        for thread in threads:
            thread.join()
        soon(lambda: not connections, "all connections to be closed")


def test_close_closes_what_it_can() -> None:
    """Its own loop's connections now, those of a loop that runs in another thread soon; and it can be used again."""
    with threaded(b'{"offset":7}') as (url, connections):
        client = create_pubsub_client(url)
        published, go_on = threading.Event(), threading.Event()

        async def elsewhere() -> None:
            await publish_twice(client)
            published.set()
            await asyncio.to_thread(go_on.wait, 10)

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()

        async def here() -> None:
            await publish_twice(client)
            assert published.wait(10)
            assert len(connections) == 2
            await client.close_connections()
            await asyncio.to_thread(soon, lambda: not connections, "the connections of both loops to be closed")
            await publish_twice(client)

        asyncio.run(here())
        go_on.set()
        thread.join()


def test_a_client_that_is_forgotten_closes_its_connections() -> None:
    """In its loop, which goes on."""
    with threaded(b'{"offset":7}') as (url, connections):

        async def forget() -> None:
            client = create_pubsub_client(url)
            await publish_twice(client)
            del client
            gc.collect()
            await asyncio.to_thread(soon, lambda: not connections, "the connection to be closed")

        asyncio.run(forget())
