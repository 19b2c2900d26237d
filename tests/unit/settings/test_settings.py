"""Settings: what the environment may say, and what is said about a mistake."""

from __future__ import annotations

import re

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
        ("PUBSUB_PULL_TIMEOUT", "45", "pull_timeout", 45.0),
        ("PUBSUB_MESSAGE_MAX_BYTES", "64KiB", "message_max_bytes", 65536),
        ("PUBSUB_BIND", "127.0.0.1:1, [::1]:2", "bind", ("127.0.0.1:1", "[::1]:2")),
        ("PUBSUB_SSE_PATH", "/events/v1", "sse_path", "/events/v1"),
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
        ({"PUBSUB_LOG_LEVEL": "loud"}, "use debug, info, warning or error"),
        ({"PUBSUB_PUBLISH_ENABLED": "perhaps"}, "use true or false"),
        ({"PUBSUB_BATCH_MAX_MESSAGES": "many"}, "use a whole number"),
        ({"PUBSUB_MESSAGE_MAX_BYTES": "8MiB"}, "PUBSUB_BATCH_MAX_BYTES=4MiB: is less than"),
        ({"RESTATE_INGRESS_URL": "localhost:8080"}, "RESTATE_INGRESS_URL='localhost:8080': not a URL"),
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


def test_a_variable_that_no_setting_reads_is_found() -> None:
    """Most often a typing error."""
    assert settings.unknown({"PUBSUB_HARTBEAT": "1s", "PUBSUB_HEARTBEAT": "1s", "PATH": "/"}) == ["PUBSUB_HARTBEAT"]


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
