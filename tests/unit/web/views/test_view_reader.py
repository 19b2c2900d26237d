"""Views on a log in memory: where they begin, what they send, and when they may end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restate_pubsub.errors import InvalidRequest, OffsetGone
from restate_pubsub.fanout.hub import Hub
from restate_pubsub.fanout.source import MemorySource, Position
from restate_pubsub.fanout.window import Start
from restate_pubsub.protocol.answers import Answer
from restate_pubsub.protocol.messages import Message, restart_message
from restate_pubsub.protocol.sse import message_frame
from restate_pubsub.web.views import ag_ui
from restate_pubsub.web.views.ag_ui import AgUi
from restate_pubsub.web.views.ai_sdk import AiSdk
from restate_pubsub.web.views.plan import Plan, Wanted, plan_ag_ui, plan_ai_sdk
from restate_pubsub.web.views.view_reader import Cut, Dialect, ViewReader

START, FINISH = Message(b'{"type":"start"}'), Message(b'{"type":"finish"}')
STARTED, FINISHED = Message(b'{"type":"RUN_STARTED"}'), Message(b'{"type":"RUN_FINISHED"}')


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


@pytest.fixture
async def hub(source: MemorySource) -> AsyncIterator[Hub]:
    hub = Hub(source, "here", message_frame)
    yield hub
    await hub.close()


async def whole(hub: Hub, dialect: Dialect, offset: int = 0) -> bytes:
    """Return all that a view sends until it ends."""
    reader = ViewReader(hub.open("t", Start("offset", offset)), dialect)
    try:
        return b"".join([piece async for piece in reader.chunks()])
    finally:
        reader.close()


async def test_an_answer_ends_with_its_last_chunk(hub: Hub, source: MemorySource) -> None:
    """What follows belongs to the next one; named messages are left out."""
    source.append("t", START, Message(b"1", "page"), restart_message("s", 1, 1), FINISH, START)
    frames = (b"id: 1\ndata: %b", b'id: 3\ndata: {"type":"reset-step"}', b"id: 4\ndata: %b", b"data: [DONE]\n\n")
    assert b"\n\n".join(frames) % (START.data, FINISH.data) == await whole(hub, AiSdk())
    assert b"id: 4\ndata: %b\n\ndata: [DONE]\n\n" % FINISH.data == await whole(hub, AiSdk(skip=2))


@pytest.mark.parametrize("dialect", [AiSdk(), AgUi(headless=True, idle=False)], ids=["ai-sdk", "ag-ui"])
async def test_a_stream_that_is_stopped_in_the_middle_is_cut(hub: Hub, source: MemorySource, dialect: Dialect) -> None:
    """A clean end would say that the answer is whole."""
    source.append("t", START if isinstance(dialect, AiSdk) else STARTED)
    reader = ViewReader(hub.open("t", Start()), dialect)
    chunks = reader.chunks()
    assert await anext(chunks)
    reader.stop()
    with pytest.raises(Cut):
        await anext(chunks)
    reader.close()


async def test_messages_that_go_while_they_are_read_cut_the_answer(hub: Hub, source: MemorySource) -> None:
    """The client could not put the rest together."""
    source.append("t", START, START, START)
    source.truncate("t", 2)
    with pytest.raises(Cut):
        await whole(hub, AiSdk())


async def test_runs_follow_one_another_until_nothing_does(
    hub: Hub, source: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes before the first `RUN_STARTED` is left out."""
    monkeypatch.setattr(ag_ui, "QUIET", 0.05)
    source.append("t", FINISHED, STARTED, FINISHED, STARTED, FINISHED)
    assert 4 == (await whole(hub, AgUi(headless=True, idle=False))).count(b"data:")
    assert b"" == await whole(hub, AgUi(headless=False, idle=True), 5)


async def test_a_closed_topic_ends_a_view(hub: Hub, source: MemorySource) -> None:
    """Nothing follows; a run that had not ended has failed."""
    source.append("t", STARTED)
    source.close("t")
    async with asyncio.timeout(5):
        assert (await whole(hub, AiSdk())).endswith(b"data: [DONE]\n\n")
        assert (await whole(hub, AgUi(headless=True, idle=False))).endswith(b"\n\ndata: %b\n\n" % ag_ui.CLOSED)
        assert b"" == await whole(hub, AgUi(headless=True, idle=False), 1)
        assert b"" == await whole(hub, AgUi(headless=False, idle=True), 1)


async def test_a_view_that_waits_for_the_next_answer(hub: Hub, source: MemorySource) -> None:
    """What belongs to the one before is left out: its late end would be taken for this one's."""
    source.append("t", START, FINISH, FINISH, Message(b"{}", "stop"), Message(b'{"type":"text-delta"}'), START, FINISH)
    assert b"id: 6\ndata: %b\n\nid: 7\ndata: %b\n\ndata: [DONE]\n\n" % (START.data, FINISH.data) == (
        await whole(hub, AiSdk(waits=True), 2)
    )


async def test_a_stop_ends_the_answer(hub: Hub, source: MemorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an `abort` to the one, and a `RUN_ERROR` to the other."""
    monkeypatch.setattr(ag_ui, "QUIET", 0.05)
    source.append("t", STARTED, Message(b"{}", "stop"))
    assert (await whole(hub, AiSdk())).endswith(b'id: 2\ndata: {"type":"abort"}\n\ndata: [DONE]\n\n')
    assert (await whole(hub, AgUi(headless=True, idle=False))).endswith(b"id: 2\ndata: %b\n\n" % ag_ui.STOPPED)


RUNNING, ENDED = Position(2, 9, answer=Answer(4, 0, 3)), Position(2, 9, answer=Answer(4, 8, 3))


@pytest.mark.parametrize(
    ("position", "wanted", "plan"),
    [
        (Position(0, 0), Wanted(Start()), None),
        (RUNNING, Wanted(Start()), Plan(4)),
        (ENDED, Wanted(Start()), None),
        (ENDED, Wanted(Start(), replay=True), Plan(4)),
        (RUNNING._replace(closed=True), Wanted(Start()), None),
        (RUNNING._replace(head=6), Wanted(Start()), Plan(6, headless=True)),
        (RUNNING, Wanted(Start(), index=-1), Plan(4, 2)),
        (ENDED, Wanted(Start(), index=2), Plan(4, 2)),
        (ENDED, Wanted(Start(), index=3), None),
        (RUNNING, Wanted(Start("offset", 9, resumes=True), placed=True), Plan(9)),
        (ENDED, Wanted(Start("offset", 7, resumes=True), placed=True), Plan(7)),
        (ENDED, Wanted(Start("offset", 8, resumes=True), placed=True), None),
        (Position(0, 0), Wanted(Start(), wait=True), Plan(0, waits=True)),
        (RUNNING, Wanted(Start(), wait=True), Plan(4)),
        (ENDED, Wanted(Start(), wait=True), Plan(9, waits=True)),
        (ENDED._replace(closed=True), Wanted(Start(), wait=True), None),
        (ENDED, Wanted(Start("offset", 7, resumes=True), placed=True, wait=True), Plan(7)),
        (ENDED, Wanted(Start("offset", 8, resumes=True), placed=True, wait=True), Plan(8, waits=True)),
    ],
)
def test_where_an_answer_begins(position: Position, wanted: Wanted, plan: Plan | None) -> None:
    """By what the topic knows of it, without a look at its messages."""
    assert plan == plan_ai_sdk(position, wanted)


def test_places_that_no_view_has() -> None:
    """A count from a chunk that is gone, and places in the middle of a chunk."""
    with pytest.raises(OffsetGone):
        plan_ai_sdk(RUNNING._replace(head=6), Wanted(Start(), index=1))
    for plan in (plan_ai_sdk, plan_ag_ui):
        with pytest.raises(InvalidRequest):
            plan(RUNNING, Wanted(Start("latest"), placed=True))


def test_where_runs_begin() -> None:
    """At the head, unless there is a place; with all there, nothing is in progress."""
    assert Plan(2, headless=True) == plan_ag_ui(RUNNING, Wanted(Start()))
    assert Plan(2, headless=True) == plan_ag_ui(ENDED, Wanted(Start("last", 1), placed=True))
    assert Plan(0, headless=True) == plan_ag_ui(Position(0, 3), Wanted(Start("offset", 0), placed=True))
    waiting = Wanted(Start(), wait=True)
    assert Plan(9, headless=True) == plan_ag_ui(ENDED, waiting)
    assert Plan(2, headless=True) == plan_ag_ui(RUNNING, waiting)
    assert Plan(2, headless=True) == plan_ag_ui(ENDED._replace(closed=True), waiting)
    assert Plan(8, idle=True) == plan_ag_ui(ENDED, Wanted(Start("offset", 8, resumes=True), placed=True))
