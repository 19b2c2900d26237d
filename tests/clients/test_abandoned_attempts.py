"""A step that was done again, read by the real clients: who comes later is shown the text of the last attempt alone."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from clients.view_client import client
from restate_pubsub.commands.local_restate import RestateServer
from support.harness import Service, call, publish, stream

RUN = {"threadId": "t", "runId": "r"}
LENGTHS = (1, 3, 70, 200)
"""Messages of an abandoned attempt: the first alone, part of a page, more than a page, several pages."""


class AgUi:
    """What an agent writes for `view=ag-ui`: a step's stream begins with a message that cannot be joined."""

    view = "ag-ui"
    before = ({"type": "RUN_STARTED", **RUN}, {"type": "STEP_STARTED", "stepName": "s"})
    after = ({"type": "RUN_FINISHED", **RUN},)

    @staticmethod
    def said(*texts: str, whole: bool = False) -> list[dict[str, str]]:
        """Return the messages of an attempt that said so much; `whole`: it came to its end."""
        start = {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        ends = [{"type": "TEXT_MESSAGE_END", "messageId": "m"}, {"type": "STEP_FINISHED", "stepName": "s"}]
        pieces = [{"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": text} for text in texts]
        return [start, *pieces, *(ends if whole else [])]


class AiSdk:
    """The same for `view=ai-sdk`."""

    view = "ai-sdk&done=replay"
    before = ({"type": "start"}, {"type": "start-step"})
    after = ({"type": "finish"},)

    @staticmethod
    def said(*texts: str, whole: bool = False) -> list[dict[str, str]]:
        """Return the chunks of an attempt that said so much; `whole`: it came to its end."""
        ends = [{"type": "text-end", "id": "0"}, {"type": "finish-step"}]
        pieces = [{"type": "text-delta", "id": "0", "delta": text} for text in texts]
        return [{"type": "text-start", "id": "0"}, *pieces, *(ends if whole else [])]


CLIENTS = [("ag-ui", AgUi), ("tanstack-chat", AgUi), ("use-chat", AiSdk)]
each_client = pytest.mark.parametrize(("name", "form"), CLIENTS, ids=[name for name, _ in CLIENTS])


async def attempt(restate: RestateServer, topic: str, name: str, messages: Sequence[Any]) -> None:
    """Write as one attempt of a step does, in batches; a later one replaces it."""
    ref: dict[str, Any] = {"id": "step", "attempt": name}
    bodies: list[dict[str, Any]] = [{"messages": [], "stream": {**ref, "first": True}}]
    for first in range(0, len(messages), 30):
        part = [{"data": one} for one in messages[first : first + 30]]
        bodies.append({"messages": part, "stream": ref, "join": "delta"})
    for body in bodies:
        status, answer = await call(restate, topic, "append", body)
        assert status == 200, answer


async def shown(service: Service, topic: str, name: str, form: Any) -> tuple[str, list[str]]:
    """Return how a client that comes now ends, and what it shows then."""
    async with client(name, f"{service.url}/pubsub/{topic}?view={form.view}") as page:
        over = await page.over()
    return ("ready" if over["over"] == "resolved" else over["over"]), over["texts"]


@each_client
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("read_here", [False, True], ids=["new here", "read here"])
async def test_who_comes_later_is_spared_an_attempt_that_was_cut_off(
    restate: RestateServer, service: Service, topic: str, name: str, form: Any, length: int, *, read_here: bool
) -> None:
    """However much it had said, whether its pages are sealed or not, and whether this replica has it in memory."""
    async with contextlib.AsyncExitStack() as watching:
        if read_here:
            reader = await watching.enter_async_context(stream(service.topic_url(topic)))
        await publish(restate, topic, *form.before)
        await attempt(restate, topic, "a", form.said(*["x"] * (length - 1)))
        await attempt(restate, topic, "b", form.said("Bon", "jour", whole=True))
        await publish(restate, topic, *form.after)
        if read_here:
            await reader.take(len(form.before) + length + 1 + 5 + len(form.after))
        assert ("ready", ["Bonjour"]) == await shown(service, topic, name, form)


@each_client
async def test_who_comes_later_is_spared_an_attempt_that_had_said_everything(
    restate: RestateServer, service: Service, topic: str, name: str, form: Any
) -> None:
    """It was killed after its last message, before its step was kept."""
    await publish(restate, topic, *form.before)
    await attempt(restate, topic, "a", form.said("Hel", "lo", whole=True))
    await attempt(restate, topic, "b", form.said("Bonjour"))
    await attempt(restate, topic, "c", form.said("Good day", whole=True))
    await publish(restate, topic, *form.after)
    assert ("ready", ["Good day"]) == await shown(service, topic, name, form)


@pytest.mark.parametrize(
    ("name", "shows"), [("ag-ui", "fails"), ("tanstack-chat", "HelBonjour"), ("use-chat", "Bonjour")]
)
async def test_an_attempt_among_which_another_has_written_is_shown_with_its_restart(
    restate: RestateServer, service: Service, topic: str, name: str, shows: str
) -> None:
    """Whose each message is, is not known then: so AG-UI's clients fail here, or show both, as docs/views.md says."""
    form: Any = dict(CLIENTS)[name]
    await publish(restate, topic, *form.before)
    await attempt(restate, topic, "a", form.said("Hel"))
    await call(restate, topic, "append", {"messages": [{"data": 1, "event": "page"}]})
    await attempt(restate, topic, "b", form.said("Bonjour", whole=True))
    await publish(restate, topic, *form.after)
    over, texts = await shown(service, topic, name, form)
    assert shows == ("fails" if "is already in progress" in over else texts[-1])
