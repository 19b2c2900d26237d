"""One call through Restate into this service's own object: what readiness is, and what is wrong where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from restate_pubsub.errors import PubsubError, Unavailable
from restate_pubsub.restate_texts import why_not_called
from restate_pubsub.topic.ping import decode_pong
from restate_pubsub.topic.virtual_object import MANIFEST

if TYPE_CHECKING:
    from restate_pubsub.ingress import Ingress
    from restate_pubsub.ingress.answers import Answer
    from restate_pubsub.restate_admin import Registered, RestateAdmin

PING_SECONDS = 5.0

Code = Literal[
    "restate-unreachable",
    "restate-refuses-token",
    "object-missing",
    "object-foreign",
    "object-outdated",
    "deployment-unreachable",
    "deployment-other",
    "identity-mismatch",
]
CODES: tuple[Code, ...] = get_args(Code)
OF_INGRESS: tuple[Code, ...] = ("restate-unreachable", "restate-refuses-token")
"""Those where Restate did not even take the call: the settings of this process may be wrong."""

_REGISTER = "run `restate-pubsub register --force --url …` with the URL at which Restate reaches this service"


class Trouble(NamedTuple):
    """Why this service cannot serve: a stable code, and a sentence that says what to do."""

    code: Code
    reason: str


class RoundTrip:
    """Calls the object's `ping`, and reads what comes back. The admin API, where it answers, makes it more exact."""

    def __init__(self, ingress: Ingress, admin: RestateAdmin, *, key: str, fingerprint: str) -> None:
        """`key` is the object's key that is called; `fingerprint` is what this process's own object answers."""
        self._ingress = ingress
        self._admin = admin
        self._key = key
        self._fingerprint = fingerprint

    async def trouble(self) -> Trouble | None:
        """Call once; None when this deployment's object answered."""
        try:
            answer = await self._ingress.ask(self._key, "ping", seconds=PING_SECONDS)
        except Unavailable as error:
            return await self._no_answer(error)
        if answer.status == 200 and not answer.is_foreign:
            return await self._of_pong(answer.body)
        if answer.source == "invocation":
            return await self._not_called(answer.message)
        return await self._of_ingress(answer)

    async def _no_answer(self, error: Unavailable) -> Trouble:
        """Tell a Restate that is away from one that waits for the deployment."""
        try:
            names = await self._ingress.services()
        except PubsubError:
            return Trouble("restate-unreachable", str(error))
        return await self._not_called("it does not answer") if self._ingress.name in names else self._missing()

    async def _of_pong(self, body: bytes) -> Trouble | None:
        pong = decode_pong(body)
        if pong is None:
            return await self._foreign()
        if pong.object == self._fingerprint or not pong.replica:
            return None  # without a name: the object is bound in an endpoint of its own, as the library allows
        at = _at(await self._registered())
        return Trouble(
            "deployment-other",
            f"Restate calls another version of the object {self._ingress.name!r}, or one with other settings{at} "
            f"(replica {pong.replica}). That passes when a rollout ends; if this service has "
            f"moved, {_REGISTER}",
        )

    async def _of_ingress(self, answer: Answer) -> Trouble:
        if answer.status in (401, 403):
            return Trouble(
                "restate-refuses-token",
                f"Restate at {self._ingress.shown} refuses the call ({answer.status}): check RESTATE_AUTH_TOKEN",
            )
        if not answer.is_foreign and (answer.status >= 500 or answer.status == 429):
            return Trouble("restate-unreachable", f"Restate's ingress answers {answer.status}: {answer.message}")
        try:
            names = await self._ingress.services()
        except PubsubError as error:
            return Trouble("restate-unreachable", str(error))
        return await self._foreign() if self._ingress.name in names else self._missing()

    def _missing(self) -> Trouble:
        return Trouble(
            "object-missing",
            f"Restate does not have the object {self._ingress.name!r}: run `restate-pubsub register`",
        )

    async def _foreign(self) -> Trouble:
        """Tell an older version of ours from another program's object of the same name."""
        name, registered = self._ingress.name, await self._registered()
        at = _at(registered)
        if registered is not None and MANIFEST in registered.metadata:
            return Trouble(
                "object-outdated",
                f"The object {name!r} is registered as an older version of this service had it{at}: {_REGISTER}",
            )
        return Trouble(
            "object-foreign",
            f"Another program's object has the name {name!r} in Restate{at}: give this one a PUBSUB_OBJECT_NAME of "
            f"its own, or, to take the name and its topics over, {_REGISTER}",
        )

    async def _not_called(self, message: str) -> Trouble:
        """Say where Restate looks for the object, and what it finds there."""
        failure, registered = why_not_called(message), await self._registered()
        where = registered.url if registered is not None and registered.url else failure.url
        at = where or "the URL that it was registered with"
        if failure.kind == "signature":
            return Trouble(
                "identity-mismatch",
                f"The object at {at} refuses Restate's requests (401), as their signature is missing or from another "
                "key: set PUBSUB_RESTATE_IDENTITY_KEYS to the key of this Restate (its log names it at the start, "
                "Restate Cloud's settings show it)",
            )
        return Trouble(
            "deployment-unreachable",
            f"Restate calls the object {self._ingress.name!r} at {at} and gets no answer: {failure.text}. If this "
            f"service has moved, {_REGISTER}",
        )

    async def _registered(self) -> Registered | None:
        try:
            return await self._admin.registered(self._ingress.name)
        except Unavailable:
            return None  # a service need not reach it


def _at(registered: Registered | None) -> str:
    return f", at {registered.url}" if registered is not None and registered.url else ""
