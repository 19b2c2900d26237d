"""Stopping: real signals after real traffic, streams open and calls in flight; on two versions of Python."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from restate_pubsub.commands.local_restate import RestateServer
from support.harness import ROOT, Event, Service, Stream, call, free_port, get, read_all, stream, topic_name
from support.waiting import until

DRAIN = 6.0


def another_python() -> str | None:
    """Return an interpreter of 3.12 or newer that is not the one that runs the tests; the newest there is."""
    for version in ("3.14", "3.13", "3.12"):
        if sys.version_info[:2] == tuple(map(int, version.split("."))):
            continue
        pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}"))
        for python in (*map(str, reversed(pyenv)), shutil.which(f"python{version}")):
            if python and not subprocess.run([python, "-c", "import venv, ensurepip"], check=False).returncode:
                return python
    return None


@pytest.fixture(scope="session", params=["this", "another"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter that has the service: the tests' own, and one of 3.12 or newer with the locked packages."""
    if request.param == "this":
        return sys.executable
    other = another_python()
    if other is None:
        pytest.skip("there is no second Python of 3.12 or newer on this machine")
    version = re.sub(r"\W", "", Path(other).name)
    venv = ROOT / ".venv" / f"other-{version}"
    installed = venv / "bin" / "python"
    pip: list[str | Path] = [installed, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    locked = (ROOT / "requirements.lock").read_bytes()
    mark = venv / "requirements.lock"
    if not mark.exists() or mark.read_bytes() != locked:
        subprocess.run([other, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([*pip, "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
        mark.write_bytes(locked)
    wheels = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], check=True, cwd=ROOT)
    subprocess.run([*pip, "--no-deps", "--force-reinstall", *wheels.glob("*.whl")], check=True)
    return str(installed)


@pytest.fixture
async def stoppable(restate: RestateServer, python: str) -> AsyncIterator[Service]:
    """Return a service that the test may stop; its object has a name of its own."""
    env = {"PUBSUB_OBJECT_NAME": "stoppable", "PUBSUB_DRAIN_TIMEOUT": f"{DRAIN:g}s", "PUBSUB_HEARTBEAT": "1s"}
    env["PUBSUB_PUBLISH_ENABLED"] = "true"
    service = await Service(restate, python=python, port=free_port(), env=env).start()
    yield service
    await service.stop()


async def write(restate: RestateServer, topic: str, writer: int, stop: asyncio.Event) -> list[str]:
    """Publish until told to stop; return what was acknowledged."""
    acknowledged: list[str] = []
    while not stop.is_set():
        message = f"{writer}-{len(acknowledged)}"
        status, answer = await call(restate, topic, "publish", message, name="stoppable")
        assert 200 == status, answer
        acknowledged.append(message)
    return acknowledged


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_all_of_it_well(
    restate: RestateServer, stoppable: Service, topic: str, signum: signal.Signals
) -> None:
    """Exit code 0 within the drain time, streams ended and not cut, new ones refused, no message lost or doubled."""
    stop = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(stream(stoppable.topic_url(topic))) for _ in range(20)]
        others = [await stack.enter_async_context(stream(stoppable.topic_url(topic_name()))) for _ in range(5)]
        idle = await stack.enter_async_context(aiohttp.ClientSession())
        async with idle.get(f"{stoppable.url}/health/live") as answer:  # a connection that stays, with nothing on it
            assert 200 == answer.status
        waiting = asyncio.create_task(call(restate, topic_name(), "pull", {"timeout": 60}, name="stoppable"))
        writers = [asyncio.create_task(write(restate, topic, n, stop)) for n in range(3)]
        ends = [asyncio.create_task(reader.to_end()) for reader in readers]
        await until(lambda: len(readers[0].raw) > 2000, "traffic")
        assert stoppable.process is not None
        begin = time.monotonic()
        stoppable.process.send_signal(signum)
        await until(lambda: "draining" in stoppable.log, "the drain")
        status, problem, headers = await get(stoppable.topic_url(topic))
        assert (503, "draining", "1") == (status, problem["code"], headers["retry-after"])
        status, text, _ = await get(stoppable.topic_url(topic), accept="text/event-stream")
        assert (200, True) == (status, b"\nretry: " in text)  # any other status would stop an EventSource for good
        status, ready, _ = await get(f"{stoppable.url}/health/ready")
        assert (503, "draining: this process is about to stop") == (status, ready["reason"])
        assert 0 == await asyncio.wait_for(stoppable.process.wait(), DRAIN + 2)
        assert time.monotonic() - begin < DRAIN + 1
        seen = await asyncio.gather(*ends)  # a connection that was cut would raise
        for other in others:
            assert [] == await other.to_end()
    assert "Traceback" not in stoppable.log
    assert '"event": "stopped"' in stoppable.log
    for events in seen:
        assert list(range(1, len(events) + 1)) == [int(event.id) for event in events]
    await stoppable.start(register=False)
    await until(lambda: stoppable.answers("/health/ready"), "readiness")
    stop.set()
    acknowledged = await asyncio.gather(*writers)
    everything = await read_all(restate, topic, name="stoppable")
    assert sum(map(len, acknowledged)) == len(everything)
    for writer, messages in enumerate(acknowledged):
        assert messages == [message for message in everything if message.startswith(f"{writer}-")]
    last = max(seen, key=len)[-1]
    async with stream(stoppable.topic_url(topic), Last_Event_ID=last.id) as reader:
        assert everything[int(last.id) :] == [e.data for e in await reader.take(len(everything) - int(last.id))]
    waiting.cancel()


async def test_an_idle_service_stops_at_once(stoppable: Service) -> None:
    """Nothing to wait for."""
    begin = time.monotonic()
    assert 0 == await stoppable.stop()
    assert time.monotonic() - begin < 2.5


async def test_a_frozen_reader_does_not_hold_it(restate: RestateServer, stoppable: Service, topic: str) -> None:
    """One that takes nothing is cut at the end of the drain time; the exit code is 0 all the same."""
    for n in range(8):
        await call(restate, topic, "publish", f"{n}".ljust(900_000, "x"), name="stoppable")
    reader, writer = await asyncio.open_connection("127.0.0.1", stoppable.port, limit=1024)
    writer.write(f"GET /pubsub/{topic} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
    await reader.readexactly(100)
    await stoppable.has_streams(1)
    begin = time.monotonic()
    assert 0 == await stoppable.stop(seconds=DRAIN + 3)
    assert time.monotonic() - begin < DRAIN + 2
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_a_body_under_way_is_told_how_far_it_got(stoppable: Service, topic: str) -> None:
    """Before the drain time is over: what it has brought stands."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stoppable.port)
    head = "host: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked"
    writer.write(f"POST /pubsub/{topic} HTTP/1.1\r\n{head}\r\n\r\n2\r\n1\n\r\n2\r\n2\n\r\n".encode())
    async with stream(stoppable.topic_url(topic)) as follower:
        await follower.take(2)
        assert stoppable.process is not None
        stoppable.process.terminate()
        async with asyncio.timeout(DRAIN + 2):
            answer = await reader.readuntil(b"}")
    body = json.loads(answer[answer.index(b"{") :])
    assert (503, "draining", 2, 2) == (int(answer.split()[1]), body["code"], body["count"], body["nextOffset"])
    assert b"retry-after: 1" in answer.lower()
    writer.close()
    assert 0 == await asyncio.wait_for(stoppable.process.wait(), DRAIN + 2)


async def test_a_second_signal_does_not_wait(stoppable: Service, topic: str) -> None:
    """Two times Ctrl-C: now."""
    async with contextlib.AsyncExitStack() as stack:
        readers: list[Stream] = [await stack.enter_async_context(stream(stoppable.topic_url(topic))) for _ in range(30)]
        assert stoppable.process is not None
        begin = time.monotonic()
        stoppable.process.send_signal(signal.SIGINT)
        await until(lambda: "draining" in stoppable.log, "the drain")
        stoppable.process.send_signal(signal.SIGINT)
        assert 0 == await asyncio.wait_for(stoppable.process.wait(), 3)
        assert time.monotonic() - begin < 2.5
        assert 30 == len(readers)


async def test_what_a_stopped_process_held_goes_on_in_another(
    restate: RestateServer, stoppable: Service, topic: str
) -> None:
    """A reader that comes back with its id misses and repeats nothing, over several restarts."""
    seen: list[Event] = []
    for turn in range(3):
        headers = {"Last_Event_ID": seen[-1].id} if seen else {}
        async with stream(stoppable.topic_url(topic), **headers) as reader:
            for n in range(5):
                await call(restate, topic, "publish", 5 * turn + n, name="stoppable")
            seen += await reader.take(5)
            stopping = asyncio.create_task(stoppable.stop())
            assert [] == await reader.to_end()
            assert 0 == await stopping
        await stoppable.start(register=False)
    assert list(range(15)) == [event.data for event in seen]
