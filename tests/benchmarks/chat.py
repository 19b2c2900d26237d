"""A chat that is opened again: joined, as it was written, and where the reference keeps it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.contenders import Contender
from benchmarks.field import Field
from benchmarks.plan import Plan, turns
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
HERD_LAST = f"{HERD} within a second: the last"
HERD_CPU = f"{HERD} within a second: CPU, service, each"


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
    """Open a chat each way, cold and warm, and with many at once; a short one of the reference too, by itself."""
    ours, reference = (JOINED, PLAIN), (JOINED, PLAIN, field.eager.name)
    for answers, names in ((plan.reference_answers, reference), (plan.chat_answers, ours)):
        messages = chat(answers, plan.chat_tokens)
        for name in turns(names, repetition):
            way = await _written(field, name, messages)
            sample = _Sample(field, results, way, name, f"{answers}")
            await sample.state()
            await sample.opened()
            if name != field.eager.name:  # of the short one it shows what it costs to come at all
                await sample.herd()


@dataclass(frozen=True, slots=True)
class _Way:
    """A chat that was written, and where it is read."""

    contender: Contender
    topic: str
    query: str = ""

    @property
    def path(self) -> str:
        return self.contender.path(self.topic) + self.query


async def _written(field: Field, name: str, messages: list[Message]) -> _Way:
    topic = topic_name()
    if name == field.eager.name:  # it has neither batches nor names of events
        await field.eager.append(topic, [message.data for message in messages])
        return _Way(field.eager, topic)
    for at in range(0, len(messages), 1000):
        body = encode_append(messages[at : at + 1000], close=False, join="text" if name == JOINED else None)
        await field.ours.ingress.call(topic, "append", body)
    return _Way(field.ours, topic, "" if name == JOINED else "&join=false")


@dataclass(frozen=True, slots=True)
class _Sample:
    """One chat, and the figures that are taken of it."""

    field: Field
    results: Results
    way: _Way
    name: str
    answers: str

    def _add(self, metric: str, unit: str, value: float) -> None:
        self.results.add("chat", self.name, metric, unit, value, at=self.answers)

    async def state(self) -> None:
        """Ask Restate for what it keeps."""
        sql = f"select sum(length(value)) as n from state where service_key = '{self.way.topic}'"  # noqa: S608
        self._add("state", "KB", int((await query(self.field.restate, sql))[0]["n"]) / 1000)

    async def opened(self) -> None:
        """Open it as the first reader here does, and again."""
        for metric in ("cold", "warm"):
            await self.field.calm()
            pids = self.way.contender.pids
            service, restate = cpu_seconds(pids), cpu_seconds(self.field.restate_pids)
            took, size, events = await _opened(self.way.contender.ports[0], self.way.path)
            self._add(metric, "ms", took * 1000)
            self._add(f"{metric}: CPU, service", "ms", (cpu_seconds(pids) - service) * 1000)
            self._add(f"{metric}: CPU, Restate", "ms", (cpu_seconds(self.field.restate_pids) - restate) * 1000)
        self._add("sent", "events", events)
        self._add("received", "KB", size / 1000)

    async def herd(self) -> None:
        """Have many open it within a second."""
        await self.field.calm()
        pids = self.way.contender.pids
        service = cpu_seconds(pids)
        self._add(HERD_LAST, "ms", await _herd(self.way.contender.ports[0], self.way.path))
        self._add(HERD_CPU, "ms", (cpu_seconds(pids) - service) / HERD * 1000)


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
