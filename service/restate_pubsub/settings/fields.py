"""Every setting, once: its environment variable, type, default, and what it is for.

`load` reads them; `docs` and `config/` are made from this table (`restate-pubsub settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from restate_pubsub.protocol.urls import redacted_url
from restate_pubsub.settings import environment
from restate_pubsub.settings.types import (
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
from restate_pubsub.settings.units import format_duration, format_size

Group = Literal["Restate", "Serving", "Access", "Streams", "Limits", "Retention", "Logs"]


def _field(variable: str, default: Any, group: Group, kind: str, description: str, **rules: Any) -> Any:
    extra: dict[str, JsonValue] = {"group": group, "kind": kind}
    return Field(default, alias=variable, description=description, json_schema_extra=extra, **rules)


class Settings(BaseModel):
    """What the environment says. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=False)

    ingress_url: Url = _field(
        "RESTATE_INGRESS_URL",
        "http://localhost:8080",
        "Restate",
        "URL",
        "Restate's ingress: streams pull from it, and publishes go to it",
    )
    admin_url: Url = _field(
        "RESTATE_ADMIN_URL", "http://localhost:9070", "Restate", "URL", "Restate's admin API, for `register`"
    )
    auth_token: BearerToken | None = _field(
        "RESTATE_AUTH_TOKEN", None, "Restate", "secret", "Bearer token for both (Restate Cloud)"
    )
    object_name: ObjectName = _field(
        "PUBSUB_OBJECT_NAME", "pubsub", "Restate", "name", "Name of the Virtual Object; publishers use it"
    )
    identity_keys: IdentityKeys = _field(
        "PUBSUB_RESTATE_IDENTITY_KEYS",
        (),
        "Restate",
        "list",
        "Request identity keys, comma-separated: only that Restate may invoke the object",
    )
    idempotency_retention: Seconds = _field(
        "PUBSUB_IDEMPOTENCY_RETENTION",
        3600.0,
        "Restate",
        "duration",
        "How long a repeated idempotency key of a publish is known",
        ge=1,
    )

    bind: Binds = _field(
        "PUBSUB_BIND",
        ("0.0.0.0:9080",),
        "Serving",
        "list",
        "Listen addresses, comma-separated. One with another port than the first is internal: it serves everything, "
        "and the first then only the streams and /health",
        min_length=1,
    )
    metrics_bind: Bind | None = _field(
        "PUBSUB_METRICS_BIND",
        None,
        "Serving",
        "address",
        "A further listen address that serves /metrics and /health alone, for whoever scrapes and may not invoke",
    )
    restate_path: Path = _field(
        "PUBSUB_RESTATE_PATH", "/restate", "Serving", "path", "Where the Restate endpoint is mounted"
    )
    sse_path: Path = _field(
        "PUBSUB_SSE_PATH", "/pubsub", "Serving", "path", "Where the streams are: GET {path}/{topic}"
    )
    publish_enabled: bool = _field(
        "PUBSUB_PUBLISH_ENABLED",
        default=False,
        group="Serving",
        kind="true or false",
        description="The HTTP door: POST {path}/{topic} publishes, DELETE deletes the topic",
    )
    console: bool = _field(
        "PUBSUB_CONSOLE",
        default=False,
        group="Serving",
        kind="true or false",
        description="The operators' page /console: follow topics, see this process's figures; it names topics",
    )
    drain_timeout: Seconds = _field(
        "PUBSUB_DRAIN_TIMEOUT",
        20.0,
        "Serving",
        "duration",
        "On SIGTERM, streams end and invocations finish within this time; keep the pod's grace period longer",
        ge=0,
        le=3600,
    )

    jwt_key: SecretStr | None = _field(
        "PUBSUB_JWT_KEY",
        None,
        "Access",
        "secret",
        "Readers and writers of the streams need a token that this key verifies: a shared secret (HS*, at least 32 "
        "bytes) or a public key in PEM (RS*, PS*, ES*, EdDSA)",
    )
    jwks_url: Url | None = _field(
        "PUBSUB_JWKS_URL", None, "Access", "URL", "The same with public keys from this URL, kept and renewed; use https"
    )
    jwt_algorithms: Strings = _field(
        "PUBSUB_JWT_ALGORITHMS",
        (),
        "Access",
        "list",
        "Narrows what a token may be signed with, comma-separated; if not set, all that the kind of key allows",
    )
    jwt_audience: Strings = _field(
        "PUBSUB_JWT_AUDIENCE",
        (),
        "Access",
        "list",
        "A token must name one of these in `aud`; if not set, a token that has an `aud` is refused",
    )
    jwt_issuer: Strings = _field(
        "PUBSUB_JWT_ISSUER", (), "Access", "list", "A token must come from one of these (`iss`), if set"
    )
    jwt_claim: Claim = _field(
        "PUBSUB_JWT_CLAIM",
        "pubsub",
        "Access",
        "name",
        "The claim that says what a token permits; a name, a URL, or names joined by dots for a claim inside others",
    )
    jwt_leeway: Seconds = _field(
        "PUBSUB_JWT_LEEWAY",
        5.0,
        "Access",
        "duration",
        "How far the issuer's clock may be ahead (`nbf`, `iat`); `exp` is exact",
        ge=0,
        le=300,
    )
    jwt_cookie: Cookie = _field(
        "PUBSUB_JWT_COOKIE",
        "pubsub_token",
        "Access",
        "name",
        "The cookie that may carry the token, for EventSource with credentials",
    )
    jwt_query: bool = _field(
        "PUBSUB_JWT_QUERY",
        default=False,
        group="Access",
        kind="true or false",
        description="Take the token from the query, too (`?access_token=`): proxies on the way may log it",
    )
    cors_origins: Origins = _field(
        "PUBSUB_CORS_ORIGINS",
        (),
        "Access",
        "list",
        "Origins whose pages may read and publish: https://app.example.org, capacitor://localhost, or "
        "https://*.example.org or * without cookies",
    )
    trusted_proxies: int = _field(
        "PUBSUB_TRUSTED_PROXIES",
        0,
        "Access",
        "number",
        "How many proxies before this service add to X-Forwarded-For; the client is who the outermost of them saw",
        ge=0,
        le=16,
    )

    heartbeat: Seconds = _field(
        "PUBSUB_HEARTBEAT",
        15.0,
        "Streams",
        "duration",
        "A comment is sent this often, below the idle limit of every proxy on the way",
        ge=0.1,
    )
    retry: Seconds = _field(
        "PUBSUB_RETRY",
        2.0,
        "Streams",
        "duration",
        "Browsers reconnect after about this time (each stream gets its own, up to twice as long)",
        ge=0.1,
    )
    send_timeout: Seconds = _field(
        "PUBSUB_SEND_TIMEOUT",
        30.0,
        "Streams",
        "duration",
        "A reader that takes nothing for this long is cut off",
        ge=0.1,
    )
    ring_bytes: Size = _field(
        "PUBSUB_RING_BYTES",
        4 * 1024**2,
        "Streams",
        "size",
        "Recent messages kept in memory for each topic that is read; slower readers read Restate again",
        ge=1024,
    )
    rings_max_bytes: Size = _field(
        "PUBSUB_RINGS_MAX_BYTES",
        256 * 1024**2,
        "Streams",
        "size",
        "The same for all topics together; those that were least recently active give up theirs first",
        ge=1024,
    )
    stream_max_age: Seconds = _field(
        "PUBSUB_STREAM_MAX_AGE",
        3600.0,
        "Streams",
        "duration",
        "A stream ends at this age, or up to a quarter earlier, so that readers spread over replicas; browsers go on "
        "where they were. 0s: never",
        ge=0,
    )
    linger: Seconds = _field(
        "PUBSUB_FEED_LINGER",
        30.0,
        "Streams",
        "duration",
        "How long a topic stays in memory after its last reader left",
        ge=0,
    )
    feed_pull_timeout: Seconds = _field(
        "PUBSUB_FEED_PULL_TIMEOUT",
        600.0,
        "Streams",
        "duration",
        "How long a stream's own pull waits; lower it below the idle limit of a proxy before Restate",
        ge=1,
        le=86400,
    )

    max_streams: int = _field(
        "PUBSUB_MAX_STREAMS", 10_000, "Limits", "number", "Most open streams; each takes about 50 KiB", ge=1
    )
    max_streams_per_client: int = _field(
        "PUBSUB_MAX_STREAMS_PER_CLIENT",
        1000,
        "Limits",
        "number",
        "Most open streams of one client address (IPv6: of its /64), and most publishes it may have under way",
        ge=1,
    )
    max_streams_per_topic: int = _field(
        "PUBSUB_MAX_STREAMS_PER_TOPIC", 5000, "Limits", "number", "Most open streams of one topic", ge=1
    )
    stream_rate: int = _field(
        "PUBSUB_STREAM_RATE",
        500,
        "Limits",
        "number",
        "New streams a second; more wait for their turn, and are refused if that takes longer than 5 s",
        ge=1,
    )
    stream_rate_per_client: int = _field(
        "PUBSUB_STREAM_RATE_PER_CLIENT", 200, "Limits", "number", "The same for one client address", ge=1
    )
    publish_rate_per_client: int = _field(
        "PUBSUB_PUBLISH_RATE_PER_CLIENT",
        100,
        "Limits",
        "number",
        "Publishes a second of one client address through the HTTP door (requests, not messages); twice that at once",
        ge=1,
    )
    message_rate_per_client: int = _field(
        "PUBSUB_MESSAGE_RATE_PER_CLIENT",
        20_000,
        "Limits",
        "number",
        "Messages a second that one client address publishes through the HTTP door; a body under way waits, a new "
        "request is refused",
        ge=1,
    )
    byte_rate_per_client: Size = _field(
        "PUBSUB_BYTE_RATE_PER_CLIENT",
        16 * 1024**2,
        "Limits",
        "size",
        "The same in bytes a second",
        ge=1024,
    )
    request_max_bytes: Size = _field(
        "PUBSUB_REQUEST_MAX_BYTES",
        1024**3,
        "Limits",
        "size",
        "Most bytes of one request that publishes many messages; the rest goes into a new request",
        ge=2,
    )
    request_max_age: Seconds = _field(
        "PUBSUB_REQUEST_MAX_AGE",
        86400.0,
        "Limits",
        "duration",
        "How long one such request may go on",
        ge=1,
    )
    pull_timeout: Seconds = _field(
        "PUBSUB_PULL_TIMEOUT",
        30.0,
        "Limits",
        "duration",
        "How long a pull waits before 408, if its caller does not say",
        ge=0,
        le=86400,
    )
    message_max_bytes: Size = _field(
        "PUBSUB_MESSAGE_MAX_BYTES", 1024**2, "Limits", "size", "Largest message", ge=2, le=16 * 1024**2
    )
    batch_max_bytes: Size = _field(
        "PUBSUB_BATCH_MAX_BYTES",
        4 * 1024**2,
        "Limits",
        "size",
        "Largest sum of an append's messages",
        ge=2,
        le=24 * 1024**2,
    )
    batch_max_messages: int = _field(
        "PUBSUB_BATCH_MAX_MESSAGES", 10_000, "Limits", "number", "Most messages of one append", ge=1, le=100_000
    )
    topic_max_bytes: Size = _field(
        "PUBSUB_TOPIC_MAX_BYTES", 512, "Limits", "size", "Longest topic name, in bytes of UTF-8", ge=1, le=4096
    )
    pull_max_bytes: Size = _field(
        "PUBSUB_PULL_MAX_BYTES",
        4 * 1024**2,
        "Limits",
        "size",
        "A pull's answer ends before the message that would pass this",
        ge=1024,
        le=16 * 1024**2,
    )
    pull_max_messages: int = _field(
        "PUBSUB_PULL_MAX_MESSAGES", 4096, "Limits", "number", "Most messages of one pull's answer", ge=1, le=100_000
    )

    retain_messages: int | None = _field(
        "PUBSUB_RETAIN_MESSAGES", None, "Retention", "number", "Messages kept of each topic; older ones go", ge=1
    )
    retain_bytes: Size | None = _field(
        "PUBSUB_RETAIN_BYTES", None, "Retention", "size", "Bytes kept of each topic; older pages go", ge=1
    )
    retain_idle: Seconds | None = _field(
        "PUBSUB_RETAIN_IDLE",
        None,
        "Retention",
        "duration",
        "A topic that nobody wrote to for this long is deleted (up to a quarter later)",
        ge=1,
    )

    log_level: Literal["debug", "info", "warning", "error"] = _field(
        "PUBSUB_LOG_LEVEL", "info", "Logs", "debug, info, warning or error", "Least level that is logged"
    )
    log_format: Literal["auto", "console", "json"] = _field(
        "PUBSUB_LOG_FORMAT",
        "auto",
        "Logs",
        "auto, console or json",
        "`auto` is `console` on a terminal and `json` elsewhere",
    )

    @property
    def listens(self) -> tuple[str, ...]:
        """Every address to listen on; that of the metrics, if there is one, is the last."""
        return self.bind if self.metrics_bind is None else (*self.bind, self.metrics_bind)

    @model_validator(mode="after")
    def _paths_fit(self) -> Settings:
        mounts = {"PUBSUB_RESTATE_PATH": self.restate_path, "PUBSUB_SSE_PATH": self.sse_path}
        for variable, path in mounts.items():
            for other in (*(set(mounts.values()) - {path}), "/metrics", "/health", "/console"):
                if path == other or path.startswith(other + "/") or other.startswith(path + "/"):
                    msg = f"{variable}={path}: overlaps {other}; give each its own path"
                    raise ValueError(msg)
        if self.restate_path == self.sse_path:
            msg = f"PUBSUB_SSE_PATH={self.sse_path}: is PUBSUB_RESTATE_PATH too; give each its own path"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _addresses_fit(self) -> Settings:
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


_ARTICLES = {"number": "a whole number"}


def _line(problem: dict[str, Any], given: Mapping[str, str]) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return str(message)
    variable = str(problem["loc"][0])
    field = variables()[variable]
    value = given.get(variable, "")
    shown = "…" if is_secret(field) else repr(redacted_url(value) if kind(field) == "URL" else value)
    if problem["type"] in ("greater_than_equal", "less_than_equal"):
        message = f"out of range: use {rule(field)}"
    elif problem["type"].startswith(("int_", "bool_", "literal_")):
        message = f"not one of what is allowed: use {_ARTICLES.get(kind(field), kind(field))}"
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
    return kind(field) == "secret"


def kind(field: FieldInfo) -> str:
    """Name the type of a setting for people."""
    return _extra(field, "kind")


def group(field: FieldInfo) -> str:
    """Return the heading under which a setting is documented."""
    return _extra(field, "group")


def _extra(field: FieldInfo, key: str) -> str:
    extra = field.json_schema_extra
    return str(extra[key]) if isinstance(extra, dict) else ""


def shown(field: FieldInfo, value: Any) -> str:
    """Write a value as one would in the environment; empty for none."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    if kind(field) == "duration":
        return format_duration(value)
    if kind(field) == "size":
        return format_size(value)
    return str(value)


def rule(field: FieldInfo) -> str:
    """Return the allowed range for people, or nothing."""
    bounds = {name: getattr(item, name) for item in field.metadata for name in ("ge", "le") if hasattr(item, name)}
    words = {"ge": "at least", "le": "at most"}
    return " and ".join(f"{words[name]} {shown(field, bound)}" for name, bound in bounds.items())
