"""Restate's admin API as the service asks it: where an object is registered, and what holds a topic.

The service works without: where this API is out of reach, it only says less.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import aiohttp

from restate_pubsub.errors import Unavailable
from restate_pubsub.ingress.reasons import reason
from restate_pubsub.protocol.urls import redacted_url
from restate_pubsub.proxies import proxy_for

ANSWER_SECONDS = 3.0


class Registered(NamedTuple):
    """Where Restate calls an object, and the metadata that its program gave it."""

    url: str
    metadata: dict[str, str]


class Holder(NamedTuple):
    """The invocation that holds a topic: whatever else writes to the topic waits for it."""

    topic: str
    invocation: str
    handler: str
    status: str
    failure: str


class Strangers(NamedTuple):
    """Calls of an object that the program at `url` cannot serve, which has these `handlers`.

    `lost` are for handlers that it does not have, and no program has begun them; `elsewhere` are those that another one
    has begun or is beginning, and that may send more, but for pulls, which only wait.
    """

    url: str
    handlers: list[str]
    lost: list[Holder]
    elsewhere: list[Holder]


class RestateAdmin:
    """One admin API. Close it when done."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """`url` is the API's, `token` a bearer token (Restate Cloud)."""
        self._url = url.rstrip("/")
        self.shown = redacted_url(self._url)
        self._proxy = proxy_for(self._url)
        self._headers = {"accept": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_raised: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def registered(self, name: str) -> Registered | None:
        """Return where Restate calls the object `name`; None if it has none of that name.

        Raises:
            Unavailable: the API is out of reach.

        """
        service = await self._ask("GET", f"/services/{name}")
        return None if service is None else Registered(await self._url_of(service), service.get("metadata") or {})

    async def held(self, name: str, topic: str | None = None) -> dict[str, str]:
        """Return the invocations that hold topics of the object `name` at this moment, by topic.

        Raises:
            Unavailable: the API is out of reach.

        """
        where = f"service_name = {_text(name)}" + (f" and service_key = {_text(topic)}" if topic is not None else "")
        sql = f"select service_key, invocation_id from sys_keyed_service_status where {where}"  # noqa: S608 - quoted
        return {row["service_key"]: row["invocation_id"] for row in await self._query(sql)}

    async def holders(self, invocations: Iterable[str]) -> list[Holder]:
        """Return what is known of these invocations.

        Raises:
            Unavailable: the API is out of reach.

        """
        return await self._invocations(f"id in ({', '.join(map(_text, invocations))})")

    async def strangers(self, name: str) -> Strangers | None:
        """Return the calls of the object `name` that are not for the program that has it; None if there is no object.

        Restate tries a call for a handler that is not there again and again, and meanwhile nothing else writes to its
        topic.

        Raises:
            Unavailable: the API is out of reach.

        """
        service = await self._ask("GET", f"/services/{name}")
        if service is None:
            return None
        handlers = [handler["name"] for handler in service["handlers"]]
        unknown = f"target_handler_name not in ({', '.join(map(_text, handlers))})"
        open_ = f"target_service_name = {_text(name)} and status != 'completed'"
        lost = f"{open_} and {unknown} and pinned_deployment_id is null and status != 'running'"
        begun = f"(pinned_deployment_id != {_text(service['deployment_id'])} or ({unknown} and status = 'running'))"
        elsewhere = f"{open_} and target_handler_name != 'pull' and {begun}"  # a pin that is null is no other one
        url = await self._url_of(service)
        return Strangers(url, handlers, await self._invocations(lost), await self._invocations(elsewhere))

    async def kill(self, invocation: str) -> bool:
        """End an invocation, wherever it is; False if it has ended.

        Raises:
            Unavailable: the API is out of reach.

        """
        return await self._ask("PATCH", f"/invocations/{invocation}/kill") is not None

    async def _url_of(self, service: dict[str, Any]) -> str:
        deployment = await self._ask("GET", f"/deployments/{service['deployment_id']}") or {}
        return str(deployment.get("uri", "")).rstrip("/")

    async def _invocations(self, where: str) -> list[Holder]:
        sql = (
            "select id, target_service_key, target_handler_name, status, last_failure "  # noqa: S608 - quoted by callers
            f"from sys_invocation where {where}"
        )
        return [
            Holder(
                row["target_service_key"], row["id"], row["target_handler_name"], row["status"],
                row.get("last_failure") or "",
            )
            for row in await self._query(sql)
        ]  # fmt: skip

    async def _query(self, sql: str) -> list[dict[str, Any]]:
        return (await self._ask("POST", "/query", {"query": sql}) or {}).get("rows", [])  # type: ignore[no-any-return]

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any] | None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(ANSWER_SECONDS)
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        try:
            async with self._session.request(method, self._url + path, json=body, proxy=self._proxy) as response:
                if response.status == 404 or (method == "PATCH" and response.status == 409):  # it has ended
                    return None
                if response.status != 200:
                    msg = f"Restate's admin API at {self.shown} answered {response.status}"
                    raise Unavailable(msg)
                answer = {} if method == "PATCH" else await response.json(content_type=None)  # a PATCH says nothing
        except (aiohttp.ClientError, OSError) as error:
            msg = f"Restate's admin API at {self.shown} cannot be reached: {reason(error)}"
            raise Unavailable(msg) from None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            msg = f"What answers at {self.shown} is not Restate's admin API: set RESTATE_ADMIN_URL"
            raise Unavailable(msg)
        return answer


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
