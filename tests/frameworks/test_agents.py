"""Agents of real frameworks, with fake models, killed in the middle of what they do.

After each: one final text, nothing twice, no finished step paid for again, no invocation left.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clients.view_client import client as page_client
from frameworks.running import LONG, Agent, Seen, agent, client, none_left, python, read, turn
from restate_pubsub import PubsubClient
from support.harness import Service, topic_name
from support.waiting import until

__all__ = ["agent", "client", "python"]


async def read_by(name: str, agent: Agent, url: str, killed_at: str) -> dict[str, Any]:
    """Let a client read a run that is killed at a place and goes on; return what the client ends with."""
    (agent.folder / "pause").write_text(killed_at)
    topic = url.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "tools"}))
    await until((agent.folder / "reached").exists, f"the agent to come to {killed_at}:\n{agent.log}")
    async with page_client(name, url) as page:
        await until(lambda: page.said, "the client to see something")
        await agent.kill()
        (agent.folder / "pause").unlink()
        await agent.start()
        over = await page.over()
    status, text = await answer
    assert 200 == status, text
    return over


TOOLS = ["I look it up. ", "#look_up slow-1", "#look_up fast-2"]
RESULTS = ["#slow-1: slow is found", "#fast-2: fast is found"]
REST = ["It is done"]


async def test_an_answer_comes_token_by_token(agent: Agent, client: PubsubClient) -> None:
    """And once."""
    assert Seen(["Hello world"], "done", 0) == await turn(agent, client, "talk")
    assert ["talk/1"] == agent.noted("calls.log")


async def test_tools_side_by_side(agent: Agent, client: PubsubClient) -> None:
    """What they return is there once each, in the order in which they end."""
    seen = await turn(agent, client, "tools")
    assert TOOLS == seen.said[:3]
    assert sorted(RESULTS) == sorted(seen.said[3:5])
    assert REST == seen.said[5:]
    assert ["tools/1", "tools/2"] == agent.noted("calls.log")


@pytest.mark.parametrize(
    ("place", "calls", "restarts"),
    [
        pytest.param("tools/1", ["tools/1", "tools/1", "tools/2"], 1, marks=LONG),
        pytest.param("between tools", ["tools/1", "tools/2"], 0, marks=LONG),
        ("tools/2", ["tools/1", "tools/2", "tools/2"], 1),
    ],
)
async def test_killed_in_the_middle(
    place: str, calls: list[str], restarts: int, agent: Agent, client: PubsubClient
) -> None:
    """The step that was cut off runs again and says so; what was finished is not paid for again."""
    seen = await turn(agent, client, "tools", killed_at=place)
    assert "I look it up. It is done" == seen.text
    assert sorted(RESULTS) == sorted(piece for piece in seen.said if ":" in piece)
    assert 2 == sum(piece.startswith("#look_up") for piece in seen.said)
    assert (restarts, "done") == (seen.restarts, seen.end)
    assert calls == agent.noted("calls.log")


@pytest.mark.parametrize("place", [pytest.param("sub/1", marks=LONG), "sub-talk/1", pytest.param("sub/2", marks=LONG)])
async def test_an_agent_that_asks_another(place: str, agent: Agent, client: PubsubClient) -> None:
    """Each has steps of its own: a restart of one takes nothing from the other."""
    seen = await turn(agent, client, "sub", killed_at=place)
    assert "I ask. Sub says yesSo it is" == seen.text
    assert ["#delegate ask-1", "#ask-1: Sub says yes"] == [piece for piece in seen.said if piece.startswith("#")]
    assert 1 == seen.restarts
    assert 4 == len(agent.noted("calls.log")), "three calls, and the one that was cut off"


async def test_a_model_that_fails_for_good(agent: Agent, client: PubsubClient) -> None:
    """The turn ends, and readers are told."""
    seen = await turn(agent, client, "fails")
    assert ("failed", "Half an ans") == (seen.end, seen.text)
    assert ["fails/1"] == agent.noted("calls.log")


async def test_stopped_while_it_speaks(agent: Agent, client: PubsubClient) -> None:
    """What was said stays, the model is not asked again, and the invocation has ended."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "long"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token":
                await client.stop(topic, message.data["step"], reason="enough")
                break
    seen = await read(client, topic)
    status, text = await answer
    assert "failed" == seen.end
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "was stopped" in text
    assert "enough" in text
    assert seen.text.startswith("0 ")
    assert not seen.text.endswith("399 ")
    assert ["long/1"] == agent.noted("calls.log")
    await until(lambda: none_left(agent), "no invocation to be left")


async def test_stopped_while_it_thinks(agent: Agent, client: PubsubClient) -> None:
    """A model that is silent is given up at once: nobody waits for its next word."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "silent"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token":
                await client.stop(topic, reason="enough")
                break
        status, text = await answer
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "was stopped" in text
    assert ("failed", "Let me") == ((seen := await read(client, topic)).end, seen.text)
    assert ["silent/1"] == agent.noted("calls.log")
    await until(lambda: none_left(agent), "no invocation to be left")


async def test_a_topic_that_is_closed(agent: Agent, client: PubsubClient) -> None:
    """The invocation ends at once: the same again would be refused again."""
    topic = topic_name("agent")
    await client.publish(topic, "before")
    await client.close(topic)
    status, text = await agent.run({"topic": topic, "turn": "turn-1", "task": "talk"})
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "closed" in text
    assert [] == agent.noted("calls.log")
    await until(lambda: none_left(agent), "no invocation to be left")


@pytest.mark.parametrize("agent", ["ai_sdk"], indirect=True)
async def test_read_by_use_chat(agent: Agent, service: Service) -> None:
    """A page of the AI SDK shows one answer, whole, also of a step that was done again, and is ready at its end."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ai-sdk"
    over = await read_by("use-chat", agent, url, "tools/1")
    assert ("ready", ["I look it up. It is done"]) == (over["over"], over["texts"])


@LONG
@pytest.mark.parametrize("agent", ["ag_ui"], indirect=True)
async def test_read_by_an_ag_ui_client(agent: Agent, service: Service) -> None:
    """AG-UI's own client takes every event, once, and its run resolves."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ag-ui"
    over = await read_by("ag-ui", agent, url, "between tools")
    assert "resolved" == over["over"]
    assert "RUN_FINISHED" == over["events"][-1]
    assert 2 == over["events"].count("TOOL_CALL_RESULT")
    assert "It is done" in over["texts"]


@LONG
@pytest.mark.parametrize("agent", ["ag_ui"], indirect=True)
async def test_an_ag_ui_client_cannot_take_a_step_again(agent: Agent, service: Service) -> None:
    """AG-UI has no word for what is taken back, so its client ends there; docs/agents.md says so."""
    url = f"{service.url}/pubsub/{topic_name('agent')}?view=ag-ui"
    over = await read_by("ag-ui", agent, url, "tools/1")
    assert "is already in progress" in over["over"]
