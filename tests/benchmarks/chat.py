"""A long chat that is opened again: joined, and as it was written."""

from __future__ import annotations

import asyncio
import time

from benchmarks.field import Field
from benchmarks.plan import Plan
from benchmarks.processes import cpu_seconds
from benchmarks.stats import Results
from restate_pubsub.protocol.calls import encode_append
from restate_pubsub.protocol.messages import Message
from support.harness import query, topic_name

MARKER = b'"k":"e"}'
READ_SECONDS = 150.0
HERD = 200
"""So many readers open the chat within `HERD_SECONDS`: what a restart brings."""
HERD_SECONDS = 1.0
JOINED, PLAIN = "joined", "as it was written"


def chat(answers: int, tokens: int) -> list[Message]:
    """Return a chat: of each answer a prompt, its tokens, and its end."""
    found: list[Message] = []
    for turn in range(answers):
        found.append(Message(b'{"turn":%d,"prompt":"Tell me of number %d"}' % (turn, turn), "prompt"))
        text = b'{"turn":"%032x","text":"word%d "}'  # as the example chat writes: the turn is a name that the page made
        found += [Message(text % (turn, at % 10), "token") for at in range(tokens)]
        found.append(Message(b'{"turn":%d,"k":"%b"}' % (turn, b"e" if turn == answers - 1 else b"."), "done"))
    return found


async def chats(field: Field, plan: Plan, results: Results, repetition: int) -> None:
    """Open the same chat two ways, each cold and warm, and then with many at once."""
    messages = chat(plan.chat_answers, plan.chat_tokens)
    ways = [(JOINED, ""), (PLAIN, "&join=false")]
    first = repetition % len(ways)
    for name, query_ in (*ways[first:], *ways[:first]):
        topic = topic_name()
        await _written(field, topic, messages, join=name == JOINED)
        rows = await query(field.restate, f"select sum(length(value)) as n from state where service_key = '{topic}'")  # noqa: S608
        results.add("chat", name, "state", "KB", int(rows[0]["n"]) / 1000)
        path = f"/pubsub/{topic}?offset=0{query_}"
        for metric in ("cold", "warm"):
            await field.calm()
            pids = field.ours.pids
            service, restate = cpu_seconds(pids), cpu_seconds(field.restate_pids)
            took, size, events = await _opened(field.ours.ports[0], path)
            results.add("chat", name, metric, "ms", took * 1000)
            results.add("chat", name, f"{metric}: CPU, service", "ms", (cpu_seconds(pids) - service) * 1000)
            results.add(
                "chat", name, f"{metric}: CPU, Restate", "ms", (cpu_seconds(field.restate_pids) - restate) * 1000
            )
        results.add("chat", name, "sent", "events", events)
        results.add("chat", name, "received", "KB", size / 1000)
        await field.calm()
        service = cpu_seconds(field.ours.pids)
        results.add("chat", name, f"{HERD} within a second: the last", "ms", await _herd(field.ours.ports[0], path))
        spent = (cpu_seconds(field.ours.pids) - service) / HERD
        results.add("chat", name, f"{HERD} within a second: CPU, service, each", "ms", spent * 1000)


async def _written(field: Field, topic: str, messages: list[Message], *, join: bool) -> None:
    for at in range(0, len(messages), 1000):
        body = encode_append(messages[at : at + 1000], close=False, join="text" if join else None)
        await field.ours.ingress.call(topic, "append", body)


async def _opened(port: int, path: str) -> tuple[float, int, int]:
    """Return the seconds from connecting to having the last message, the bytes, and the events."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    parts: list[bytes] = []
    tail = b""
    try:
        async with asyncio.timeout(READ_SECONDS):
            while MARKER not in tail:
                chunk = await reader.read(2**20)
                if not chunk:
                    raise EOFError
                parts.append(chunk)
                tail = (tail + chunk)[-64:]
        took = time.perf_counter() - began
    finally:
        writer.close()
    whole = b"".join(parts)
    return took, len(whole), whole.count(b"\ndata: ")


async def _herd(port: int, path: str) -> float:
    """Return the milliseconds from the first reader until the last one has everything."""

    async def one(at: int) -> None:
        await asyncio.sleep(at * HERD_SECONDS / HERD)
        await _opened(port, path)

    began = time.perf_counter()
    await asyncio.gather(*(one(at) for at in range(HERD)))
    return (time.perf_counter() - began) * 1000
