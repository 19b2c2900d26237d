"""What a fake model says, for the programs of all frameworks; where it waits to be killed; and how often it was asked.

The folder that a program gets holds `calls.log` (a line for each call of a model) and `tools.log`, and perhaps `pause`:
the name of a place, at which the program says so in `reached`, and waits for ever.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from restate_pubsub.ext import events
from restate_pubsub.ext.encoders import AgUi, Encoder, ai_sdk, plain

FOLDER = Path(sys.argv[1])
INGRESS = sys.argv[2]
PORT = int(sys.argv[3])


def encoder(form: str) -> Encoder:
    """Return an encoder; `broken-at-X` raises at events of the class X, and is `plain` at others."""
    at = form.partition("broken-at-")[2]
    if not at:
        return {"plain": plain, "ai_sdk": ai_sdk, "ag_ui": AgUi("thread")}[form]

    def broken(event: events.AgentEvent) -> Any:
        if isinstance(event, getattr(events, at)):
            msg = "no such field"
            raise KeyError(msg)
        return plain(event)

    return broken


ENCODE = encoder(sys.argv[4])


class Call(NamedTuple):
    """A tool that the model asks for."""

    id: str
    tool: str
    arguments: dict[str, str]


class Turn(NamedTuple):
    """What the model says in one call."""

    tokens: list[str]
    calls: tuple[Call, ...] = ()


ODD = 'a"b\\c\u2028\u0000\r\n\U0001f642<é>'
ODD_ID = "call " + "x" * 1000
"""Some providers keep a thought's signature in the id of a call."""

TURNS = {
    "talk": [Turn(["Hel", "lo", " wor", "ld"])],
    "tools": [
        Turn(
            ["I look", " it up. "],
            (Call("slow-1", "look_up", {"what": "slow"}), Call("fast-2", "look_up", {"what": "fast"})),
        ),
        Turn(["It ", "is ", "done"]),
    ],
    "sub": [
        Turn(["I ", "ask. "], (Call("ask-1", "delegate", {"task": "sub-talk"}),)),
        Turn(["So ", "it ", "is"]),
    ],
    "sub-talk": [Turn(["Sub ", "says ", "yes"])],
    "sub-long": [
        Turn(["I ", "ask. "], (Call("ask-1", "delegate", {"task": "long"}),)),
        Turn(["So ", "it ", "is"]),
    ],
    "empty": [Turn([]), Turn([]), Turn([])],
    "refused": [
        Turn(
            ["I ", "look. "],
            (Call("call-1", "look_up", {"what": "refused"}), Call("call-2", "look_up", {"what": "fast"})),
        )
    ],
    "whole": [Turn(["All ", "at ", "once"])],
    "odd": [
        Turn([ODD, "? "], (Call(ODD_ID, "look_up", {"what": ODD}),)),
        Turn(["It ", "is ", "done"]),
    ],
    "huge": [
        Turn(["I ", "look. "], (Call("huge-1", "look_up", {"what": "huge"}),)),
        Turn(["It ", "is ", "done"]),
    ],
    "again": [
        Turn(["I ", "look. "], (Call("call-0", "look_up", {"what": "one"}),)),
        Turn(["And ", "again. "], (Call("call-0", "look_up", {"what": "two"}),)),
        Turn(["It ", "is ", "done"]),
    ],
    "long": [Turn([f"{n} " for n in range(400)])],
    "silent": [Turn(["Let me", " think"])],
    "fails": [Turn(["Half ", "an ans"])],
}


async def pause(place: str) -> None:
    """Wait to be killed, if this is the place."""
    wanted = FOLDER / "pause"
    if wanted.exists() and wanted.read_text() == place:
        (FOLDER / "reached").write_text(place)
        await asyncio.sleep(3600)


async def say(task: str, number: int) -> AsyncIterator[str]:
    """Yield the tokens of the `number`th call for a task, and note the call."""
    with (FOLDER / "calls.log").open("a") as log:
        log.write(f"{task}/{number}\n")
    for at, token in enumerate(TURNS[task][number - 1].tokens):
        if at == 1:
            await asyncio.sleep(0.05)  # what was said goes out before the process dies
            await pause(f"{task}/{number}")
        if task == "silent" and at == 1:
            await asyncio.sleep(3600)
        if task == "long":
            await asyncio.sleep(0.02)
        yield token
    if task == "fails":
        msg = "the model refuses for good"
        raise restate.TerminalError(msg, 400)


async def look_up(what: str) -> str:
    """Run the tool: the first that was asked for ends last."""
    with (FOLDER / "tools.log").open("a") as log:
        log.write(f"{what}\n")
    if what == "slow":
        await asyncio.sleep(0.3)
        await pause("between tools")
    if what == "refused":
        msg = "the tool refuses for good"
        raise restate.TerminalError(msg, 409)
    if what == "huge":
        return "x" * 3_000_000
    return f"{what} is found"


def run(service: restate.Service) -> None:
    """Serve an agent."""
    config = Config()
    config.bind = [f"127.0.0.1:{PORT}"]
    config.loglevel = "WARNING"
    asyncio.run(serve(restate.app([service]), config))  # type: ignore[arg-type]
