"""What is made from other files is current, and every value of the chart is documented and in its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import helm_python
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator
from pydantic.fields import FieldInfo

import generate
from chart.charts import CHART, chart, refusal
from restate_pubsub.commands.group import group
from restate_pubsub.settings import fields as settings
from restate_pubsub.settings.types import Seconds, Size, Url
from support.harness import ROOT

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize("path", generate.generated(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_made_is_current(path: Path) -> None:
    """If not: `make generate`."""
    assert path.read_text() == generate.generated()[path]


@pytest.mark.parametrize(("form", "name"), [("markdown", "settings.md"), ("env", "restate-pubsub.env")])
def test_the_command_prints_the_reference(form: str, name: str) -> None:
    """Of the version that one has."""
    printed = CliRunner().invoke(group, ["settings", "--format", form])
    assert printed.output == (ROOT / "config" / name).read_text()


def test_every_setting_is_in_the_reference_and_the_example() -> None:
    """A setting that nobody can find does not exist."""
    reference = (ROOT / "config" / "settings.md").read_text()
    example = (ROOT / "config" / "restate-pubsub.env").read_text()
    for variable in settings.variables():
        assert f"| `{variable}` |" in reference
        assert f"\n#{variable}=" in example


def test_the_example_environment_is_valid_when_all_of_it_is_used() -> None:
    """Each line without its #, where it has a value, is a setting with its default."""
    lines = (ROOT / "config" / "restate-pubsub.env").read_text().splitlines()
    given = dict(line[1:].split("=", 1) for line in lines if line.startswith("#") and not line.startswith("# "))
    assert settings.load(given) == settings.Settings()


def test_the_chart_takes_every_setting_somewhere() -> None:
    """Under settings, under secrets, or by a value of its own."""
    properties = SCHEMA["properties"]
    taken = [*properties["settings"]["properties"], *properties["secrets"]["properties"], *generate.CHART_SETS]
    assert sorted(taken) == sorted(settings.variables())


@pytest.mark.parametrize("variable", [*SCHEMA["properties"]["settings"]["properties"]])
def test_the_chart_accepts_the_default_of_every_setting(variable: str) -> None:
    """As the service writes it."""
    field = settings.variables()[variable]
    if default := settings.shown(field, field.default):
        assert refusal({"settings": {variable: default}}) == ""


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (bool, [True, "true", False], ["yes", 1]),
        (Literal["one", "two", "three"], ["one", "three"], ["four", 1]),
        (Literal["one", "two"] | None, ["one"], ["three"]),
        (int, ["12", 0], [-1, 1.5, "many"]),
        (Url | None, ["https://a.example.com/keys"], ["a.example.com"]),
        (Seconds, ["1.5s", "10m", 0, "0"], ["soon", True, 3, "3"]),
        (Size | None, ["4MiB", 1024], ["4 miles"]),
        (str, ["anything", 1, False], [{}]),
    ],
)
def test_each_kind_of_setting_has_its_schema(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    """Its type says which, also one that nobody has named."""
    validator = Draft7Validator(generate.setting_schema(FieldInfo.from_annotation(annotation)))
    assert [value for value in good if not validator.is_valid(value)] == []
    assert [value for value in bad if validator.is_valid(value)] == []


def _leaves(values: Any, path: str = "") -> Iterator[str]:
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if here in DOCUMENTED or not isinstance(value, dict):
            yield here
        else:
            yield from _leaves(value, here)


VALUES_WITH_HELP = [*generate.documented_values((CHART / "values.yaml").read_text())]
DOCUMENTED = {value.key for value in VALUES_WITH_HELP}


def test_every_value_is_documented() -> None:
    """By a comment that begins with `# --` and has whole sentences; it makes the README's table."""
    assert [path for path in _leaves(VALUES) if path not in DOCUMENTED] == []
    assert [value.key for value in VALUES_WITH_HELP if not re.fullmatch(r"[`A-Z]\S* \S+ .*\.", value.description)] == []


def test_the_schema_has_every_value_and_no_other() -> None:
    """Its properties and the keys of values.yaml are the same, all the way down to what is documented."""

    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        assert schema.keys() - {"global"} == values.keys(), path
        for key, value in values.items():
            here = f"{path}.{key}" if path else key
            if isinstance(value, dict) and here not in DOCUMENTED:
                assert schema[key]["additionalProperties"] is False, here
                compare(value, schema[key]["properties"], here)

    compare(VALUES, SCHEMA["properties"], "")
    assert SCHEMA["additionalProperties"] is False


def test_the_chart_has_the_version_of_the_project() -> None:
    """The image's default tag is what `make image` labels."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{chart().metadata["appVersion"]}"\n' in text
    assert chart().metadata["version"] == chart().metadata["appVersion"]


def test_the_chart_has_nothing_that_helm_warns_of() -> None:
    """Apart from an icon, which it has none."""
    messages = helm_python.lint(CHART, strict=True)["messages"]
    assert [each["error"] for each in messages] == ["icon is recommended"]
