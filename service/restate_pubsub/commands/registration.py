"""Register this service's object with Restate, over its admin API; safe to repeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from restate_pubsub.backoff import Backoff
from restate_pubsub.errors import PubsubError, Unavailable
from restate_pubsub.ingress.reasons import reason
from restate_pubsub.protocol.urls import redacted_url
from restate_pubsub.proxies import proxy_for
from restate_pubsub.restate_texts import why_not_called
from restate_pubsub.topic.virtual_object import MANIFEST

ATTEMPT_SECONDS = 15.0
PAUSE_FIRST, PAUSE_LAST = 0.25, 3.0


class RegistrationFailed(PubsubError):
    """Restate refused the registration."""

    code = "registration-failed"


@dataclass(frozen=True, slots=True)
class Registered:
    """What Restate has now: the deployment, and the object's revision and handlers. `change` says what happened."""

    deployment: str
    url: str
    name: str
    revision: int
    handlers: tuple[str, ...]
    change: str


class Registrar:
    """Talks to one admin API."""

    def __init__(
        self, admin_url: str, token: str | None = None, *, say: Callable[[str], None] = lambda _line: None
    ) -> None:
        """`say` is told what is being waited for."""
        self._admin = admin_url.rstrip("/")
        self._shown = redacted_url(self._admin)
        self._proxy = proxy_for(self._admin)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._say = say

    async def register(
        self, url: str, name: str, *, force: bool = False, wait: float = 60.0, manifest: str | None = None
    ) -> Registered:
        """Make Restate discover the object `name` at `url`, waiting up to `wait` seconds for both to answer.

        A deployment that Restate has already is discovered again, so that changed handlers take effect. `force`
        takes the object over from another deployment, and accepts a change of its type. With a `manifest`, what was
        discovered must be that: while a rollout goes on, a replica of before it may have answered.

        Raises:
            RegistrationFailed: Restate said no; the text says what to do.
            Unavailable: Restate, or the service from Restate's side, did not answer in time.

        """
        async with aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(ATTEMPT_SECONDS)
        ) as session:
            loop = asyncio.get_running_loop()
            deadline, backoff, said = loop.time() + wait, Backoff(PAUSE_FIRST, PAUSE_LAST), ""
            while True:
                try:
                    return await self._once(session, url, name, force=force, manifest=manifest)
                except Unavailable as error:
                    pause = backoff.next()
                    if loop.time() + pause > deadline:
                        error.message = f"{error.message} (gave up after {wait:g} s)"
                        raise
                    if str(error) != said:
                        said = str(error)
                        self._say(f"waiting: {said}")
                await asyncio.sleep(pause)

    async def _once(
        self, session: aiohttp.ClientSession, url: str, name: str, *, force: bool, manifest: str | None
    ) -> Registered:
        before = await self._service(session, name)
        if before is not None and not force:
            await self._refuse_if_taken(session, before, url, name)
        body = {"uri": url, "force": True, "breaking": force}
        status, answer = await self._ask(session, "POST", "/deployments", body)
        if status not in (200, 201):
            raise _refusal(status, answer, url, self._shown)
        if name not in {service["name"] for service in answer["services"]}:
            found = ", ".join(service["name"] for service in answer["services"]) or "none"
            msg = f"{url} does not serve the object {name!r} (it serves {found}): check PUBSUB_OBJECT_NAME and --url"
            raise RegistrationFailed(msg)
        after = await self._service(session, name) or {}
        if manifest is not None and (after.get("metadata") or {}).get(MANIFEST) != manifest:
            msg = (
                f"{url} still answers with another version or other settings: is the rollout complete, and are this "
                "command's PUBSUB_* settings those of the service?"
            )
            raise Unavailable(msg)
        handlers = tuple(sorted(handler["name"] for handler in after.get("handlers", ())))
        change = "registered" if before is None else "unchanged"
        if before is not None and _shape(before) != _shape(after):
            change = "updated"
        return Registered(answer["id"], url, name, int(after.get("revision", 0)), handlers, change)

    async def _refuse_if_taken(
        self, session: aiohttp.ClientSession, before: dict[str, Any], url: str, name: str
    ) -> None:
        status, deployment = await self._ask(session, "GET", f"/deployments/{before['deployment_id']}")
        other = str(deployment.get("uri", "")).rstrip("/")
        if status == 200 and other and other != url.rstrip("/"):
            msg = (
                f"The object {name!r} is served by another deployment, {other}: give this one a PUBSUB_OBJECT_NAME "
                "of its own, or take the name over with `register --force`"
            )
            raise RegistrationFailed(msg)

    async def _service(self, session: aiohttp.ClientSession, name: str) -> dict[str, Any] | None:
        status, answer = await self._ask(session, "GET", f"/services/{name}")
        if status == 404:
            return None
        if status != 200:
            raise _refusal(status, answer, name, self._shown)
        return answer

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with session.request(method, self._admin + path, json=body, proxy=self._proxy) as response:
                text = await response.text()
                try:
                    answer = await response.json(content_type=None)
                except ValueError:
                    answer = None
                if not isinstance(answer, dict):
                    answer = {"message": text[:200]}
                return response.status, answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            msg = f"Restate's admin API at {self._shown} cannot be reached: {reason(error)}; check RESTATE_ADMIN_URL"
            raise Unavailable(msg) from None


def _shape(service: dict[str, Any]) -> object:
    """Return what a discovery can change."""
    # Restate lists the handlers in any order, another each time.
    handlers = sorted(service.get("handlers", ()), key=lambda handler: str(handler["name"]))
    return [service.get("ty"), service.get("deployment_id"), handlers]


def _refusal(status: int, answer: dict[str, Any], url: str, admin: str) -> PubsubError:
    code, message = answer.get("restate_code", ""), str(answer.get("message", "no text"))
    failure = why_not_called(message)
    if status in (401, 403):
        return RegistrationFailed(
            f"{admin} refused the token ({status}): set RESTATE_AUTH_TOKEN to one that may administer"
        )
    if failure.kind == "signature":
        return RegistrationFailed(
            f"The service at {url} refuses Restate's requests ({failure.text}), as their signature is missing or from "
            "another key: set the service's PUBSUB_RESTATE_IDENTITY_KEYS to the key of this Restate, or --url to a URL "
            "that asks for no password"
        )
    if code == "META0003" or status >= 500:
        return Unavailable(
            f"Restate cannot reach {url}: {failure.text}; the URL must be one that Restate can reach (--url)"
        )
    if code == "META0006":
        return RegistrationFailed(
            f"{failure.text}: use another PUBSUB_OBJECT_NAME, or accept the change with `register --force`"
        )
    return RegistrationFailed(f"Restate refused {url} ({status}): {failure.text}")
