"""A model that needs no key: it knows a few answers by heart and speaks them word by word, at a human pace.

What it says depends on the prompt alone, so an answer that is written again comes out the same. Three words in a
prompt make it behave as real models, networks and people do: `/fail` lets it break off in the middle, once for each
turn; `/think` lets it be silent for a minute before it speaks; `/hurry` gives a person only a few seconds to permit a
tool.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model wants to be done before it answers."""

    name: str
    arguments: dict[str, Any]
    within: float | None = None
    """Seconds that a person has to permit it; None: nobody needs to."""


class Model(Protocol):
    """What the agent asks of a model."""

    async def choose_tool(self, prompt: str) -> ToolCall | None:
        """Say which tool is needed before the answer, if one is."""

    def answer(self, turn: str, prompt: str, tool_result: Any) -> AsyncIterator[str]:
        """Yield the answer's tokens; `turn` is the same when a turn is tried again."""


class ModelUnavailable(Exception):
    """The model broke off."""


TRAIN = """\
At a steady **300 km/h**, without stops, a train would reach the Moon after **{days} days**.

- The way: 384,400 km, as the Moon is on average
- The journey: 384,400 ÷ 300 = 1,281 hours
- The dining car: about {meals} meals for each passenger

Light takes 1.3 seconds. It does not stop for lunch either."""

SAFE = """\
The topic does. Every word of this answer is a message in a durable log inside Restate, and each has an offset. \
When I began to write, the log went from {head} to {tail}.

- **Reload** the page: it reads the log from the start, and goes on live.
- **Open a second tab**: both read the same log, so they move together.
- **Kill the service or Restate**: what was acknowledged stays, what was under way is tried again, and your \
browser reconnects with the `id` of the last event it saw.

Nothing on this page is stored in the page."""

FAIL_FIRST = """\
Certainly! When a step fails in Restate, the words that were already on their way are simply, well, let me put it \
like this: somewhere between the first attempt and the second there is a"""

FAIL_THEN = """\
That was my second attempt. The first one broke off in the middle of a sentence, and Restate ran the durable step \
again.

The stream was opened under the same `id`, so the log first said `restart`: **drop what I wrote before**. The page \
struck the abandoned words out and replaced them. Reload, and you will see the same: the log knows which words count."""

MAIL = "The train to the Moon leaves on Monday. Please bring a sandwich."

SENT = """\
The mail is on its way, because you said so.

I asked in the topic, and waited in Restate: not in a process, so a restart would have changed nothing. Your answer is \
a message like any other, and **the first one counts**. Reload, and you will find the question answered, not open."""

NOT_SENT = """\
I have not sent it: {why}.

The question and its end stay in the topic for everybody to see, and nothing acts on it any more."""

OPENINGS = (
    "I am a small scripted model, so I know little about that, but I can say it steadily.",
    "A real model would have a view on this. I have a script, and a seed that depends on your words.",
    "Let me think aloud, one token at a time, as that is what I am here to show.",
)
MIDDLES = (
    "Each of these words travels on its own: written in a durable step, kept in the topic, drawn on your screen.",
    "If you reload now, you will find this sentence where you left it, and the next one after it.",
    "Batches form by themselves while a call to Restate is under way, so a fast writer never waits for each word.",
    "A second tab would show the same words at the same moment, because both follow one log.",
    "The step that writes this may be tried again on another machine, and you would still read one answer.",
    "An offset stands behind every word, and your browser knows the last one it saw.",
)
CLOSINGS = (
    "Try `/fail` to watch a step break and be written again.",
    "Ask me what keeps an answer safe, and I will look it up.",
    "Put a real model in my place, and nothing else has to change.",
)


class ScriptedModel:
    """See the module. `pace` is tokens a second."""

    THINKS, PATIENT, HURRIED = 60.0, 600.0, 3.0
    """Seconds: of silence, to permit a tool, and to permit it in a hurry."""

    def __init__(self, pace: float | None = None) -> None:
        self._pace = pace or float(os.environ.get("CHAT_TOKENS_PER_SECOND", "22"))
        self._failed: set[str] = set()

    async def choose_tool(self, prompt: str) -> ToolCall | None:
        """Know the three prompts that need a tool."""
        words = prompt.lower()
        if "mail" in words:
            patience = self.HURRIED if "/hurry" in words else self.PATIENT
            return ToolCall("send_mail", {"to": "crew@moon.example", "text": MAIL}, patience)
        if "moon" in words:
            return ToolCall("calculate", {"expression": "384400 / 300 / 24"})
        if "safe" in words:
            return ToolCall("look_at_topic", {})
        return None

    async def answer(self, turn: str, prompt: str, tool_result: Any) -> AsyncIterator[str]:
        """Speak; break off the first time if the prompt asks for it."""
        if "/think" in prompt:
            await asyncio.sleep(self.THINKS)
        rhythm = random.Random(prompt)
        breaks = "/fail" in prompt and turn not in self._failed
        for token in tokens(FAIL_FIRST if breaks else script(prompt, tool_result)):
            await asyncio.sleep(rhythm.uniform(0.5, 1.5) / self._pace)
            yield token
        if breaks:
            self._failed.add(turn)
            msg = "the connection to the model was lost (as /fail asks for)"
            raise ModelUnavailable(msg)


def script(prompt: str, tool_result: Any) -> str:
    """Return the whole answer."""
    if "/fail" in prompt:
        return FAIL_THEN
    if isinstance(tool_result, float):
        return TRAIN.format(days=round(tool_result), meals=round(tool_result) * 3)
    if isinstance(tool_result, dict) and "sent" in tool_result:
        return SENT if tool_result["sent"] else NOT_SENT.format(**tool_result)
    if isinstance(tool_result, dict):
        return SAFE.format(**tool_result)
    choice = random.Random(prompt)
    middle = choice.sample(MIDDLES, 4)
    return (
        f"{choice.choice(OPENINGS)}\n\n{middle[0]} {middle[1]}\n\n{middle[2]} {middle[3]}\n\n{choice.choice(CLOSINGS)}"
    )


def tokens(text: str) -> list[str]:
    """Cut a text into words, each with the white space before it."""
    return re.findall(r"\s*\S+", text)
