"""Who may read and write: tokens, where they are carried, and what they permit.

A token is a JWT whose claim `pubsub` is `{"subscribe": [pattern…], "publish": [pattern…]}`; a pattern is a topic, or
a prefix ending in `*`. Nothing here knows which topics exist, so no refusal can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from starlette.requests import Request

from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.keys import ALGORITHMS, SECRET_BYTES, VerifyingKey, key_of
from restate_pubsub.errors import ConfigError, Forbidden, Unauthorized

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

CLAIM = "pubsub"
QUERY_PARAMETER = "access_token"  # the name that RFC 6750 gives it
MAX_TOKEN_LENGTH = 8192
"""Nothing longer is looked at; proxies refuse such headers anyway."""
WRITES = ("POST", "PUT", "DELETE")

Action = Literal["subscribe", "publish"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token permits, and until when (seconds since the epoch; None: for ever)."""

    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    expires: float | None = None

    def permits(self, action: Action, topic: str) -> bool:
        """Whether one of the action's patterns fits `topic`."""
        patterns = self.subscribe if action == "subscribe" else self.publish
        return any(_fits(pattern, topic) for pattern in patterns)


def _fits(pattern: str, topic: str) -> bool:
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern


class Keys(Protocol):
    """Where the verifier looks for a key."""

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """Return the keys that a token with this `kid` may be signed with."""


class OneKey:
    """The key of PUBSUB_JWT_KEY: it is meant whatever the token calls its key."""

    def __init__(self, key: VerifyingKey) -> None:
        """Keep the key."""
        self._key = key

    async def find(self, _kid: str | None) -> Sequence[VerifyingKey]:
        """Return it."""
        return [self._key]


class Verifier:
    """Turns a token into a grant."""

    def __init__(
        self,
        keys: Keys,
        *,
        audience: Sequence[str] = (),
        issuer: Sequence[str] = (),
        leeway: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`leeway` is how many seconds the issuer's clock may be ahead of ours."""
        self._keys = keys
        self._audience = list(audience)
        self._issuer = list(issuer)
        self._leeway = leeway
        self._clock = clock

    async def verify(self, token: str) -> Grant:
        """Check a token, and return what it permits.

        Raises:
            Unauthorized: it is not valid; the text says why, as far as its bearer may know.
            Unavailable: the keys cannot be fetched.

        """
        if len(token) > MAX_TOKEN_LENGTH:
            msg = f"The token has {len(token)} characters; at most {MAX_TOKEN_LENGTH} are allowed"
            raise Unauthorized(msg, invalid=True)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            msg = "The token is not a JWT"
            raise Unauthorized(msg, invalid=True) from None
        why = "The token's key is not known"
        for key in await self._keys.find(kid):
            try:
                return self._granted(self._decoded(token, key))
            except jwt.InvalidTokenError as error:
                why = _reason(error)
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                why = "The token cannot be read"
        raise Unauthorized(why, invalid=True)

    def _decoded(self, token: str, key: VerifyingKey) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            algorithms=list(key.algorithms),
            audience=self._audience or None,
            issuer=self._issuer or None,
            leeway=self._leeway,
        )

    def _granted(self, claims: dict[str, Any]) -> Grant:
        expires = None
        if claims.get("exp") is not None:
            expires = float(claims["exp"])
            # The leeway is for clocks that are ahead. An end is an end: the stream stops at it as well.
            if not expires > self._clock():
                raise jwt.ExpiredSignatureError
        claim = claims.get(CLAIM, {})
        if not isinstance(claim, dict):
            raise Unauthorized(_SHAPE, invalid=True)
        return Grant(_patterns(claim, "subscribe"), _patterns(claim, "publish"), expires)


_SHAPE = f'The token\'s claim {CLAIM!r} is not {{"subscribe": [pattern…], "publish": [pattern…]}}'


def _patterns(claim: dict[str, Any], action: Action) -> tuple[str, ...]:
    patterns = claim.get(action, [])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise Unauthorized(_SHAPE, invalid=True)
    return tuple(patterns)


_REASONS: tuple[tuple[type[jwt.InvalidTokenError], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired"),
    (jwt.ImmatureSignatureError, "The token is not valid yet"),
    (jwt.InvalidAudienceError, "The token is not for this audience"),
    (jwt.InvalidIssuerError, "The token is not from an issuer that is trusted here"),
    (jwt.MissingRequiredClaimError, "The token lacks its audience or issuer"),
    (jwt.InvalidSignatureError, "The token's signature is not valid"),
    (jwt.InvalidAlgorithmError, "The token's signature is not valid"),
)


def _reason(error: jwt.InvalidTokenError) -> str:
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "The token cannot be read")


class Guard:
    """Asks every reader and writer for a token."""

    def __init__(self, verifier: Verifier, *, cookie: str, query: bool, trusted_origins: Sequence[str] = ()) -> None:
        """`trusted_origins` may write with a cookie from another site."""
        self._verifier = verifier
        self._cookie = cookie
        self._query = query
        self._trusted = frozenset(trusted_origins)

    async def verify(self, request: Request) -> Grant:
        """Return what the request's token permits.

        Raises:
            Unauthorized, Forbidden, Unavailable: see `Verifier.verify`, and `_check_same_site`.

        """
        token, by_cookie = self._carried(request)
        if token is None:
            msg = "A token is needed: send it as `Authorization: Bearer …`"
            raise Unauthorized(msg)
        if by_cookie and request.method in WRITES:
            _check_same_site(request, self._trusted)
        return await self._verifier.verify(token)

    def _carried(self, request: Request) -> tuple[str | None, bool]:
        in_query = take_query_token(request) if self._query else None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip(), False
        if in_query:
            return in_query, False
        return request.cookies.get(self._cookie) or None, True


def check(grant: Grant, action: Action, topic: str) -> None:
    """Refuse what the grant does not permit.

    Raises:
        Forbidden: in the same words whether the topic exists or not.

    """
    if not grant.permits(action, topic):
        msg = f"The token does not permit to {action} {'to' if action == 'publish' else 'to this topic:'} {topic!r}"
        raise Forbidden(msg)


def take_query_token(request: Request) -> str | None:
    """Return the query's token and take it out of the request, so that nothing that comes later can log it."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    if QUERY_PARAMETER not in query:
        return None
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    token = next((value for name, value in pairs if name == QUERY_PARAMETER), None)
    rest = urlencode([pair for pair in pairs if pair[0] != QUERY_PARAMETER], encoding="latin-1")
    request.scope["query_string"] = rest.encode("latin-1")
    return token


def _check_same_site(request: Request, trusted: frozenset[str]) -> None:
    """Refuse a write that another site may have caused: browsers add cookies to those, too.

    Every browser of today says where a request comes from; what does not say so has no cookie jar to be abused,
    and can send the token in a header.

    Raises:
        Forbidden: not from this origin, nor from one that is listed.

    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin in trusted or (site in ("same-origin", "none") and origin != "null"):
        return
    # Without TLS browsers leave Sec-Fetch-Site out; Origin comes with every write.
    own = request.headers.get("host", "").lower()
    if site is None and origin and own and urlsplit(origin.lower()).netloc == own:
        return
    msg = (
        "A cookie alone does not permit a write from another site: "
        "send the token as `Authorization: Bearer …`, or list the origin in PUBSUB_CORS_ORIGINS"
    )
    raise Forbidden(msg)


def keys_from(settings: Settings) -> KeySet | OneKey | None:
    """Return where tokens' keys come from; None where no token is asked for.

    Raises:
        ConfigError: settings that contradict each other, or a key that cannot be used.

    """
    algorithms = settings.jwt_algorithms
    text = settings.jwt_key.get_secret_value() if settings.jwt_key else None
    if text is not None and settings.jwks_url is not None:
        msg = "PUBSUB_JWT_KEY and PUBSUB_JWKS_URL are both set: one place decides which keys are good; unset the other"
        raise ConfigError(msg)
    for name in algorithms:
        if name not in ALGORITHMS:
            msg = f"PUBSUB_JWT_ALGORITHMS={','.join(algorithms)}: {name!r} is not one of {', '.join(ALGORITHMS)}"
            raise ConfigError(msg)
    if text is not None:
        return OneKey(key_of(text, algorithms))
    if settings.jwks_url is not None:
        for name in algorithms:
            if name in SECRET_BYTES:
                msg = f"PUBSUB_JWT_ALGORITHMS={','.join(algorithms)}: {name} needs a shared secret, a JWKS has none"
                raise ConfigError(msg)
        return KeySet(settings.jwks_url, algorithms)
    if algorithms:
        msg = "PUBSUB_JWT_ALGORITHMS is set, but no key: set PUBSUB_JWT_KEY or PUBSUB_JWKS_URL as well"
        raise ConfigError(msg)
    return None


def guard_from(settings: Settings, keys: Keys, trusted_origins: Sequence[str]) -> Guard:
    """Return the guard that the settings ask for."""
    verifier = Verifier(keys, audience=settings.jwt_audience, issuer=settings.jwt_issuer, leeway=settings.jwt_leeway)
    return Guard(verifier, cookie=settings.jwt_cookie, query=settings.jwt_query, trusted_origins=trusted_origins)
