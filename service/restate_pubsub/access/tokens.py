"""Who may read, write and control: tokens, and where they are carried. What they permit is in `grants`.

Nothing here knows which topics exist, so no refusal can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlencode

import jwt
from starlette.requests import Request

from restate_pubsub.access.grants import CLAIM, SHAPE, Action, Grant, claim_of, grant_of
from restate_pubsub.access.jwks import KeySet
from restate_pubsub.access.keys import ALGORITHMS, SECRET_BYTES, VerifyingKey, key_of
from restate_pubsub.errors import ClaimMissing, ConfigError, Forbidden, PubsubError, Unauthorized

if TYPE_CHECKING:
    from restate_pubsub.settings.fields import Settings

QUERY_PARAMETER = "access_token"  # the name that RFC 6750 gives it
MAX_TOKEN_LENGTH = 8192
"""Nothing longer is looked at; proxies refuse such headers anyway."""
WRITES = ("POST", "PUT", "DELETE")


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
        claim: str = CLAIM,
        audience: Sequence[str] = (),
        issuer: Sequence[str] = (),
        leeway: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`claim` is the name of what permits; `leeway` how many seconds the issuer's clock may be ahead of ours."""
        self._keys = keys
        self._claim = claim
        self._audience = list(audience)
        self._issuer = list(issuer)
        self._leeway = leeway
        self._clock = clock

    async def verify(self, token: str) -> Grant:
        """Check a token, and return what it permits.

        Raises:
            Unauthorized: it is not valid; the text says why, as far as its bearer may know.
            ClaimMissing: it is valid, but for something else.
            KeysUnavailable: the keys cannot be fetched.

        """
        if len(token) > MAX_TOKEN_LENGTH:
            msg = f"The token has {len(token)} characters; at most {MAX_TOKEN_LENGTH} are allowed"
            raise Unauthorized(msg, invalid=True)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError):
            msg = "The token is not a JWT"
            raise Unauthorized(msg, invalid=True) from None
        refused = Unauthorized("The token's key is not known", invalid=True, setting=_KEYS)
        for key in await self._keys.find(kid):
            try:
                return self._granted(self._decoded(token, key))
            except jwt.InvalidTokenError as error:
                refused = _refused(error)
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                refused = Unauthorized("The token cannot be read", invalid=True)
        raise refused

    def _decoded(self, token: str, key: VerifyingKey) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(key.algorithms),
            audience=self._audience or None,
            issuer=self._issuer or None,
            leeway=self._leeway,
        )
        if not self._audience and "aud" in claims:  # PyJWT lets an empty one pass
            raise jwt.InvalidAudienceError
        return claims

    def _granted(self, claims: dict[str, Any]) -> Grant:
        expires = None
        if claims.get("exp") is not None:
            expires = float(claims["exp"])
            # The leeway is for clocks that are ahead. An end is an end: the stream stops at it as well.
            if not expires > self._clock():
                raise jwt.ExpiredSignatureError
        claim = claim_of(claims, self._claim)
        if claim is None:
            raise ClaimMissing.named(self._claim)
        try:
            return grant_of(claim, expires)
        except ValueError:
            msg = f"The token's claim {self._claim!r} is not {SHAPE}"
            raise Unauthorized(msg, invalid=True, setting="PUBSUB_JWT_CLAIM") from None


_KEYS = "PUBSUB_JWT_KEY or PUBSUB_JWKS_URL"
_REASONS: tuple[tuple[type[jwt.InvalidTokenError], str, str | None], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired", None),
    (jwt.ImmatureSignatureError, "The token is not valid yet", "PUBSUB_JWT_LEEWAY"),
    (jwt.InvalidAudienceError, "The token is not for this audience", "PUBSUB_JWT_AUDIENCE"),
    (jwt.InvalidIssuerError, "The token is not from an issuer that is trusted here", "PUBSUB_JWT_ISSUER"),
    (
        jwt.MissingRequiredClaimError,
        "The token lacks its audience or issuer",
        "PUBSUB_JWT_AUDIENCE or PUBSUB_JWT_ISSUER",
    ),
    (jwt.InvalidSignatureError, "The token's signature is not valid", _KEYS),
    (jwt.InvalidAlgorithmError, "The token's signature is not valid", f"{_KEYS}, PUBSUB_JWT_ALGORITHMS"),
)
"""What its bearer may know, and for the operator the setting that decides. Nobody sets when a token ends."""


def _refused(error: jwt.InvalidTokenError) -> Unauthorized:
    for kind, text, setting in _REASONS:
        if isinstance(error, kind):
            return Unauthorized(text, invalid=True, setting=setting)
    return Unauthorized("The token cannot be read", invalid=True)


class Guard:
    """Asks every reader and writer for a token."""

    def __init__(
        self,
        verifier: Verifier,
        *,
        cookie: str,
        query: bool,
        trusted_origins: Sequence[str] = (),
        on_refused: Callable[[PubsubError], None] = lambda _error: None,
    ) -> None:
        """`trusted_origins` may write with a cookie from another site; `on_refused` is told of what is refused."""
        self._verifier = verifier
        self._cookie = cookie
        self._query = query
        self._trusted = frozenset(trusted_origins)
        self._on_refused = on_refused

    async def verify(self, request: Request) -> Grant:
        """Return what the request's token permits.

        Raises:
            Unauthorized, Forbidden, KeysUnavailable: see `Verifier.verify`, and `_check_same_site`.

        """
        try:
            token, by_cookie = self._carried(request)
            if token is None:
                msg = "A token is needed: send it as `Authorization: Bearer …`"
                raise Unauthorized(msg)
            if by_cookie and request.method in WRITES:
                _check_same_site(request, self._trusted)
            return await self._verifier.verify(token)
        except PubsubError as error:
            self._on_refused(error)
            raise

    def check(self, grant: Grant, action: Action, topic: str) -> None:
        """Refuse what the grant does not permit, as `check` does."""
        try:
            check(grant, action, topic)
        except Forbidden as error:
            self._on_refused(error)
            raise

    def _carried(self, request: Request) -> tuple[str | None, bool]:
        in_query = take_query_token(request) if self._query else None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip(), False
        if in_query:
            return in_query, False
        return request.cookies.get(self._cookie) or None, True


_PHRASES: dict[Action, str] = {
    "subscribe": "subscribe to this topic",
    "publish": "publish to this topic",
    "control": "control this topic",
}


def check(grant: Grant, action: Action, topic: str) -> None:
    """Refuse what the grant does not permit.

    Raises:
        Forbidden: in the same words whether the topic exists or not.

    """
    if not grant.permits(action, topic):
        msg = f"The token does not permit to {_PHRASES[action]}: {topic!r}"
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
    # Without TLS browsers leave Sec-Fetch-Site out; Origin comes with every write. Compared as text: whatever is
    # malformed in either is simply not the same.
    own = request.headers.get("host", "").lower()
    if site is None and origin and own and origin.lower() in (f"http://{own}", f"https://{own}"):
        return
    msg = (
        "A cookie alone does not permit a write from another site: "
        "send the token as `Authorization: Bearer …`, or list the origin in PUBSUB_CORS_ORIGINS"
    )
    raise Forbidden(msg, setting="PUBSUB_CORS_ORIGINS")


def keys_from(settings: Settings, on_fetched: Callable[[bool], None] = lambda _worked: None) -> KeySet | OneKey | None:
    """Return where tokens' keys come from; None where no token is asked for.

    `on_fetched` is told of each fetch of keys by URL, and whether it worked.

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
        return KeySet(settings.jwks_url, algorithms, on_fetched=on_fetched)
    if without_key := [variable for variable in _NEED_A_KEY if _is_changed(settings, variable)]:
        msg = (
            f"{', '.join(without_key)}: set, but no key, so everybody could read: "
            "set PUBSUB_JWT_KEY or PUBSUB_JWKS_URL as well"
        )
        raise ConfigError(msg)
    return None


_NEED_A_KEY = {
    "PUBSUB_JWT_ALGORITHMS": "jwt_algorithms",
    "PUBSUB_JWT_AUDIENCE": "jwt_audience",
    "PUBSUB_JWT_ISSUER": "jwt_issuer",
    "PUBSUB_JWT_CLAIM": "jwt_claim",
    "PUBSUB_JWT_LEEWAY": "jwt_leeway",
    "PUBSUB_JWT_COOKIE": "jwt_cookie",
    "PUBSUB_JWT_QUERY": "jwt_query",
}


def _is_changed(settings: Settings, variable: str) -> bool:
    name = _NEED_A_KEY[variable]
    return bool(getattr(settings, name) != type(settings).model_fields[name].default)


def guard_from(
    settings: Settings,
    keys: Keys,
    trusted_origins: Sequence[str],
    on_refused: Callable[[PubsubError], None] = lambda _error: None,
) -> Guard:
    """Return the guard that the settings ask for."""
    verifier = Verifier(
        keys,
        claim=settings.jwt_claim,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway=settings.jwt_leeway,
    )
    return Guard(
        verifier,
        cookie=settings.jwt_cookie,
        query=settings.jwt_query,
        trusted_origins=trusted_origins,
        on_refused=on_refused,
    )
