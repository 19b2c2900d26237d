"""Which view a request asks for, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restate_pubsub.errors import InvalidRequest
from restate_pubsub.fanout.window import Start
from restate_pubsub.web.requests import choice_of, index_at, start_of
from restate_pubsub.web.stream_response import HEADERS
from restate_pubsub.web.views import ai_sdk
from restate_pubsub.web.views.ag_ui import AgUi
from restate_pubsub.web.views.plan import Wanted, plan_ag_ui, plan_ai_sdk

if TYPE_CHECKING:
    from starlette.requests import Request

    from restate_pubsub.fanout.source import Position
    from restate_pubsub.web.views.view_reader import Dialect

AI_SDK, AG_UI = "ai-sdk", "ag-ui"


@dataclass(frozen=True, slots=True)
class Opened:
    """A view that begins: where, in which dialect, with which headers.

    `may_join`: messages may come joined, as nobody counts them.
    """

    start: Start
    dialect: Dialect
    headers: Mapping[str, str]
    may_join: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """What is asked for."""

    name: str
    wanted: Wanted

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every answer that streams."""
        return HEADERS if self.name == AG_UI else {**HEADERS, **ai_sdk.HEADERS}

    def begin(self, position: Position) -> Opened | None:
        """Decide where to begin; None for 204.

        Raises:
            PubsubError: the place is none, or gone.

        """
        if self.name == AG_UI:
            plan = plan_ag_ui(position, self.wanted)
            runs = AgUi(headless=plan.headless, idle=plan.idle)
            return Opened(Start("offset", plan.offset), runs, self.headers)
        found = plan_ai_sdk(position, self.wanted)
        if found is None:
            return None
        headers = {**self.headers, ai_sdk.TAIL_INDEX: str(position.answer.chunks - 1)}
        dialect = ai_sdk.AiSdk(found.skip, headless=found.headless, waits=found.waits)
        return Opened(Start("offset", found.offset), dialect, headers, may_join=self.wanted.index is None)


def view_of(request: Request) -> View | None:
    """Return the view that a request asks for; None for the stream as it is.

    Raises:
        InvalidRequest: no such view, or a parameter that this view does not take.

    """
    # `WorkflowChatTransport` puts `?startIndex=N` after any URL, also where there is a query already.
    name, _, counted = request.query_params.get("view", "").partition("?startIndex=")
    if not name:
        return None
    if name not in (AI_SDK, AG_UI):
        msg = f"view {name[:80]!r} is neither {AI_SDK} nor {AG_UI}"
        raise InvalidRequest(msg)
    if choice_of(request, "heartbeat", ("comment", "event")) == "event":
        msg = "heartbeat=event: a view's clients fail at an event that is not theirs; leave it out"
        raise InvalidRequest(msg)
    index = index_at("startIndex", counted or request.query_params.get("startIndex"))
    if index is not None and name != AI_SDK:
        msg = f"startIndex is for view={AI_SDK}: use offset"
        raise InvalidRequest(msg)
    start = start_of(request)
    placed = start.resumes or bool(request.query_params.get("offset"))
    done = choice_of(request, "done", ("end", "replay", "wait"))
    return View(name, Wanted(start, placed, index, done == "replay", done == "wait"))
