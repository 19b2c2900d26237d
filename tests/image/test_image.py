"""The image: what it is made of, and that it runs as a restricted pod would run it, with a real Restate beside it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import aiohttp

from image.engine import Image
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Event, free_port, publish, stream, topic_name
from support.waiting import until

START_SECONDS = 2.0


def environment(restate: RestateServer) -> tuple[dict[str, str], str]:
    """Return the settings of a container beside `restate`, and its URL."""
    port = free_port()
    return {
        "RESTATE_INGRESS_URL": restate.ingress_url.replace("localhost", "127.0.0.1"),
        "RESTATE_ADMIN_URL": restate.admin_url.replace("localhost", "127.0.0.1"),
        "PUBSUB_BIND": f"127.0.0.1:{port}",
    }, f"http://127.0.0.1:{port}"


async def answers(url: str) -> bool:
    """Whether `url` gives a 200."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
        try:
            async with session.get(url) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


def test_the_configuration_is_what_the_chart_relies_on(image: Image) -> None:
    """A numeric user that is not root, the command as entry point, `serve` by default."""
    config = image.config()
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["Entrypoint"] == ["restate-pubsub"]
    assert config["Cmd"] == ["serve"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert {"title", "description", "licenses", "version", "revision", "base.name"} <= labels.keys()
    assert f"restate-pubsub, version {labels['version']}\n" == image.run("--version").stdout
    print(f"\nimage size: {image.size()}")


def test_what_runs_has_neither_compiler_nor_installer(image: Image) -> None:
    """The environment that the service runs in holds no pip, and the image no compiler."""
    found = image.run(
        "-c",
        "import shutil, sys, importlib.util as u, os; "
        "print([n for n in ('gcc', 'cc', 'make', 'git') if shutil.which(n)], u.find_spec('pip'), os.getuid())",
        entrypoint="python",
    )
    assert f"[] None {image.config()['User'].split(':')[0]}\n" == found.stdout, found.stderr


def test_nothing_can_be_written(image: Image) -> None:
    """The root file system is read-only in these tests, so whatever they show needs no folder to write to."""
    written = image.run("-c", "open('/tmp/x', 'w')", entrypoint="python")
    assert "Read-only file system" in written.stderr


async def test_it_starts_within_two_seconds(image: Image, restate: RestateServer, tmp_path: Path) -> None:
    """From the start of the container to the first answer; the best of three, for a busy machine."""
    took = []
    for _ in range(3):
        env, url = environment(restate)
        began = time.monotonic()
        async with image.running([], env, tmp_path / "log"):
            await until(lambda url=url: answers(f"{url}/health/live"), f"{url} to live")  # type: ignore[misc]
            took.append(time.monotonic() - began)
    print(f"\nstart to first answer: {', '.join(f'{seconds:.2f} s' for seconds in took)}")
    assert min(took) < START_SECONDS


async def test_a_registered_container_shows_what_is_published(
    image: Image, restate: RestateServer, tmp_path: Path
) -> None:
    """The container serves, another run of the image registers it, a message comes through, SIGTERM ends it well."""
    env, url = environment(restate)
    topic = topic_name()
    log = tmp_path / "log"
    async with image.running([], env, log) as process:
        await until(lambda: answers(f"{url}/health/live"), f"{url} to live")
        registered = await asyncio.to_thread(image.run, "register", "--url", f"{url}/restate", env=env)
        assert registered.returncode == 0, registered.stderr
        async with stream(f"{url}/pubsub/{topic}") as reader:
            await publish(restate, topic, {"text": "hi"})
            assert Event("1", "message", {"text": "hi"}) == await reader.next()
            process.send_signal(signal.SIGTERM)
            await reader.to_end()
        assert await asyncio.wait_for(process.wait(), 30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


async def test_a_wrong_setting_is_one_line_and_ends_it(image: Image) -> None:
    """What `kubectl logs` shows of a pod that cannot start names the variable."""
    wrong = await asyncio.to_thread(image.run, "serve", env={"PUBSUB_HEARTBEAT": "soon"})
    assert wrong.returncode == 2
    assert "PUBSUB_HEARTBEAT='soon'" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
