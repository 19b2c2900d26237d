"""The guard before the Restate endpoint, around the SDK's own application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import restate
from restate import ObjectContext, TerminalError, VirtualObject

from restate_pubsub.web.errors import Refused
from restate_pubsub.web.middleware.for_restate import ForRestate, is_call
from support.invocations import PUBLIC_KEY, frame, given, start

CALL = {"content-type": "application/vnd.restate.invocation.v5"}
DISCOVER = {"accept": "application/vnd.restate.endpointmanifest.v4+json"}
echo = VirtualObject("echo")


@echo.handler()
async def say(_ctx: ObjectContext, text: str) -> str:
    return text


@echo.handler()
async def refuse(_ctx: ObjectContext, text: str) -> str:
    raise TerminalError(text)


START = start(b"key")
INPUT = given(b'"hello"')


class Body:
    """A request's body in parts; then its client stays."""

    def __init__(self, *parts: bytes, ends: bool = True) -> None:
        self.parts = list(parts)
        self.ends = ends

    async def __call__(self) -> Any:
        if self.parts:
            return {"type": "http.request", "body": self.parts.pop(0), "more_body": True}
        if self.ends:
            self.ends = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        return None


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing here is a reason to log anything."""
    yield
    assert [] == [record.getMessage() for record in caplog.get_records("call") if record.levelno > logging.INFO]


async def ask(
    path: str, headers: dict[str, str], *parts: bytes, ends: bool = True, keys: list[str] | None = None
) -> Any:
    """Return the status, and what the endpoint has answered."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "http_version": "2"}
    app = ForRestate(restate.app([echo], "bidi", identity_keys=keys), body_timeout=0.2)
    try:
        await app(scope, Body(*parts, ends=ends), send)
    except Refused as error:
        assert sent == []
        return error.status, str(error)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/restate/invoke/echo/say", {}, 415),
        ("/restate/invoke/echo/say", {"content-type": "application/vnd.restate.invocation.v99"}, 415),
        ("/restate/invoke/echo/say", {"content-type": "application/vnd.restate.invocation"}, 415),
        ("/restate/invoke/echo/none", CALL, 404),
        ("/restate/invoke/none/say", CALL, 404),
        ("/restate/none", {}, 404),
        ("/restate/discover", {"accept": "*/*"}, 406),
        ("/restate/discover", DISCOVER, 200),
        ("/restate/discover", {"accept": DISCOVER["accept"].replace("v4", "v9")}, 406),
        ("/restate/\ufffd/discover", {"accept": DISCOVER["accept"].replace("v4", "v0")}, 406),
        ("/restate/health", {}, 200),
        ("/restate/health", {"x": "ä"}, 400),
    ],
)
@pytest.mark.parametrize("ends", [True, False])
async def test_what_no_restate_server_asks_is_refused(
    path: str, headers: dict[str, str], expected: int, *, ends: bool
) -> None:
    """Before the SDK takes it for a fault of its own; and nobody waits for a body that does not come."""
    assert expected == (await ask(path, headers, ends=ends))[0]


async def test_an_invocation_is_handed_on_as_it_came() -> None:
    """Cut anywhere."""
    whole = START + INPUT
    expected = await ask("/restate/invoke/echo/say", CALL, whole)
    assert (200, True) == (expected[0], b'"hello"' in expected[1])
    for parts in ((START, INPUT), tuple(whole[at : at + 1] for at in range(len(whole)))):
        assert expected == await ask("/restate/invoke/echo/say", CALL, *parts)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"garbage that is longer than a frame's head",
        b"\x00" * 8,
        b"\x00" * 100,
        b"\xff" * 100,
        START,
        START[:-1] + b"\xff" + INPUT,
        INPUT + START,
        START + START,
        START + b"\xff" * 50,
        START + frame(0x0400, b"\xff\xff\xff"),
        START + INPUT[:-4],
        frame(0x0000, b"", 0xFFFFFFFF) + INPUT,
        START + frame(0x0400, b"x" * 100, 0x7FFFFFFF),
        START[:20] + b"tampered" + START[28:] + INPUT[:10],
        frame(0x0000, b"") + INPUT,
        frame(0x0000, b"\xff" * 20) + INPUT,
    ],
)
async def test_a_body_that_is_no_invocation_is_one_refusal(body: bytes) -> None:
    """A 400 that says so, nothing else; also where what was signed was only the path."""
    status, text = await ask("/restate/invoke/echo/say", CALL, body)
    assert (400, True) == (status, "invocation" in str(text)), text


@pytest.mark.parametrize("handler", ["say", "refuse"])
@pytest.mark.parametrize("kind", [0x0405, 0x7FFF])
async def test_a_journal_of_another_handler_is_an_answer_to_restate(handler: str, kind: int) -> None:
    """In its protocol, as Restate tries again; whoever made it up gets no line in the log."""
    body = start(b"key", entries=2) + INPUT + frame(kind, b"")
    status, answer = await ask(f"/restate/invoke/echo/{handler}", CALL, body)
    assert (200, True) == (status, b"recorded the following" in answer), answer


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """The start of an invocation comes with its request."""
    for parts in ((), (START,), (START + INPUT[:5],)):
        status, _ = await ask("/restate/invoke/echo/say", CALL, *parts, ends=False)
        assert status == 408


async def test_whoever_does_not_sign_is_refused_before_its_body_is_read() -> None:
    """Whatever it is."""
    for body in (START + INPUT, b"garbage"):
        status, text = await ask("/restate/invoke/echo/say", CALL, body, ends=False, keys=[PUBLIC_KEY])
        assert (401, True) == (status, "PUBSUB_RESTATE_IDENTITY_KEYS" in text)
    assert 401 == (await ask("/restate/discover", DISCOVER, keys=[PUBLIC_KEY]))[0]


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("/restate/invoke/pubsub/publish", 200, True),
        ("/restate/discover", 200, True),
        ("/restate/invoke/pubsub/publish", 401, False),
        ("/restate/discover", 406, False),
        ("/restate/health", 200, False),
        ("/restate/other/invoke/a", 200, False),
        ("/restated/invoke/a/b", 200, False),
        ("/pubsub/restate/invoke", 200, False),
    ],
)
def test_an_accepted_call_is_restate_s(path: str, status: int, *, expected: bool) -> None:
    """Not what anybody may ask."""
    assert expected == is_call(path, status, restate_path="/restate")
