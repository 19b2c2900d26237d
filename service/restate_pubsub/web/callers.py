"""Who asks, and whether they may: the topic and the permission of a request, and the client that it counts against."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request

from restate_pubsub.access.client_address import client_of, forwarded
from restate_pubsub.access.crowds import Crowds
from restate_pubsub.access.grants import Action
from restate_pubsub.access.tokens import Guard
from restate_pubsub.protocol.limits import Limits
from restate_pubsub.web.requests import topic_of
from restate_pubsub.web.several.requested import topics_of

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

log = structlog.stdlib.get_logger(__name__)


class Callers:
    """Answers the same questions for every endpoint of a topic."""

    def __init__(self, settings: Settings, limits: Limits, guard: Guard | None) -> None:
        """Without a guard everybody may read and write."""
        self._path = settings.sse_path
        self._trusted = settings.trusted_proxies
        self._limits = limits
        self._guard = guard
        self._hinted = False

    @property
    def guarded(self) -> bool:
        """Whether callers need a token."""
        return self._guard is not None

    async def permitted(self, request: Request, action: Action) -> tuple[str, float | None]:
        """Return the topic and when the permission ends (seconds since the epoch; None: never).

        Raises:
            PubsubError: not a topic, or not for this caller.

        """
        (topic,), expires = await self._permitted(request, action, self._topic)
        return topic, expires

    async def permitted_several(self, request: Request, action: Action) -> tuple[list[str], float | None]:
        """Return the topics that the query names, each of which is permitted, and when the permission ends.

        Raises:
            PubsubError: not topics, or one of them is not for this caller.

        """
        return await self._permitted(request, action, partial(topics_of, limits=self._limits))

    def _topic(self, request: Request) -> list[str]:
        return [topic_of(request, self._path, self._limits)]

    async def _permitted(
        self, request: Request, action: Action, topics_of_: Callable[[Request], list[str]]
    ) -> tuple[list[str], float | None]:
        guard = self._guard
        grant = None if guard is None else await guard.verify(request)
        topics = topics_of_(request)
        if guard is None or grant is None:
            return topics, None
        for topic in topics:
            guard.check(grant, action, topic)
        return topics, grant.expires

    def client(self, request: Request) -> str:
        """Return the name under which the request is counted."""
        if not self._trusted and not self._hinted and "x-forwarded-for" in request.headers:
            self._hinted = True
            log.warning(
                "requests come through a proxy, and all of its clients count as one: "
                "set PUBSUB_TRUSTED_PROXIES to the number of proxies before this service"
            )
        return client_of(request.scope, self._trusted)

    def forwarding(self, request: Request) -> str:
        """Return how many proxies say that they passed the request on, and how many are believed; no addresses."""
        return f"entries={len(forwarded(request.scope))};trusted={self._trusted}"

    def too_many(self, crowds: Crowds, request: Request) -> None:
        """Tell `crowds` that a limit for each client has refused a request."""
        crowds.refused(client_of(request.scope, self._trusted), entries=len(forwarded(request.scope)))
