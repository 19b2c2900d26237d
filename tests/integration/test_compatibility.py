"""The published TypeScript packages against this object, and this object on what they wrote."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restate_pubsub.commands.local_restate import RestateServer
from restate_pubsub.commands.registration import Registrar
from restate_pubsub.restate_admin import RestateAdmin
from support.harness import (
    ROOT,
    Service,
    call,
    change_state,
    free_port,
    publish,
    query,
    read_all,
    restate_server,
    state_of,
    stream,
    subscribed,
    topic_name,
)
from support.node import NODE
from support.waiting import until

SCRIPT = ROOT / "tests" / "integration" / "node" / "reference.mjs"


async def start_node(*words: str, name: str = "pubsub") -> asyncio.subprocess.Process:
    """Start the reference; `name` is the object's, its output is piped."""
    return await asyncio.create_subprocess_exec(
        NODE,
        SCRIPT,
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NAME": name},
    )


async def lines(process: asyncio.subprocess.Process) -> list[bytes]:
    """Wait for its end; return the lines that it said."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert 0 == process.returncode, err.decode()
    return out.splitlines()


async def ended(process: asyncio.subprocess.Process) -> list[Any]:
    """Wait for its end; return what it said."""
    return [json.loads(line) for line in await lines(process)]


async def node(*words: str) -> list[Any]:
    """Run the reference."""
    return await ended(await start_node(*words))


MESSAGES = [{"role": "user", "content": "hi 🚀"}, "text", 1.5, None, True, [], {"nested": {"a": [1]}}]


async def test_the_clients_messages_are_read_back(restate: RestateServer, service: Service, topic: str) -> None:
    """Published with the TypeScript client, by key each once; read by it, from the stream, and by its own SSE."""
    words = [word for n, message in enumerate(MESSAGES) for word in (json.dumps(message), f"{topic}-{n}")]
    await node("publish", restate.ingress_url, topic, *words, *words)
    await until(lambda: _tail(restate, topic, len(MESSAGES)), "the sends to arrive")
    assert MESSAGES == await read_all(restate, topic)
    said = await node("pull", restate.ingress_url, topic, "0", str(len(MESSAGES)))
    assert [{"message": message} for message in MESSAGES] == said
    async with stream(service.topic_url(topic)) as reader:
        assert MESSAGES == [event.data for event in await reader.take(len(MESSAGES))]
    said = await node("sse", restate.ingress_url, topic, "5", "2")
    assert ["event: ping\n\n", "data: []\n\n", 'data: {"nested":{"a":[1]}}\n\n'] == [line["bytes"] for line in said]


async def _tail(restate: RestateServer, topic: str, tail: int) -> bool:
    return bool((await call(restate, topic, "info"))[1]["tail"] == tail)


async def test_the_client_reads_pages(restate: RestateServer, service: Service, topic: str) -> None:
    """More than a page, in batches and one by one."""
    assert service.process is not None
    await call(restate, topic, "append", {"messages": [{"data": n} for n in range(150)]})
    await publish(restate, topic, *range(150, 160))
    said = await node("pull", restate.ingress_url, topic, "60", "100")
    assert [{"message": n} for n in range(60, 160)] == said


TOKENS = [
    b'{"text":"%b"}' % text.encode()
    for at in range(25)
    for text in (f"{at} ", "é\u2028 \U0001f680", r"\"\\\n", r"\ud83d", r"\ude00", "")
]
"""As JavaScript writes them, halves of a character too."""


async def joined(restate: RestateServer, topic: str) -> list[bytes]:
    """Write a topic whose pages keep tokens as runs, with another message among them; return all that it has."""
    other = b'{"done":[1.5,null]}'
    for messages, join in ((TOKENS, b'"text"'), ([other], b"null"), (TOKENS, b'"text"')):
        entries = b",".join([b'{"data":%b}' % message for message in messages])
        status, said = await call(restate, topic, "append", b'{"messages":[%b],"join":%b}' % (entries, join))
        assert 200 == status, said
    state = await state_of(restate, topic)
    assert [True] * 4 == [bool(json.loads(state[f"p_{page}"])["runs"]) for page in range(4)]
    return [*TOKENS, other, *TOKENS]


async def texts(restate: RestateServer, topic: str, count: int, offset: int = 0) -> list[bytes]:
    """Return what the client reads, as JSON text."""
    out = await lines(await start_node("pull", restate.ingress_url, topic, str(offset), str(count)))
    return [line.removeprefix(b'{"message":').removesuffix(b"}") for line in out]


async def test_the_client_reads_joined_messages_as_they_were_written(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """It knows nothing of them: byte for byte from the beginning, and from the middle of a run."""
    assert service.process is not None
    written = await joined(restate, topic)
    for offset in (0, 40, 64, 130, 151, 290):
        assert written[offset:] == await texts(restate, topic, len(written) - offset, offset)


async def test_a_page_of_another_version_fails_by_name_and_nothing_is_left_out(
    restate: RestateServer, service: Service, topic: str
) -> None:
    """The client is told, a stream gives nothing for it and nothing of what follows, and the log says why."""
    await joined(restate, topic)
    page = (await state_of(restate, topic))["p_1"]
    await change_state(restate, topic, p_1=page.replace('"joined"', '"later"'))
    reason = "The page at offset 64 holds neither messages nor runs: another version wrote it"
    (failed,) = await node("pull", restate.ingress_url, topic, "0", "1")
    assert reason in failed["error"]
    for asked in ("", "join=false"):

        def told(said: int = len(service.log)) -> bool:
            return reason in service.log[said:]

        async with stream(service.topic_url(topic, asked)) as reader:
            await until(told, "the log to say so")
            await change_state(restate, topic, p_1=page)
            assert (await reader.next()).data["text"].startswith("0 ")
            await change_state(restate, topic, p_1=page.replace('"joined"', '"later"'))


async def test_the_client_goes_on_after_408(restate: RestateServer, topic: str) -> None:
    """It knows the timeout by its status alone."""
    short = await Service(restate, PUBSUB_PULL_TIMEOUT="300ms", PUBSUB_OBJECT_NAME="short").start()
    try:
        await call(restate, topic, "publish", "old", name="short")
        reader = await start_node("pull", restate.ingress_url, topic, "1", "2", name="short")
        await asyncio.sleep(1.5)  # several timeouts pass
        assert reader.returncode is None
        await call(restate, topic, "append", {"messages": [{"data": "a"}, {"data": "b"}]}, name="short")
        assert [{"message": "a"}, {"message": "b"}] == await ended(reader)
    finally:
        await short.stop()


async def test_the_client_follows_from_the_tail(restate: RestateServer, service: Service, topic: str) -> None:
    """A pull without an offset has what comes next."""
    assert service.process is not None
    await publish(restate, topic, "old")
    reader = await start_node("pull", restate.ingress_url, topic, "tail", "2")
    await subscribed(restate, topic)
    await publish(restate, topic, "a", "b")
    assert [{"message": "a"}, {"message": "b"}] == await ended(reader)


async def test_the_client_truncates(restate: RestateServer, service: Service, topic: str) -> None:
    """And is told of what is gone in the words it knows."""
    assert service.process is not None
    await publish(restate, topic, *range(5))
    await node("truncate", restate.ingress_url, topic, "2")
    assert [2, 3, 4] == await read_all(restate, topic, 2)
    said = await node("pull", restate.ingress_url, topic, "0", "1")
    assert "Offset 0 is lower than the head 2" in said[-1]["error"]


@contextlib.asynccontextmanager
async def reference(restate: RestateServer) -> AsyncIterator[None]:
    """Serve and register the TypeScript object."""
    port = free_port()
    process = await start_node("serve", str(port), "")
    try:
        assert process.stdout is not None
        assert {"listening": port} == json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        said = asyncio.create_task(process.communicate())  # it logs every call, and stops when nobody reads
        await Registrar(restate.admin_url).register(f"http://127.0.0.1:{port}", "pubsub", force=True)
        yield
    finally:
        process.kill()
    await said


async def _one_topic(restate: RestateServer, written: int, dropped: int) -> tuple[str, int, int]:
    topic = topic_name(f"ts-{written}-{dropped}")
    await publish(restate, topic, *range(written))
    if dropped:
        await call(restate, topic, "truncate", dropped)
    return topic, written, dropped


async def test_a_topic_goes_back_to_the_typescript_object(tmp_path: Path) -> None:
    """What was written without pages at once; what lies in pages after `unseal`; and back here again."""
    restate = restate_server(tmp_path)
    await restate.start()
    service = Service(restate)
    try:
        await service.start()
        paged, plain, said, kept = map(topic_name, ("paged", "plain", "said", "kept"))
        written = await joined(restate, said)
        await joined(restate, kept)
        await call(restate, paged, "append", {"messages": [{"data": n} for n in range(200)]})
        assert any(key.startswith("p_") for key in await state_of(restate, paged))
        code, out = await service.command("unseal", paged)
        assert (code, "set PUBSUB_PAGES=false first" in out) == (1, True)
        await service.stop()
        service.env |= {"PUBSUB_PAGES": "false", "PUBSUB_RETAIN_IDLE": "1h"}
        await service.start()
        await call(restate, plain, "append", {"messages": [{"data": n} for n in range(200)]})
        assert not any(key.startswith("p_") for key in await state_of(restate, plain))
        code, out = await service.command("unseal", paged)
        assert (code, out.strip()) == (0, f"{paged}: 3 pages turned back")
        code, out = await service.command("unseal", said)
        assert (code, out.strip()) == (0, f"{said}: 4 pages turned back")
        assert not any(key.startswith("p_") for key in await state_of(restate, paged))
        for topic in (paged, plain):
            assert list(range(200)) == await read_all(restate, topic)
        code, out = await service.command("unseal", "--finish")
        assert (code, "is still this program's" in out) == (1, True)
        async with reference(restate):
            left = "select id from sys_invocation where status = 'scheduled' and target_handler_name = 'expire'"
            assert len(await query(restate, left)) == 1
            code, out = await service.command("unseal", "--finish")
            assert (code, "does not know, ended: 1 expire" in out) == (0, True), out
            assert await query(restate, left) == []
            assert "ended: none" in (await service.command("unseal", "--finish"))[1]
            for topic in (paged, plain):
                pulled = await node("pull", restate.ingress_url, topic, "0", "200")
                assert [{"message": n} for n in range(200)] == pulled
                await publish(restate, topic, 200)
            assert written == await texts(restate, said, len(written))
            assert [b"null"] * 256 + written[256:] == await texts(restate, kept, len(written))  # four pages
        await service.stop()
        for name in ("PUBSUB_PAGES", "PUBSUB_RETAIN_IDLE"):
            del service.env[name]
        await service.start()
        for topic in (paged, plain):
            await publish(restate, topic, 201)
            assert list(range(202)) == await read_all(restate, topic)
    finally:
        await service.stop()
        await restate.stop()


async def test_a_topic_of_the_typescript_object_goes_on_here(tmp_path: Path) -> None:
    """Same Restate, same state: all of it is read, truncated and continued, over pages; who waits there is answered."""
    restate = restate_server(tmp_path)
    await restate.start()
    service = Service(restate)
    try:
        async with reference(restate):
            topics = [
                await _one_topic(restate, *case)
                for case in [(3, 0), (10, 4), (64, 0), (130, 0), (130, 70), (64, 64), (63, 10)]
            ]
            waiter = topic_name("waiter")
            await publish(restate, waiter, "old")
            pull = asyncio.create_task(call(restate, waiter, "pull", {"offset": 1}))

            async def waits() -> bool:
                return "subscription" in await state_of(restate, waiter)

            await until(waits, "the reference to wait")
            await service.start()
            await publish(restate, waiter, "new")
            assert (200, {"messages": ["new"], "nextOffset": 2}) == await pull
        for topic, written, dropped in topics:
            assert list(range(dropped, written)) == await read_all(restate, topic, dropped), topic
            if dropped:
                status, failure = await call(restate, topic, "pull", {"offset": dropped - 1})
                assert 410 == status
                assert f"Offset {dropped - 1} is lower than the head {dropped}" == failure["message"]
            await publish(restate, topic, *range(written, written + 3))
            await call(restate, topic, "append", {"messages": [{"data": n} for n in range(written + 3, written + 200)]})
            everything = list(range(dropped, written + 200))
            assert everything == await read_all(restate, topic, dropped), topic
            async with stream(service.topic_url(topic, f"offset={dropped}")) as reader:
                assert everything == [event.data for event in await reader.take(len(everything))]
            assert any(key.startswith("p_") for key in await state_of(restate, topic))
            await call(restate, topic, "truncate", len(everything) - 1)
            assert everything[-1:] == await read_all(restate, topic, written + 199)
            await call(restate, topic, "truncate", 1)
            assert {"messagesMetadata"} == {
                key for key in await state_of(restate, topic) if not key.startswith(("e_", "subscription"))
            }, topic
    finally:
        await service.stop()
        await restate.stop()


@pytest.mark.usefixtures("service")
async def test_a_call_that_has_ended_is_none_to_be_killed(restate: RestateServer, topic: str) -> None:
    """Restate keeps it for its key, and says so."""
    await call(restate, topic, "publish", 1, idempotency_key=topic)
    listed = f"select id from sys_invocation where target_service_key = '{topic}' and status = 'completed'"  # noqa: S608
    (kept,) = await until(lambda: query(restate, listed), "the call to be listed")
    async with RestateAdmin(restate.admin_url) as admin:
        assert not await admin.kill(kept["id"])


async def test_a_call_that_has_begun_here_is_waited_for_and_not_ended(tmp_path: Path) -> None:
    """It may send more calls for later, so `unseal --finish` is not done before."""
    restate, topic = restate_server(tmp_path), topic_name()
    await restate.start()
    service = Service(restate)
    try:
        await service.start()
        assert service.process is not None
        service.process.send_signal(signal.SIGSTOP)
        await call(restate, topic, "append/send", {"messages": [{"data": 1}]})

        async def running() -> bool:
            return bool(await query(restate, "select id from sys_invocation where status = 'running'"))

        await until(running, "the call to begin")
        async with reference(restate), RestateAdmin(restate.admin_url) as admin:
            found = await admin.strangers("pubsub")
            assert found is not None
            assert ([], [(topic, "append")]) == (found.lost, [(one.topic, one.handler) for one in found.elsewhere])
            service.process.send_signal(signal.SIGCONT)

            async def ended() -> bool:
                left = await admin.strangers("pubsub")
                return left is not None and not left.elsewhere

            await until(ended, "the call to end")
        assert "m_0" in await state_of(restate, topic)
    finally:
        await service.stop()
        await restate.stop()
