"""`history` of the npm package: what a topic has said, as messages that `useChat` begins with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from restate_pubsub.client.pubsub_client import PubsubClient
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish
from support.node import NODE

START, STEP, TEXT = {"type": "start"}, {"type": "start-step"}, {"type": "text-start", "id": "t"}
END = ({"type": "text-end", "id": "t"}, {"type": "finish-step"}, {"type": "finish"})
SCRIPT = """
import { history } from "file:PACKAGE/dist/ai-sdk/index.js";
const asked = (text) => ({ id: text, role: "user", parts: [{ type: "text", text }] });
const prompt = (name, data) => (data.ask ? asked(data.ask) : undefined);
const { messages, running } = await history(process.argv[1], { message: prompt }).catch((error) => {
  console.log(JSON.stringify(error.problem.status));
  process.exit();
});
const said = messages.map(({ role, parts }) => [role, parts.map(({ text = "" }) => text).join("")]);
console.log(JSON.stringify([said, running]));
"""


def delta(text: str) -> dict[str, Any]:
    return {"type": "text-delta", "id": "t", "delta": text}


async def history(modules: Path, url: str) -> Any:
    """Return what the package says of a topic: who said what, and whether an answer is in progress."""
    script = SCRIPT.replace("PACKAGE", str(modules / "restate-pubsub"))
    words = (NODE, "--input-type=module", "-e", script, url)
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return json.loads(out)


async def test_turns(modules: Path, restate: RestateServer, service: Service, topic: str) -> None:
    """Each prompt and each answer that has ended, in their order; the one in progress is only said to be there."""
    url = f"{service.url}/pubsub/{topic}"
    assert [[], False] == await history(modules, url)
    await publish(restate, topic, {"ask": "1"}, "no chunk", START, STEP, TEXT, delta("on"), delta("e"), *END)
    turn = [["user", "1"], ["assistant", "one"]]
    assert [turn, False] == await history(modules, url)
    await publish(restate, topic, {"ask": "2"}, START, STEP, TEXT, delta("tw"))
    assert [[*turn, ["user", "2"]], True] == await history(modules, url)
    await publish(restate, topic, delta("o"), *END)
    await call(restate, topic, "close")
    assert [[*turn, ["user", "2"], ["assistant", "two"]], False] == await history(modules, url)


async def test_a_prompt_that_comes_late(modules: Path, restate: RestateServer, service: Service, topic: str) -> None:
    """It goes before the answer in which it stands: their writers are not the same."""
    url = f"{service.url}/pubsub/{topic}"
    before = [["user", "1"], ["assistant", "one"], ["user", "2"]]
    await publish(restate, topic, {"ask": "1"}, START, STEP, TEXT, delta("one"), *END)
    await publish(restate, topic, START, STEP, {"ask": "2"}, TEXT, delta("two"))
    assert [before, True] == await history(modules, url)
    await publish(restate, topic, *END)
    assert [[*before, ["assistant", "two"]], False] == await history(modules, url)


async def test_a_step_that_was_done_again_and_a_stop(
    modules: Path, restate: RestateServer, service: Service, client: PubsubClient, topic: str
) -> None:
    """What was taken back is not there, also if it had ended the answer; what was stopped stays as it was said."""
    url = f"{service.url}/pubsub/{topic}"
    await publish(restate, topic, START, STEP)
    for said in ([delta("Hel"), *END], [delta("Bonjour")]):
        await call(
            restate, topic, "append", {"messages": [], "stream": {"id": "s", "attempt": str(said), "first": True}}
        )
        batch = {"messages": [{"data": one} for one in [TEXT, *said]], "stream": {"id": "s", "attempt": str(said)}}
        status, answer = await call(restate, topic, "append", batch)
        assert 200 == status, answer
    assert [[], True] == await history(modules, url)
    await client.stop(topic, "s")
    assert [[["assistant", "Bonjour"]], False] == await history(modules, url)


async def test_what_is_gone(modules: Path, restate: RestateServer, service: Service, topic: str) -> None:
    """An answer whose beginning was truncated is left out."""
    await publish(restate, topic, START, STEP, TEXT, delta("one"), *END, START, STEP, TEXT, delta("two"), *END)
    await call(restate, topic, "truncate", 2)
    assert [[["assistant", "two"]], False] == await history(modules, f"{service.url}/pubsub/{topic}")


async def test_a_refusal(modules: Path, service: Service) -> None:
    """It is thrown, with the problem."""
    assert 400 == await history(modules, f"{service.url}/pubsub/{'x' * 5000}")
