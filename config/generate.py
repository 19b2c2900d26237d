"""Write what is made from other files: `make generate`. The tests fail when one of them is not current.

From the settings: the reference and the example environment here, and what the chart accepts under `settings` and
`secrets`. From the chart's `values.yaml`: the table in its README. From `pyproject.toml`: the version of the chart and
of the npm package. Alerts and dashboard are copied into the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

import release
from restate_pubsub.settings import fields as settings
from restate_pubsub.settings import reference as settings_docs
from restate_pubsub.settings.kinds import TRUTH, Kind, kind_of

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
CHART = ROOT / "helm" / "restate-pubsub"

CHART_SETS = {
    "RESTATE_INGRESS_URL": "restate.ingressUrl",
    "RESTATE_ADMIN_URL": "restate.adminUrl",
    "PUBSUB_RESTATE_IDENTITY_KEYS": "restate.identityKeys",
    "PUBSUB_BIND": "bindHost",
    "PUBSUB_METRICS_BIND": "bindHost",
    "PUBSUB_ADVERTISE": "peers.enabled",
    "PUBSUB_PEERS": "peers.enabled",
}
"""Settings that other values of the chart decide."""


class Value(NamedTuple):
    """One documented value of the chart."""

    key: str
    default: str
    description: str


def setting_schema(field: FieldInfo) -> dict[str, Any]:
    """Return what the chart accepts for a setting."""
    accepted = [*accepts(kind_of(field))]
    return {
        "description": f"{field.description} ({settings.allowed(field)})",
        **(accepted[0] if len(accepted) == 1 else {"anyOf": accepted}),
    }


def accepts(kind: Kind) -> Iterator[dict[str, Any]]:
    """Yield what a value of a kind may be in YAML, which has types of its own for numbers and for true and false."""
    if kind is TRUTH:
        yield {"type": "boolean"}
    if kind.words:
        yield {"enum": [*kind.words]}
    if kind.pattern:
        yield {"type": "string", "pattern": kind.pattern}
    if kind.number == "zero":
        yield {"const": 0}
    elif kind.number:
        yield {"type": kind.number, "minimum": 0}
    if not (kind.words or kind.pattern or kind.number):
        yield {"type": ["string", "number", "boolean"]}  # the service itself says the rest when it starts


def values_schema(current: dict[str, Any]) -> dict[str, Any]:
    """Return the chart's schema with its settings and secrets made anew."""
    fields = settings.variables()
    plain = {name: field for name, field in fields.items() if not settings.is_secret(field) and name not in CHART_SETS}
    secret = {name: field for name, field in fields.items() if settings.is_secret(field)}
    schema: dict[str, Any] = json.loads(json.dumps(current))
    schema["properties"]["settings"]["properties"] = {name: setting_schema(field) for name, field in plain.items()}
    schema["properties"]["secrets"]["properties"] = {
        name: {"type": "string", "minLength": 1, "description": field.description} for name, field in secret.items()
    }
    schema["properties"]["existingSecrets"]["properties"] = {name: {"$ref": "#/$defs/secretKey"} for name in secret}
    return schema


def documented_values(text: str) -> Iterator[Value]:
    """Yield each value of a values.yaml that a comment which begins with `# --` documents, in its order."""
    parents: list[tuple[int, str]] = []
    lines = text.splitlines()
    comment = ""
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = stripped.removeprefix("# --").strip()
            continue
        if comment and stripped.startswith("# "):
            comment += " " + stripped.removeprefix("# ")
            continue
        match = re.match(r"^( *)([A-Za-z][A-Za-z0-9]*):\s*(.*)$", line)
        if match is None:
            continue
        indent, name, default = len(match[1]), match[2], match[3].split(" #")[0].strip()
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, name))
        if not comment:
            continue
        if not default:
            default = " ".join(part.strip() for part in _block(lines[number + 1 :], indent))
        yield Value(".".join(part for _, part in parents), default, comment)
        comment = ""


def _block(lines: list[str], indent: int) -> Iterator[str]:
    for line in lines:
        if not line.strip() or len(line) - len(line.lstrip()) <= indent:
            return
        yield line


BEGIN, END = "<!-- values: made by `make generate` from values.yaml -->", "<!-- end of values -->"


def readme(current: str, values: str) -> str:
    """Return the chart's README with its table made anew."""
    rows = ["| value | default | what for |", "|---|---|---|"]
    for value in documented_values(values):
        cells = (f"`{value.key}`", f"`{value.default}`", value.description)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, "", *rows, "", END + after])


def versioned(current: str, version: str) -> str:
    """Return the chart's Chart.yaml with this version, of the chart and of what it installs."""
    return re.sub(r"^(version|appVersion): .*$", rf"\1: {version}", current, flags=re.MULTILINE)


def npm_versioned(current: str, version: str) -> str:
    """Return the package's package.json, or its lock, with this version."""
    return re.sub(
        r'(^\s*"name": "restate-pubsub",\n\s*"version": ")[^"]*', rf"\g<1>{version}", current, flags=re.MULTILINE
    )


def generated() -> dict[Path, str]:
    """Return every file that is made, with what it should hold."""
    fields = settings.variables()
    schema = CHART / "values.schema.json"
    page = CHART / "README.md"
    npm = [ROOT / "clients" / "javascript" / name for name in ("package.json", "package-lock.json")]
    return {
        **{path: npm_versioned(path.read_text(), release.version()) for path in npm},
        CONFIG / "settings.md": settings_docs.markdown(fields),
        CONFIG / "restate-pubsub.env": settings_docs.environment_file(fields),
        schema: json.dumps(values_schema(json.loads(schema.read_text())), indent=2, ensure_ascii=False) + "\n",
        CHART / "Chart.yaml": versioned((CHART / "Chart.yaml").read_text(), release.version()),
        page: readme(page.read_text(), (CHART / "values.yaml").read_text()),
        CHART / "files" / "alerts.yaml": (CONFIG / "alerts.yaml").read_text(),
        CHART / "files" / "dashboard.json": (CONFIG / "dashboard.json").read_text(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
