"""The command: what it prints, how it exits, and what it survives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from restate_pubsub import StreamStopped, create_pubsub_client
from restate_pubsub.commands.local_restate import RestateServer
from support.faults import behind_a_proxy
from support.harness import (
    ROOT,
    Service,
    call,
    free_port,
    publish,
    query,
    read_all,
    restate_server,
    stream,
    topic_name,
)
from support.waiting import until

COMMANDS = ["serve", "register", "dev", "publish", "tail", "stop", "doctor", "size", "settings"]


@pytest.mark.parametrize("command", COMMANDS)
async def test_help_says_what_a_command_does(service: Service, command: str) -> None:
    """Exit code 0, and its usage."""
    code, out = await service.command(command, "--help")
    assert 0 == code
    assert out.startswith(f"Usage: python -m restate_pubsub {command}")


async def test_help_lists_the_commands(service: Service) -> None:
    """Each of them."""
    code, out = await service.command("--help")
    assert 0 == code
    assert [] == [command for command in COMMANDS if f"\n  {command} " not in out]


@pytest.mark.parametrize("words", [("nothing",), ("serve", "--fast"), ("publish",), ("tail", "t", "--offset", "abc")])
async def test_a_wrong_word_is_exit_code_2(service: Service, words: tuple[str, ...]) -> None:
    """And no traceback."""
    code, out = await service.command(*words)
    assert 2 == code
    assert "Traceback" not in out
    assert "rror: " in out


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("PUBSUB_BIND", "9080", "host:port"),
        ("RESTATE_INGRESS_URL", "localhost:8080", "http://host:port"),
        ("PUBSUB_SSE_PATH", "/restate", "its own path"),
        ("PUBSUB_HEARTBEAT", "often", "such as 500ms"),
        ("PUBSUB_MESSAGE_MAX_BYTES", "17MiB", "at most 16MiB"),
        ("PUBSUB_BATCH_MAX_BYTES", "1KiB", "PUBSUB_MESSAGE_MAX_BYTES"),
        ("PUBSUB_PULL_MAX_MESSAGES", "many", "whole number"),
        ("PUBSUB_RESTATE_IDENTITY_KEYS", "publickey_x", "publickeyv1_"),
    ],
)
async def test_a_bad_setting_is_one_line(service: Service, variable: str, value: str, rule: str) -> None:
    """It names the variable, the value and what is allowed; nothing starts."""
    code, out = await service.command("serve", env={variable: value})
    assert 2 == code
    assert 1 == len(out.splitlines())
    assert variable in out
    assert value in out
    assert rule in out


async def test_a_port_in_use_is_one_line(service: Service) -> None:
    """It names the address."""
    code, out = await service.command("serve", PUBSUB_BIND=f"127.0.0.1:{service.port}")
    assert 1 == code
    assert f"127.0.0.1:{service.port}" in out
    assert 1 == len(out.splitlines())


async def test_settings_lists_them_all(service: Service) -> None:
    """With defaults, and without the secrets' values."""
    code, out = await service.command("settings", RESTATE_AUTH_TOKEN="hidden")
    assert 0 == code
    assert "PUBSUB_PULL_TIMEOUT=30s\n" in out
    assert "hidden" not in out


async def test_publish_and_tail(service: Service, topic: str) -> None:
    """A message, many from standard input, one with an event, the end; and all of it printed."""
    assert (0, {"offset": 0, "nextOffset": 1}) == await _published(service, topic, '{"a": 1}')
    assert (0, {"offset": 1, "nextOffset": 3}) == await _published(service, topic, stdin=b'2\n\n"\xc3\xa9"\n')
    assert (0, {"offset": 3, "nextOffset": 4}) == await _published(service, topic, "3", "--event", "tick", "--close")
    assert (0, '{"a":1}\n2\n"é"\n3\n') == await service.command("tail", topic)
    assert (0, "3\n") == await service.command("tail", topic, "--offset", "-1")
    code, out = await service.command("tail", topic, "--offset", "3", "--full")
    assert (0, {"offset": 3, "event": "tick", "data": 3}) == (code, json.loads(out))
    code, out = await service.command("publish", topic, "4")
    assert 1 == code
    assert f"error: Topic '{topic}' was closed at offset 4" in out


async def test_tail_prints_messages_as_they_were_written(service: Service, topic: str) -> None:
    """Half a surrogate pair, numbers that no float holds, digits that one would lose: as JSON text, in any locale."""
    numbers = ["1e999", "-1E+400", "12345678901234567890", "1.10"]
    written = ['"\\ud83d"', '["\\ude00","\\u0000"]', *numbers, '"é\u2028"', '{"a":[]}']
    await _published(service, topic, "--close", stdin="\n".join(written).encode())
    for locale in ("C.UTF-8", "C", "POSIX"):
        printed = await service.command("tail", topic, env={"LC_ALL": locale, "PYTHONIOENCODING": "ascii"})
        assert (0, "".join(f"{message}\n" for message in written)) == printed
    _, out = await service.command("tail", topic, "--full")
    full = [f'{{"offset":{at},"event":null,"data":{message}}}\n' for at, message in enumerate(written)]
    assert "".join(full) == out


async def test_a_line_may_be_as_long_as_a_message(restate: RestateServer, service: Service, topic: str) -> None:
    """One byte more is refused by its number, from a pipe and from a file; what came before it stands."""
    fits, longer = b'"' + b"x" * 98 + b'"', b'"' + b"x" * 99 + b'"'
    limit = {"PUBSUB_MESSAGE_MAX_BYTES": "100"}
    code, out = await service.command("publish", topic, stdin=fits + b"\r\n" + fits + b"\n\n" + fits, env=limit)
    assert (0, {"offset": 0, "nextOffset": 3}) == (code, json.loads(out))
    code, out = await service.command("publish", topic, stdin=b"1\n\n" + longer + b"\n2\n", env=limit)
    assert 1 == code
    assert "line 3: The message has 101 bytes; at most 100" in out
    assert "the 1 messages before it are published, up to offset 4" in out
    code, out = await service.command("publish", topic, stdin=longer * 3000 + b"\n2\n", env=limit)
    assert 1 == code
    assert "line 1: The line has more than 100 bytes" in out
    file = restate.base_dir / "lines"
    file.write_bytes(b"1\n" + longer * 3000 + b"\n2\n")
    with file.open("rb") as lines:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "restate_pubsub", "publish", topic, env=service.env | limit, stdin=lines,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    out = (await process.communicate())[0].decode()
    assert 1 == process.returncode
    assert "line 2: The message has" in out
    assert "up to offset 5" in out
    assert 5 == len(await read_all(restate, topic))


@pytest.mark.parametrize("words", [("publish", "{topic}", "1"), ("publish", "{topic}", "-"), ("tail", "{topic}")])
async def test_a_command_says_what_it_waits_for(service: Service, topic: str, words: tuple[str, ...]) -> None:
    """Within a second or so, on standard error, with the reason; it goes on trying."""
    url = f"http://127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "restate_pubsub", *(word.format(topic=topic) for word in words),
        env=service.env | {"RESTATE_INGRESS_URL": url}, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"1\n")
    try:
        said = [(await asyncio.wait_for(process.stderr.readline(), 60)).decode() for _ in range(2)]
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
    assert any("cannot be reached: nothing listens there" in line for line in said)
    assert any(f"waiting for Restate at {url} …" in line for line in said)


async def test_a_command_says_that_a_topic_is_blocked(tmp_path: Path) -> None:
    """Restate answers, and the write waits in line: the command is not silent, and goes on."""
    restate = restate_server(tmp_path)
    service = Service(restate)
    await restate.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(restate.stop)
        proxy = await behind_a_proxy(stack, service)
        proxy.stall()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "restate_pubsub", "publish", "t", "1", env=service.env,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert "waiting for Restate at" in (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        proxy.flow()
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert {"offset": 0, "nextOffset": 1} == json.loads(out)


async def test_help_documents_the_exit_codes(service: Service) -> None:
    """Where people look."""
    _, out = await service.command("--help")
    assert "Exit codes: 0 done; 1 refused" in out


async def test_stop_ends_what_is_being_said(restate: RestateServer, service: Service, topic: str) -> None:
    """All that is unfinished, or one stream; twice is once, and what cannot be cancelled is refused."""
    async with create_pubsub_client(restate.ingress_url) as client:
        assert (0, '{"offset": 0, "stopped": []}\n') == await service.command("stop", topic)
        with pytest.raises(StreamStopped, match="enough"):
            async with client.stream(topic, id="answer") as writer:
                await writer.write("said")
                await until(lambda: writer.acknowledged, "the token")
                told = '{"offset": 1, "stopped": ["answer"]}\n'
                assert (0, told) == await service.command("stop", topic, "--reason", "enough")
                assert (0, told) == await service.command("stop", topic, "--id", "answer")
                code, out = await service.command("stop", topic, "--id", "answer", "--cancel")
                assert 1 == code
                assert "is not named after an invocation" in out


async def test_tail_says_what_is_gone_and_goes_on(restate: RestateServer, service: Service, topic: str) -> None:
    """A topic with retention has no offset 0 any more; a reader of streams is told so by a `reset`."""
    await _published(service, topic, "--close", stdin=b"1\n2\n3\n")
    status, _ = await call(restate, topic, "truncate", 2)
    assert 200 == status
    assert (0, "offsets 0 to 1 are gone: going on at 2\n3\n") == await service.command("tail", topic)


async def _published(service: Service, *words: str, stdin: bytes = b"") -> tuple[int, Any]:
    code, out = await service.command("publish", *words, stdin=stdin)
    return code, json.loads(out)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("{hi",), "not JSON"),
        (("1", "--event", "end"), "event 'end'"),
        (("1", "--key", "schlüssel"), "idempotency key"),
    ],
)
async def test_publish_refuses_bad_input(
    restate: RestateServer, service: Service, topic: str, words: tuple[str, ...], text: str
) -> None:
    """One line, exit code 1, and nothing is published."""
    code, out = await service.command("publish", topic, *words)
    assert 1 == code
    assert text in out
    assert 1 == len(out.splitlines())
    assert [] == await read_all(restate, topic)


async def test_a_key_publishes_once(restate: RestateServer, service: Service, topic: str) -> None:
    """Repeated, it prints the same offsets."""
    for _ in range(2):
        assert (0, {"offset": 0, "nextOffset": 1}) == await _published(service, topic, "1", "--key", topic)
    assert [1] == await read_all(restate, topic)


@contextlib.asynccontextmanager
async def tailing(service: Service, *words: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run `tail`, give its output, and end it with Ctrl-C."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "restate_pubsub", "tail", *words, env=service.env, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
        process.send_signal(signal.SIGINT)
        assert 130 == await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_tail_survives_restate_and_the_service(tmp_path: Path) -> None:
    """Each killed and started again, the service for longer than Restate tries a read: every message once."""
    restate = restate_server(tmp_path)
    await restate.start()
    service = Service(restate)
    topic = topic_name()
    try:
        await service.start()
        await publish(restate, topic, 0)
        async with tailing(service, topic) as out:

            async def line() -> int:
                return int(await asyncio.wait_for(out.readline(), 40))

            assert 0 == await line()
            await restate.kill()
            await restate.start()
            await publish(restate, topic, 1)
            assert 1 == await line()
            await service.kill()
            sending = asyncio.create_task(publish(restate, topic, 2))
            await asyncio.sleep(16)  # a read that fails is given up after some eleven seconds
            await service.start(register=False)
            await sending
            assert 2 == await line()
    finally:
        await service.stop()
        await restate.stop()


async def test_register_waits_repeats_and_refuses_a_taken_name(tmp_path: Path) -> None:
    """It waits for Restate and for the service; again, it changes nothing; another's name needs `--force`."""
    restate = restate_server(tmp_path)
    service, other = Service(restate), Service(restate)
    url = f"{service.url}/restate"
    try:
        code, out = await service.command("register", "--url", url, "--wait", "1s")
        assert 1 == code
        assert "cannot be reached" in out
        assert "gave up after 1 s" in out
        registering = asyncio.create_task(service.command("register", "--url", url, "--wait", "60s"))
        await asyncio.sleep(1)
        await restate.start()
        await asyncio.sleep(2)  # it finds Restate, but nobody at the URL
        assert not registering.done()
        await service.start(register=False)
        code, out = await registering
        assert 0 == code
        assert f"waiting: Restate cannot reach {url}: connection refused" in out
        assert "META0003" not in out
        assert f"registered: object pubsub (revision 1) at {url}, deployment dp_" in out
        handlers = "answer, append, ask, close, delete, expire, forget, history, info, ping, publish, pull"
        assert f"handlers: {handlers}," in out
        code, out = await service.command("register", "--url", url)
        assert 0 == code
        assert "unchanged: object pubsub" in out
        await other.start(register=False)
        code, out = await other.command("register", "--url", f"{other.url}/restate")
        assert 1 == code
        assert "is served by another deployment" in out
        assert "--force" in out
        code, out = await other.command("register", "--url", f"{other.url}/restate", "--force")
        assert 0 == code
        assert "updated: object pubsub" in out
        code, out = await service.command("register", "--url", url, PUBSUB_OBJECT_NAME="another")
        assert 1 == code
        assert "does not serve the object 'another' (it serves pubsub)" in out
        rows = await query(restate, "select name, public from sys_service")
        assert ["pubsub"] == [row["name"] for row in rows]
    finally:
        await service.stop()
        await other.stop()
        await restate.stop()


async def test_register_discovers_what_has_changed(restate: RestateServer) -> None:
    """The same URI with another object behind it: Restate alone would not look."""
    port = free_port()
    first = Service(restate, port=port, PUBSUB_OBJECT_NAME="changing", PUBSUB_IDEMPOTENCY_RETENTION="1h")
    await first.start()
    await first.stop()
    second = Service(restate, port=port, PUBSUB_OBJECT_NAME="changed")
    try:
        await second.start(register=False)
        code, out = await second.command("register", "--url", f"{second.url}/restate")
        assert 0 == code, out
        assert "registered: object changed" in out
        assert 200 == (await call(restate, "t", "publish", 1, name="changed"))[0]
    finally:
        await second.stop()


@contextlib.asynccontextmanager
async def recording(target: str) -> AsyncIterator[tuple[str, list[tuple[str, str | None]]]]:
    """Hand requests on to `target`; record path and authorization of each."""
    seen: list[tuple[str, str | None]] = []

    async def hand_on(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("authorization")))
        headers = {k: v for k, v in request.headers.items() if k.lower() in ("content-type", "idempotency-key")}
        async with (
            aiohttp.ClientSession(skip_auto_headers=["content-type"]) as session,
            session.request(
                request.method, target + request.raw_path, data=await request.read() or None, headers=headers
            ) as answer,
        ):
            kept = {k: v for k, v in answer.headers.items() if k.lower().startswith(("content-type", "x-restate"))}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hand_on)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", seen
    finally:
        await runner.cleanup()


async def test_the_token_goes_with_every_request_to_restate(restate: RestateServer, topic: str) -> None:
    """The service's, and those of register, publish and tail; it is in no log."""
    async with recording(restate.ingress_url) as (ingress, calls), recording(restate.admin_url) as (admin, asked):
        env = {"RESTATE_INGRESS_URL": ingress, "RESTATE_ADMIN_URL": admin, "RESTATE_AUTH_TOKEN": "key_secret"}
        service = Service(restate, PUBSUB_OBJECT_NAME="cloud", PUBSUB_LOG_LEVEL="debug", **env)  # type: ignore[arg-type]
        try:
            await service.start()
            assert (0, {"offset": 0, "nextOffset": 1}) == await _published(service, topic, "1", "--close")
            assert (0, "1\n") == await service.command("tail", topic)
            async with stream(service.topic_url(topic)) as reader:
                await reader.to_end()
        finally:
            await service.stop()
        assert {"/deployments", "/services/cloud"} <= {path for path, _ in asked}
        assert {"append", "pull", "info", "health"} <= {path.rpartition("/")[2] for path, _ in calls}
        assert {"Bearer key_secret"} == {token for _, token in calls + asked}
        assert "key_secret" not in service.log


async def test_dev_runs_everything_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """It prints what to try; what it prints works; nothing is left running."""
    bare = RestateServer(tmp_path, ingress_port=free_port(), admin_port=free_port(), node_port=free_port())
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RESTATE_", "PUBSUB_"))} | {
        "RESTATE_INGRESS_URL": bare.ingress_url,
        "RESTATE_ADMIN_URL": bare.admin_url,
        "PUBSUB_BIND": f"127.0.0.1:{port}",
    }
    log = tmp_path / "dev.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "restate_pubsub", "dev", "--base-dir", tmp_path / "data", env=env, stdout=out,
            stderr=out, cwd=ROOT,
        )  # fmt: skip
    try:
        await until(lambda: "Ready. Follow a topic" in log.read_text(), "dev to be ready", 60)
        assert f"curl -N http://127.0.0.1:{port}/pubsub/demo" in log.read_text()
        async with stream(f"http://127.0.0.1:{port}/pubsub/demo") as reader:
            await publish(bare, "demo", {"role": "user", "content": "hi"})
            assert {"role": "user", "content": "hi"} == (await reader.next()).data
            process.send_signal(signal.SIGINT)
            assert [] == await reader.to_end()
        assert 0 == await asyncio.wait_for(process.wait(), 40)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()
    with pytest.raises(aiohttp.ClientConnectionError):
        await call(bare, "demo", "info")
