"""What the layers below could not answer: refusals of other layers, and faults of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.requests import ClientDisconnect

from restate_pubsub.errors import PubsubError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from restate_pubsub.web.errors import Errors

log = structlog.stdlib.get_logger(__name__)


class AnswerErrors:
    """ASGI middleware: an exception becomes one answer and, if it is a fault of ours, one entry in the log.

    Starlette's own layer raises it again after it has answered, so that servers log it once more.
    """

    def __init__(self, app: ASGIApp, *, errors: Errors) -> None:
        """`errors` makes the answers."""
        self._app = app
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand everything on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:  # it went in the middle of its own request
            log.debug("client vanished in a request", method=scope["method"], path=scope["path"])
        except PubsubError as error:
            if begun:
                log.exception("an answer broke off", method=scope["method"])
            else:
                await self._errors.answer(error)(scope, receive, send)
        except Exception:
            log.exception("a request failed", method=scope["method"])
            answer = self._errors.unexpected()
            if not begun:
                await answer(scope, receive, send)
