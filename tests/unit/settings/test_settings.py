"""Settings: what the environment may say, and what is said about a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restate_pubsub.errors import ConfigError
from restate_pubsub.settings import fields as settings
from restate_pubsub.settings.reference import table
from restate_pubsub.settings.units import format_duration, format_size, parse_duration, parse_size


def test_without_any_variable_the_contracts_defaults_hold() -> None:
    """They are part of the contract."""
    loaded = settings.load({})
    assert (loaded.ingress_url, loaded.admin_url) == ("http://localhost:8080", "http://localhost:9070")
    assert (
        loaded.bind,
        loaded.object_name,
        loaded.restate_path,
        loaded.sse_path,
        loaded.pull_timeout,
        loaded.publish_enabled,
    ) == (("0.0.0.0:9080",), "pubsub", "/restate", "/pubsub", 30.0, False)


@pytest.mark.parametrize(
    ("variable", "value", "attribute", "expected"),
    [
        ("PUBSUB_PULL_TIMEOUT", "500ms", "pull_timeout", 0.5),
        ("PUBSUB_PULL_TIMEOUT", "10m", "pull_timeout", 600.0),
        ("PUBSUB_PULL_TIMEOUT", "0", "pull_timeout", 0.0),
        ("PUBSUB_MESSAGE_MAX_BYTES", "64KiB", "message_max_bytes", 65536),
        ("PUBSUB_BIND", "127.0.0.1:1, [::1]:2", "bind", ("127.0.0.1:1", "[::1]:2")),
        ("PUBSUB_SSE_PATH", "/events/v1", "sse_path", "/events/v1"),
        ("PUBSUB_ADVERTISE", "http://10.0.0.5:9080/", "advertise", "http://10.0.0.5:9080"),
        ("PUBSUB_ADVERTISE", "http://fd00::5:9080", "advertise", "http://[fd00::5]:9080"),
        ("PUBSUB_ADVERTISE", "http://[fd00::5]:9080", "advertise", "http://[fd00::5]:9080"),
        ("PUBSUB_ADVERTISE", "", "advertise", None),
        ("PUBSUB_PEERS", "peers.apps.svc, 10.0.0.0/8", "peers", ("peers.apps.svc", "10.0.0.0/8")),
        ("PUBSUB_PUBLISH_ENABLED", "true", "publish_enabled", True),
        ("PUBSUB_PUBLISH_ENABLED", "1", "publish_enabled", True),
        ("PUBSUB_RETAIN_IDLE", "7d", "retain_idle", 604800.0),
        ("PUBSUB_RETAIN_MESSAGES", "", "retain_messages", None),
        ("RESTATE_INGRESS_URL", "https://x.example/", "ingress_url", "https://x.example"),
    ],
)
def test_a_value_is_read_with_its_unit(variable: str, value: str, attribute: str, expected: object) -> None:
    """Durations in seconds, sizes in bytes, lists by commas; empty counts as not set."""
    assert expected == getattr(settings.load({variable: value}), attribute)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"PUBSUB_PULL_TIMEOUT": "abc"},
            "PUBSUB_PULL_TIMEOUT='abc': not a duration: use a number with ms, s, m, h or d",
        ),
        *(
            (
                {"PUBSUB_ADVERTISE": bad},
                f"PUBSUB_ADVERTISE={bad!r}: not an address of this replica: use http://host:port, with the port",
            )
            for bad in ("http://host", "10.0.0.5:9080", "http://host:9080/path", "http://h h:1")
        ),
        ({"PUBSUB_PULL_TIMEOUT": "45"}, "PUBSUB_PULL_TIMEOUT='45': not a duration: use a number with ms, s"),
        ({"PUBSUB_PULL_TIMEOUT": "-1s"}, "PUBSUB_PULL_TIMEOUT='-1s': not a duration"),
        ({"PUBSUB_PULL_TIMEOUT": "3d"}, "PUBSUB_PULL_TIMEOUT='3d': out of range: use at least 0s and at most 1d"),
        ({"PUBSUB_RING_BYTES": "1"}, "PUBSUB_RING_BYTES='1': out of range: use at least 1KiB"),
        ({"PUBSUB_MESSAGE_MAX_BYTES": "1XB"}, "not a size: use a number with B, KiB, MiB or GiB"),
        ({"PUBSUB_BIND": "here"}, "PUBSUB_BIND='here': not an address: use host:port"),
        ({"PUBSUB_BIND": "0.0.0.0:99999"}, "not an address"),
        ({"PUBSUB_SSE_PATH": "pubsub"}, "PUBSUB_SSE_PATH='pubsub': not a path"),
        ({"PUBSUB_SSE_PATH": "/restate"}, "give each its own path"),
        ({"PUBSUB_SSE_PATH": "/restate/x"}, "overlaps /restate"),
        ({"PUBSUB_SSE_PATH": "/health"}, "overlaps /health"),
        ({"PUBSUB_SSE_PATH": "/console"}, "overlaps /console"),
        ({"PUBSUB_SSE_PATH": "/client"}, "overlaps /client"),
        ({"PUBSUB_LOG_LEVEL": "loud"}, "use debug, info, warning or error"),
        ({"PUBSUB_PUBLISH_ENABLED": "perhaps"}, "use true or false"),
        ({"PUBSUB_BATCH_MAX_MESSAGES": "many"}, "use a whole number"),
        ({"PUBSUB_MESSAGE_MAX_BYTES": "8MiB"}, "PUBSUB_BATCH_MAX_BYTES=4MiB: is less than"),
        ({"RESTATE_INGRESS_URL": "localhost:8080"}, "RESTATE_INGRESS_URL='localhost:8080': not a URL"),
        ({"RESTATE_INGRESS_URL": "http://["}, "RESTATE_INGRESS_URL='http://[': not a URL"),
        ({"RESTATE_INGRESS_URL": "http://u:p/w@host"}, "RESTATE_INGRESS_URL='http://…@host': not a URL"),
        ({"PUBSUB_JWKS_URL": "ftp://u:hush@host"}, "PUBSUB_JWKS_URL='ftp://…@host': not a URL"),
        (
            {"RESTATE_ADMIN_URL": "http://u:p@host", "RESTATE_AUTH_TOKEN": "t"},
            "RESTATE_ADMIN_URL=http://…@host: has a user and a password, and RESTATE_AUTH_TOKEN is set",
        ),
        ({"RESTATE_AUTH_TOKEN": "token\n"}, "RESTATE_AUTH_TOKEN=…: not a bearer token: has white space around it"),
        ({"RESTATE_AUTH_TOKEN": "tök"}, "RESTATE_AUTH_TOKEN=…: not a bearer token"),
        ({"RESTATE_AUTH_TOKEN": "'token'"}, "RESTATE_AUTH_TOKEN=…: not a bearer token: is in quotes"),
        ({"PUBSUB_BIND": "127.0.0.1:9080,127.0.0.2:9080"}, "PUBSUB_BIND=127.0.0.1:9080,127.0.0.2:9080: all have one"),
        ({"PUBSUB_BIND": "0.0.0.0:9080,10.0.0.1:9080,[::]:9080"}, "all have one port"),
        ({"PUBSUB_METRICS_BIND": "9090"}, "PUBSUB_METRICS_BIND='9090': not an address"),
        ({"PUBSUB_METRICS_BIND": "[::]:9080"}, "PUBSUB_METRICS_BIND=[::]:9080: has a port of PUBSUB_BIND"),
        ({"PUBSUB_JWT_CLAIM": "a..b"}, "PUBSUB_JWT_CLAIM='a..b': not a claim's name"),
        ({"PUBSUB_OBJECT_NAME": "a b"}, "PUBSUB_OBJECT_NAME='a b': not an object name"),
        ({"PUBSUB_RESTATE_IDENTITY_KEYS": "secret"}, "each begins with publickeyv1_"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(environ: dict[str, str], line: str) -> None:
    """One line: the variable, the value, the rule."""
    with pytest.raises(ConfigError) as caught:
        settings.load(environ)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_bad_value_is_told_at_once() -> None:
    """A line each."""
    with pytest.raises(ConfigError) as caught:
        settings.load({"PUBSUB_BIND": "x", "PUBSUB_HEARTBEAT": "y"})
    assert [line.split("=")[0] for line in str(caught.value).splitlines()] == ["PUBSUB_BIND", "PUBSUB_HEARTBEAT"]


def test_secrets_are_not_shown() -> None:
    """Neither in the settings' own text nor in the reference."""
    loaded = settings.load({"RESTATE_AUTH_TOKEN": "hush"})
    assert "hush" not in repr(loaded)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PUBSUB_HARTBEAT", "PUBSUB_HEARTBEAT"),
        ("PUBSUB_JWT_KEYS", "PUBSUB_JWT_KEY"),
        ("PUBSUB_JWT_KEY_FILES", "PUBSUB_JWT_KEY_FILE"),
        ("PUBSUB_JWKS", "PUBSUB_JWKS_URL"),
        ("PUBSUB_PORT", "remove it"),
    ],
)
def test_a_variable_that_no_setting_reads_stops_the_start(name: str, meant: str) -> None:
    """A lock that is misspelt would leave the door open; the line says which setting may be meant."""
    with pytest.raises(ConfigError, match=f"^{name}: no setting has this name; .*{meant}"):
        settings.load({name: "x", "PUBSUB_HEARTBEAT": "1s", "PATH": "/"}, strict=True)
    settings.load({name: "x"})  # beside a command that does not serve, it may be an application's own


def test_what_others_put_into_the_environment_is_no_typing_error() -> None:
    """Kubernetes, beside a Service named `pubsub`, and the emulator of Google's Pub/Sub."""
    settings.load(
        {
            "PUBSUB_SERVICE_HOST": "10.0.0.1",
            "PUBSUB_SERVICE_PORT_HTTP": "80",
            "PUBSUB_PORT": "tcp://10.0.0.1:80",
            "PUBSUB_PORT_80_TCP_ADDR": "10.0.0.1",
            "PUBSUB_RESTATE_PORT": "tcp://10.0.0.1:9080",
            "PUBSUB_EMULATOR_HOST": "localhost:8085",
        },
        strict=True,
    )


@pytest.mark.parametrize(("content", "expected"), [("hush", "hush"), ("hush\r\n", "hush"), ("hu\nsh\n\n", "hu\nsh")])
def test_a_secret_may_be_in_a_file(tmp_path: Path, content: str, expected: str) -> None:
    """Line ends at its end are the file's, as in a shell's `$(cat file)`."""
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    (key,) = [settings.load({"PUBSUB_JWT_KEY_FILE": str(file)}).jwt_key]
    assert key is not None
    assert expected == key.get_secret_value()


def test_every_secret_may_be_in_a_file(tmp_path: Path) -> None:
    """And the reference names the variable of each."""
    assert {"RESTATE_AUTH_TOKEN_FILE", "PUBSUB_JWT_KEY_FILE"} <= set(settings.secret_files())
    file = tmp_path / "secret"
    file.write_text("hush\n")
    loaded = settings.load(dict.fromkeys(settings.secret_files(), str(file)))
    for variable in settings.secrets():
        (name,) = [name for name, field in settings.Settings.model_fields.items() if field.alias == variable]
        assert getattr(loaded, name).get_secret_value() == "hush"
        assert variable + "_FILE" in table(settings.variables())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * 70_000, "has more than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    """With its name and what is wrong."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        settings.load({"PUBSUB_JWT_KEY_FILE": str(file)})
    assert str(file) in str(caught.value)


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    """In the environment or in a file."""
    with pytest.raises(ConfigError, match="PUBSUB_JWT_KEY and PUBSUB_JWT_KEY_FILE are both set"):
        settings.load({"PUBSUB_JWT_KEY": "x", "PUBSUB_JWT_KEY_FILE": str(tmp_path)})


def test_every_setting_is_documented() -> None:
    """With a group and sentences."""
    text = table(settings.variables())
    for variable, field in settings.variables().items():
        assert variable in text
        assert settings.group(field)
        assert re.fullmatch(r"[`A-Z].*\.", field.description or ""), variable


def test_every_default_is_a_value_that_may_be_given() -> None:
    """What the reference shows can be pasted into the environment."""
    shown = {name: settings.shown(field, field.default) for name, field in settings.variables().items()}
    assert settings.load({}) == settings.load(shown)


@given(st.integers(0, 10**7).map(lambda ms: ms / 1000))
def test_a_duration_is_read_as_it_is_written(seconds: float) -> None:
    """In whatever unit."""
    assert seconds == pytest.approx(parse_duration(format_duration(seconds)))


@given(st.integers(0, 2**40))
def test_a_size_is_read_as_it_is_written(size: int) -> None:
    """In whatever unit."""
    assert size == parse_size(format_size(size))
