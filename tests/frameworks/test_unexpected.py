"""Agents of real frameworks that meet what nobody expects: each run ends, and says how."""

from __future__ import annotations

import asyncio

import pytest

from frameworks.running import LONG, Agent, Seen, agent, client, none_left, python, read, turn
from restate_pubsub import PubsubClient
from support.harness import topic_name
from support.waiting import until

__all__ = ["agent", "client", "python"]

ODD = 'a"b\\c\u2028\u0000\r\n\U0001f642<é>'
ODD_ID = "call " + "x" * 1000
BROKEN = "broken-at-"


@pytest.mark.parametrize(
    ("agent", "calls"),
    [
        pytest.param(BROKEN + "RunStarted", [], marks=LONG),
        (BROKEN + "TextDelta", ["tools/1"]),
        pytest.param(BROKEN + "ToolReturned", ["tools/1"], marks=LONG),
        pytest.param(BROKEN + "RunFinished", ["tools/1", "tools/2"], marks=LONG),
    ],
    indirect=["agent"],
)
async def test_an_encoder_that_raises(calls: list[str], agent: Agent, client: PubsubClient) -> None:
    """The run ends and says why, and no model is asked again."""
    topic = topic_name("agent")
    status, text = await agent.run({"topic": topic, "turn": "turn-1", "task": "tools"})
    assert "failed" == (await read(client, topic)).end
    assert calls == agent.noted("calls.log")
    if agent.hides_the_last_refusal and calls == ["tools/1", "tools/2"]:
        assert 200 == status
    else:
        assert status >= 400
        assert "no such field" in text
    await until(lambda: none_left(agent), "no invocation to be left")


@LONG
@pytest.mark.parametrize("agent", [BROKEN + "AgentEvent"], indirect=True)
async def test_an_encoder_that_always_raises(agent: Agent) -> None:
    """The first cause is what the invocation fails with."""
    status, text = await agent.run({"topic": topic_name("agent"), "turn": "turn-1", "task": "tools"})
    assert status >= 400
    assert "The encoder failed at RunStarted: KeyError: 'no such field'" in text
    await until(lambda: none_left(agent), "no invocation to be left")


@LONG
async def test_a_model_that_does_not_stream(agent: Agent, client: PubsubClient) -> None:
    """What it says is there, in one piece."""
    assert Seen(["All at once"], "done", 0) == await turn(agent, client, "whole")


@LONG
async def test_an_empty_answer(agent: Agent, client: PubsubClient) -> None:
    """The run ends, as the framework has it end."""
    seen = await turn(agent, client, "empty")
    assert "" == seen.text
    assert len(set(agent.noted("calls.log"))) == len(agent.noted("calls.log"))


@LONG
async def test_unusual_characters(agent: Agent, client: PubsubClient) -> None:
    """Texts, arguments and ids of calls may be any text."""
    seen = await turn(agent, client, "odd")
    called = f"#look_up {ODD_ID}"
    assert [f"{ODD}? ", called, f"#{ODD_ID}: {ODD} is found", "It is done"] == seen.said


@LONG
async def test_calls_of_one_id(agent: Agent, client: PubsubClient) -> None:
    """Some providers count calls from 0 in each answer; each tool that runs has its result."""
    seen = await turn(agent, client, "again")
    ran = agent.noted("tools.log")
    assert ["one"] == ran[:1]
    assert [f"#call-0: {what} is found" for what in ran] == [piece for piece in seen.said if ":" in piece]
    if agent.program != "openai_agents_agent.py":  # newer ones skip a call whose id they know
        assert ["one", "two"] == ran


@LONG
async def test_a_result_that_is_too_large(agent: Agent, client: PubsubClient) -> None:
    """The topic refuses it, so the run ends and says why."""
    seen = await turn(agent, client, "huge")
    assert ("failed", ["huge/1"]) == (seen.end, agent.noted("calls.log"))


@LONG
async def test_a_tool_that_refuses(agent: Agent, client: PubsubClient) -> None:
    """The run ends and says why."""
    seen = await turn(agent, client, "refused")
    assert ("failed", ["refused/1"]) == (seen.end, agent.noted("calls.log"))


@LONG
async def test_stopped_while_another_agent_speaks(agent: Agent, client: PubsubClient) -> None:
    """What was said stays, no model is asked again, and the invocation has ended."""
    topic = topic_name("agent")
    answer = asyncio.create_task(agent.run({"topic": topic, "turn": "turn-1", "task": "sub-long"}))
    async with asyncio.timeout(30):
        async for message in client.pull(topic, 0):
            if message.event == "token" and "agent" in message.data:
                await client.stop(topic, reason="enough")
                break
    status, text = await answer
    seen = await read(client, topic)
    assert ("failed", ["sub-long/1", "long/1"]) == (seen.end, agent.noted("calls.log"))
    assert status in {409, 400}, "the framework's own refusal, or the program's"
    assert "enough" in text
    await until(lambda: none_left(agent), "no invocation to be left")
