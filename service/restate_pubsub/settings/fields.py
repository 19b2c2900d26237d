"""Every setting, once: its environment variable, type, default, and what it is for.

`load` reads them; the reference, `config/` and the chart's schema are made from this table (`make generate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from restate_pubsub.errors import ConfigError
from restate_pubsub.protocol.limits import DEFAULT_IDEMPOTENCY_RETENTION, DEFAULT_PULL_TIMEOUT, Limits
from restate_pubsub.protocol.urls import redacted_url
from restate_pubsub.settings import environment
from restate_pubsub.settings.kinds import NUMBER, SECRET, kind_of
from restate_pubsub.settings.types import (
    URL,
    Advertised,
    BearerToken,
    Bind,
    Binds,
    Claim,
    Cookie,
    IdentityKeys,
    ObjectName,
    Origins,
    Path,
    Seconds,
    Size,
    Strings,
    Url,
)
from restate_pubsub.settings.units import format_size

Group = Literal["Restate", "Serving", "Access", "Streams", "Limits", "Retention", "Logs"]

_LIMITS = Limits()
"""The library has these limits too, whose defaults are said there."""


def _field(variable: str, default: Any, group: Group, description: str, **rules: Any) -> Any:
    extra: dict[str, JsonValue] = {"group": group}
    return Field(default, alias=variable, description=description, json_schema_extra=extra, **rules)


class Settings(BaseModel):
    """What the environment says. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=False)

    ingress_url: Url = _field(
        "RESTATE_INGRESS_URL",
        "http://localhost:8080",
        "Restate",
        "This is Restate's ingress: streams pull from it, and publishes go to it.",
    )
    admin_url: Url = _field(
        "RESTATE_ADMIN_URL",
        "http://localhost:9070",
        "Restate",
        "This is Restate's admin API, which `register` calls. A service that reaches it, too, names blocked topics and "
        "stale URLs.",
    )
    auth_token: BearerToken | None = _field(
        "RESTATE_AUTH_TOKEN",
        None,
        "Restate",
        "Both get this bearer token (Restate Cloud).",
    )
    object_name: ObjectName = _field(
        "PUBSUB_OBJECT_NAME",
        "pubsub",
        "Restate",
        "The Virtual Object has this name, and publishers use it.",
    )
    identity_keys: IdentityKeys = _field(
        "PUBSUB_RESTATE_IDENTITY_KEYS",
        (),
        "Restate",
        "Only the Restate that signs with one of these request identity keys may invoke the object. Separate them "
        "by commas.",
    )
    idempotency_retention: Seconds = _field(
        "PUBSUB_IDEMPOTENCY_RETENTION",
        DEFAULT_IDEMPOTENCY_RETENTION,
        "Restate",
        "A repeated idempotency key of a publish is known for this long.",
        ge=1,
    )
    health_interval: Seconds = _field(
        "PUBSUB_HEALTH_INTERVAL",
        5.0,
        "Restate",
        "A call through Restate into the object proves this often that the process is ready. Each is an invocation.",
        ge=0.5,
        le=3600,
    )

    bind: Binds = _field(
        "PUBSUB_BIND",
        ("0.0.0.0:9080",),
        "Serving",
        "The service listens on these addresses, separated by commas. One with another port than the first is "
        "internal: it serves everything, and the first then serves only the streams and /health.",
        min_length=1,
    )
    metrics_bind: Bind | None = _field(
        "PUBSUB_METRICS_BIND",
        None,
        "Serving",
        "This further listen address serves /metrics and /health alone, for whoever scrapes and may not invoke.",
    )
    advertise: Advertised | None = _field(
        "PUBSUB_ADVERTISE",
        None,
        "Serving",
        "Other replicas reach this one's internal address at this URL, http://host:port, and hand it directly what "
        "they have written. If not set, it all comes through Restate, which takes longer. The chart sets it.",
    )
    peers: Strings = _field(
        "PUBSUB_PEERS",
        (),
        "Serving",
        "Replicas may have these hosts, separated by commas: names, addresses, networks (10.0.0.0/8), or a name that "
        "stands for all of their addresses. No other address that a subscription names is called. The chart sets it.",
    )
    restate_path: Path = _field(
        "PUBSUB_RESTATE_PATH",
        "/restate",
        "Serving",
        "The Restate endpoint is mounted here.",
    )
    sse_path: Path = _field(
        "PUBSUB_SSE_PATH",
        "/pubsub",
        "Serving",
        "The streams are here: GET {path}/{topic}.",
    )
    publish_enabled: bool = _field(
        "PUBSUB_PUBLISH_ENABLED",
        default=False,
        group="Serving",
        description="This allows HTTP publishing: POST {path}/{topic} publishes, and DELETE deletes the topic.",
    )
    publish_timeout: Seconds = _field(
        "PUBSUB_PUBLISH_TIMEOUT",
        20.0,
        "Serving",
        "A write over HTTP waits for Restate this long, retries included, before it is answered with 503.",
        ge=1,
        le=3600,
    )
    console: bool = _field(
        "PUBSUB_CONSOLE",
        default=False,
        group="Serving",
        description="This serves the operators' page /console, which follows topics and shows this process's "
        "figures. It names topics.",
    )
    drain_timeout: Seconds = _field(
        "PUBSUB_DRAIN_TIMEOUT",
        20.0,
        "Serving",
        "On SIGTERM, streams end and invocations finish within this time. Keep the pod's grace period longer.",
        ge=0,
        le=3600,
    )
    request_timeout: Seconds = _field(
        "PUBSUB_REQUEST_TIMEOUT",
        30.0,
        "Serving",
        "The head of a request must be complete this long after its first byte, and after a connection was opened. "
        "Otherwise the connection is closed. Restate's connections have no such limit. 0s means never.",
        ge=0,
    )
    body_timeout: Seconds = _field(
        "PUBSUB_BODY_TIMEOUT",
        120.0,
        "Serving",
        "A request whose body brings nothing for this long is answered with 408. A body that stays open sends a "
        "blank line now and then. 0s means never.",
        ge=0,
    )
    keep_alive_timeout: Seconds = _field(
        "PUBSUB_KEEP_ALIVE_TIMEOUT",
        120.0,
        "Serving",
        "A connection without a request is closed after this time. Keep it longer than a proxy before this service "
        "keeps its idle connections. Restate's connections have no such limit. 0s means never.",
        ge=0,
    )

    jwt_key: SecretStr | None = _field(
        "PUBSUB_JWT_KEY",
        None,
        "Access",
        "Readers and writers of the streams need an access token that this key verifies. It is a shared secret "
        "(HS*, at least 32 bytes) or a public key in PEM (RS*, PS*, ES*, EdDSA).",
    )
    jwks_url: Url | None = _field(
        "PUBSUB_JWKS_URL",
        None,
        "Access",
        "The same, with public keys from this URL, which are kept and renewed. Use https.",
    )
    jwt_algorithms: Strings = _field(
        "PUBSUB_JWT_ALGORITHMS",
        (),
        "Access",
        "An access token must be signed with one of these, separated by commas. If not set, all that the kind of "
        "key allows are taken.",
    )
    jwt_audience: Strings = _field(
        "PUBSUB_JWT_AUDIENCE",
        (),
        "Access",
        "An access token must name one of these in `aud`. If not set, one that has an `aud` is refused.",
    )
    jwt_issuer: Strings = _field(
        "PUBSUB_JWT_ISSUER",
        (),
        "Access",
        "If set, an access token must come from one of these (`iss`).",
    )
    jwt_claim: Claim = _field(
        "PUBSUB_JWT_CLAIM",
        "pubsub",
        "Access",
        "This claim says what an access token permits. It is a name, a URL, or names joined by dots for a claim inside "
        "others.",
    )
    jwt_leeway: Seconds = _field(
        "PUBSUB_JWT_LEEWAY",
        5.0,
        "Access",
        "The issuer's clock may be ahead by this much (`nbf`, `iat`). `exp` is exact.",
        ge=0,
        le=300,
    )
    jwt_cookie: Cookie = _field(
        "PUBSUB_JWT_COOKIE",
        "pubsub_token",
        "Access",
        "The cookie of this name may carry the access token, for an EventSource with credentials.",
    )
    jwt_query: bool = _field(
        "PUBSUB_JWT_QUERY",
        default=False,
        group="Access",
        description="The query may carry the access token, too (`?access_token=`). Proxies on the way may log it.",
    )
    cors_origins: Origins = _field(
        "PUBSUB_CORS_ORIGINS",
        (),
        "Access",
        "Pages of these origins may read and publish: https://app.example.org, capacitor://localhost, or "
        "https://*.example.org or * without cookies.",
    )
    trusted_proxies: int = _field(
        "PUBSUB_TRUSTED_PROXIES",
        0,
        "Access",
        "So many proxies before this service add to X-Forwarded-For. The client is who the outermost of them saw.",
        ge=0,
        le=16,
    )

    heartbeat: Seconds = _field(
        "PUBSUB_HEARTBEAT",
        15.0,
        "Streams",
        "A stream sends a comment this often. Keep it below the idle limit of every proxy on the way.",
        ge=0.1,
    )
    retry: Seconds = _field(
        "PUBSUB_RETRY",
        2.0,
        "Streams",
        "Browsers reconnect after about this time. Each stream gets its own, up to twice as long.",
        ge=0.1,
    )
    send_timeout: Seconds = _field(
        "PUBSUB_SEND_TIMEOUT",
        30.0,
        "Streams",
        "A reader that takes nothing for this long is cut off.",
        ge=0.1,
    )
    ring_bytes: Size = _field(
        "PUBSUB_RING_BYTES",
        4 * 1024**2,
        "Streams",
        "So much of the recent messages of each topic that is read stays in memory. Slower readers read Restate again.",
        ge=1024,
    )
    rings_max_bytes: Size = _field(
        "PUBSUB_RINGS_MAX_BYTES",
        256 * 1024**2,
        "Streams",
        "All topics together keep at most this much, and up to a quarter of it is what slow readers catch up on. What "
        "was least recently used goes first.",
        ge=1024,
    )
    stream_max_age: Seconds = _field(
        "PUBSUB_STREAM_MAX_AGE",
        3600.0,
        "Streams",
        "A stream ends at this age, or up to a quarter earlier, so that readers spread over replicas. Browsers go "
        "on where they were. 0s means never.",
        ge=0,
    )
    linger: Seconds = _field(
        "PUBSUB_FEED_LINGER",
        30.0,
        "Streams",
        "A topic stays in memory for this long after its last reader left.",
        ge=0,
    )
    feed_pull_timeout: Seconds = _field(
        "PUBSUB_FEED_PULL_TIMEOUT",
        600.0,
        "Streams",
        "A stream's own pull waits this long. Lower it below the idle limit of a proxy before Restate.",
        ge=1,
        le=86400,
    )

    max_streams: int = _field(
        "PUBSUB_MAX_STREAMS",
        10_000,
        "Limits",
        "One process takes this many open streams. Each needs about 50 KiB.",
        ge=1,
    )
    max_streams_per_client: int = _field(
        "PUBSUB_MAX_STREAMS_PER_CLIENT",
        1000,
        "Limits",
        "One client address (IPv6: its /64) may have this many open streams, and as many publishes under way.",
        ge=1,
    )
    max_streams_per_topic: int = _field(
        "PUBSUB_MAX_STREAMS_PER_TOPIC",
        5000,
        "Limits",
        "One topic may have this many open streams.",
        ge=1,
    )
    stream_rate: int = _field(
        "PUBSUB_STREAM_RATE",
        500,
        "Limits",
        "One process takes this many new streams a second. More wait for their turn, and are refused if that "
        "takes longer than 5 s.",
        ge=1,
    )
    stream_rate_per_client: int = _field(
        "PUBSUB_STREAM_RATE_PER_CLIENT",
        200,
        "Limits",
        "One client address may open this many streams a second.",
        ge=1,
    )
    max_topics: int = _field(
        "PUBSUB_MAX_TOPICS",
        10_000,
        "Limits",
        "One process follows this many topics at the same time. A topic that nobody reads any more counts until "
        "PUBSUB_FEED_LINGER is over.",
        ge=1,
    )
    topic_rate_per_client: int = _field(
        "PUBSUB_TOPIC_RATE_PER_CLIENT",
        20,
        "Limits",
        "One client address may open this many topics a second that nobody reads here yet, and twenty times that at "
        "once. More wait for their turn, and are refused if that takes longer than 5 s.",
        ge=1,
    )
    publish_rate_per_client: int = _field(
        "PUBSUB_PUBLISH_RATE_PER_CLIENT",
        100,
        "Limits",
        "One client address may publish this often a second over HTTP (requests, not messages), and twice that at "
        "once.",
        ge=1,
    )
    message_rate_per_client: int = _field(
        "PUBSUB_MESSAGE_RATE_PER_CLIENT",
        20_000,
        "Limits",
        "One client address may publish this many messages a second over HTTP. A body under way waits, and a new "
        "request is refused.",
        ge=1,
    )
    byte_rate_per_client: Size = _field(
        "PUBSUB_BYTE_RATE_PER_CLIENT",
        16 * 1024**2,
        "Limits",
        "One client address may publish this many bytes a second over HTTP, in the same way.",
        ge=1024,
    )
    request_max_bytes: Size = _field(
        "PUBSUB_REQUEST_MAX_BYTES",
        1024**3,
        "Limits",
        "One request that publishes may bring this many bytes. The rest goes into a new request.",
        ge=2,
    )
    request_max_age: Seconds = _field(
        "PUBSUB_REQUEST_MAX_AGE",
        86400.0,
        "Limits",
        "One request that publishes may go on for this long.",
        ge=1,
    )
    pull_timeout: Seconds = _field(
        "PUBSUB_PULL_TIMEOUT",
        DEFAULT_PULL_TIMEOUT,
        "Limits",
        "A pull waits this long before 408, if its caller does not say.",
        ge=0,
        le=86400,
    )
    message_max_bytes: Size = _field(
        "PUBSUB_MESSAGE_MAX_BYTES",
        _LIMITS.message_bytes,
        "Limits",
        "A message may be this large.",
        ge=2,
        le=16 * 1024**2,
    )
    batch_max_bytes: Size = _field(
        "PUBSUB_BATCH_MAX_BYTES",
        _LIMITS.batch_bytes,
        "Limits",
        "The messages of one append may be this large together.",
        ge=2,
        le=24 * 1024**2,
    )
    batch_max_messages: int = _field(
        "PUBSUB_BATCH_MAX_MESSAGES",
        _LIMITS.batch_messages,
        "Limits",
        "One append may have this many messages.",
        ge=1,
        le=100_000,
    )
    topic_max_bytes: Size = _field(
        "PUBSUB_TOPIC_MAX_BYTES",
        _LIMITS.topic_bytes,
        "Limits",
        "A topic's name may be this long, in bytes of UTF-8.",
        ge=1,
        le=4096,
    )
    pull_max_bytes: Size = _field(
        "PUBSUB_PULL_MAX_BYTES",
        _LIMITS.pull_bytes,
        "Limits",
        "A pull's answer ends before the message that would pass this size.",
        ge=1024,
        le=16 * 1024**2,
    )
    pull_max_messages: int = _field(
        "PUBSUB_PULL_MAX_MESSAGES",
        _LIMITS.pull_messages,
        "Limits",
        "A pull's answer has at most this many messages; of those that are joined, each counts as one.",
        ge=1,
        le=100_000,
    )

    pages: bool = _field(
        "PUBSUB_PAGES",
        default=True,
        group="Retention",
        description="Messages are packed into pages; false keeps the form that the TypeScript object can go on with.",
    )
    retain_messages: int | None = _field(
        "PUBSUB_RETAIN_MESSAGES",
        None,
        "Retention",
        "Each topic keeps this many messages, and older ones go.",
        ge=1,
    )
    retain_bytes: Size | None = _field(
        "PUBSUB_RETAIN_BYTES",
        None,
        "Retention",
        "Each topic keeps this much, and older pages go.",
        ge=1,
    )
    retain_idle: Seconds | None = _field(
        "PUBSUB_RETAIN_IDLE",
        None,
        "Retention",
        "A topic that nobody wrote to for this long is deleted (up to a quarter later).",
        ge=1,
    )

    log_level: Literal["debug", "info", "warning", "error"] = _field(
        "PUBSUB_LOG_LEVEL",
        "info",
        "Logs",
        "Only what has this level or a higher one is logged.",
    )
    log_format: Literal["auto", "console", "json"] = _field(
        "PUBSUB_LOG_FORMAT",
        "auto",
        "Logs",
        "`auto` is `console` on a terminal and `json` elsewhere.",
    )

    @property
    def listens(self) -> tuple[str, ...]:
        """Every address to listen on; that of the metrics, if there is one, is the last."""
        return self.bind if self.metrics_bind is None else (*self.bind, self.metrics_bind)

    @model_validator(mode="after")
    def _paths_fit(self) -> Settings:
        mounts = {"PUBSUB_RESTATE_PATH": self.restate_path, "PUBSUB_SSE_PATH": self.sse_path}
        for variable, path in mounts.items():
            for other in (*(set(mounts.values()) - {path}), "/metrics", "/health", "/console", "/client"):
                if path == other or path.startswith(other + "/") or other.startswith(path + "/"):
                    msg = f"{variable}={path}: overlaps {other}; give each its own path"
                    raise ValueError(msg)
        if self.restate_path == self.sse_path:
            msg = f"PUBSUB_SSE_PATH={self.sse_path}: is PUBSUB_RESTATE_PATH too; give each its own path"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _addresses_fit(self) -> Settings:
        if _share_a_port(self.bind):
            msg = (
                f"PUBSUB_BIND={','.join(self.bind)}: all have one port, so none would be internal: give the internal "
                "address a port of its own"
            )
            raise ValueError(msg)
        if self.metrics_bind is not None:
            port = self.metrics_bind.rpartition(":")[2]
            if port != "0" and port in {bind.rpartition(":")[2] for bind in self.bind}:
                msg = f"PUBSUB_METRICS_BIND={self.metrics_bind}: has a port of PUBSUB_BIND; give it one of its own"
                raise ValueError(msg)
        if self.auth_token is not None:
            for variable, url in {"RESTATE_INGRESS_URL": self.ingress_url, "RESTATE_ADMIN_URL": self.admin_url}.items():
                if urlsplit(url).username is not None:
                    msg = (
                        f"{variable}={redacted_url(url)}: has a user and a password, and RESTATE_AUTH_TOKEN is set: "
                        "a request carries only one of them; remove the other"
                    )
                    raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Settings:
        if self.rings_max_bytes < self.ring_bytes:
            msg = (
                f"PUBSUB_RINGS_MAX_BYTES={format_size(self.rings_max_bytes)}: is less than "
                f"PUBSUB_RING_BYTES={format_size(self.ring_bytes)}; raise it, or lower the other"
            )
            raise ValueError(msg)
        if self.batch_max_bytes < self.message_max_bytes:
            msg = (
                f"PUBSUB_BATCH_MAX_BYTES={format_size(self.batch_max_bytes)}: is less than "
                f"PUBSUB_MESSAGE_MAX_BYTES={format_size(self.message_max_bytes)}; raise it, or lower the other"
            )
            raise ValueError(msg)
        return self


def load(environ: Mapping[str, str], *, strict: bool = False) -> Settings:
    """Read the settings from `environ`; a variable that is empty counts as not set.

    `strict` is for what serves: a lock that is misspelt would leave the door open, so no `PUBSUB_*` variable may be
    there that is no setting. Beside a command that only publishes, such a name may be an application's own.

    Raises:
        ConfigError: one line for each bad variable, with its value and what is allowed.

    """
    environ = environment.with_secret_files(environ, secrets())
    misspelt = unknown(environ) if strict else ()
    lines = [environment.no_such_setting(name, [*variables(), *secret_files()]) for name in misspelt]
    given = {name: environ[name] for name in variables() if environ.get(name)}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        lines = [*(_line(dict(problem), given) for problem in error.errors()), *lines]
    if lines:
        raise ConfigError("\n".join(lines))
    return settings


def _line(problem: dict[str, Any], given: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    variable = str(problem["loc"][0])
    field = variables()[variable]
    value = given.get(variable, "")
    shown = "…" if is_secret(field) else repr(redacted_url(value) if kind_of(field) is URL else value)
    if problem["type"] in ("greater_than_equal", "less_than_equal"):
        message = f"out of range: use {rule(field)}"
    elif problem["type"].startswith(("int_", "bool_", "literal_")):
        name = "a whole number" if kind_of(field) is NUMBER else kind_of(field).name
        message = f"not one of what is allowed: use {name}"
    return f"{variable}={shown}: {message[0].lower()}{message[1:]}"


def variables() -> dict[str, FieldInfo]:
    """Return every setting by its environment variable, in the order of the reference."""
    return {field.alias or name: field for name, field in Settings.model_fields.items()}


def secrets() -> list[str]:
    """Return the settings whose values must not be shown; each may be given by a file as well."""
    return [variable for variable, field in variables().items() if is_secret(field)]


def secret_files() -> list[str]:
    """Return the variables that name a secret's file."""
    return [variable + environment.FILE for variable in secrets()]


def unknown(environ: Mapping[str, str]) -> list[str]:
    """Return the `PUBSUB_*` variables that no setting reads: most often a typing error."""
    return environment.unknown(environ, {*variables(), *secret_files()})


def is_secret(field: FieldInfo) -> bool:
    """Whether the value must not be shown."""
    return kind_of(field) is SECRET


def group(field: FieldInfo) -> str:
    """Return the heading under which a setting is documented."""
    extra = field.json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else ""


def shown(field: FieldInfo, value: Any) -> str:
    """Write a value as one would in the environment; empty for none."""
    return "" if value is None else kind_of(field).write(value)


def allowed(field: FieldInfo) -> str:
    """Return for people what a setting takes: its kind, the range if there is one, and where else a secret may be."""
    file = f"or in a file: {field.alias}{environment.FILE}" if is_secret(field) else ""
    return ", ".join(part for part in (kind_of(field).name, rule(field), file) if part)


def rule(field: FieldInfo) -> str:
    """Return the allowed range for people, or nothing."""
    bounds = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    words = {"ge": "at least", "le": "at most"}
    return " and ".join(f"{words[name]} {shown(field, bound)}" for name, bound in bounds.items())


def _share_a_port(binds: Sequence[str]) -> bool:
    """Whether several addresses have one port, unless they are one address in IPv4 and IPv6."""
    ports = {bind.rpartition(":")[2] for bind in binds}
    hosts = {bind.rpartition(":")[0] for bind in binds}
    return len(hosts) > 1 and len(ports) == 1 and ports != {"0"} and hosts not in _BOTH_FAMILIES


_BOTH_FAMILIES = ({"0.0.0.0", "[::]"}, {"127.0.0.1", "[::1]"})  # noqa: S104
