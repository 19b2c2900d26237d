"""Render the chart with Helm's own library, and look into what comes out."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

from support.harness import ROOT

CHART = ROOT / "helm" / "restate-pubsub"
RELEASE, NAMESPACE = "live", "apps"
CI = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}

Manifest = dict[str, Any]


@functools.cache
def chart() -> helm_python.Chart:
    """Return the loaded chart."""
    return helm_python.Chart.load(CHART)


INTEGERS = """{{- define "integers" -}}
{{- $given := . -}}
{{- range $key, $value := $given -}}
{{- if kindIs "map" $value -}}{{- include "integers" $value -}}
{{- else if and (kindIs "float64" $value) (eq (floor $value) $value) -}}{{- $_ := set $given $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
"""


@functools.cache
def chart_with_integers() -> helm_python.Chart:
    """Return the chart as `--set` gives it values: whole numbers are integers, where a file's are floats."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(CHART, Path(folder) / "restate-pubsub"))
        for path in (copy / "templates").rglob("*.*"):
            if path.suffix != ".tpl":
                path.write_text('{{- include "integers" .Values -}}\n' + path.read_text())
        (copy / "templates" / "_integers.tpl").write_text(INTEGERS)
        return helm_python.Chart.load(copy)


def ci_values(name: str) -> dict[str, Any]:
    """Return one of the chart's own values files."""
    return yaml.safe_load(CI[name].read_text()) or {}


def texts(values: Mapping[str, Any], *, integers: bool = False) -> dict[str, str]:
    """Return what each template gives, by its path below `templates`; `integers`: the values came by `--set`."""
    return _texts(json.dumps(values, sort_keys=True), integers=integers)


@functools.cache
def _texts(values: str, *, integers: bool = False) -> dict[str, str]:
    loaded = chart_with_integers() if integers else chart()
    rendered = loaded.render(json.loads(values), name=RELEASE, namespace=NAMESPACE)
    return {path.split("/templates/")[1]: text for path, text in rendered.items()}


def render(values: Mapping[str, Any]) -> list[Manifest]:
    """Return all manifests."""
    return [
        manifest
        for path, text in texts(values).items()
        if path.endswith(".yaml")
        for manifest in yaml.load_all(text, yaml.CSafeLoader)
        if manifest
    ]


def refusal(values: Mapping[str, Any], *, integers: bool = False) -> str:
    """Return why Helm does not render these values."""
    try:
        texts(values, integers=integers)
    except helm_python.HelmError as error:
        return str(error)
    return ""


def of(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the one manifest of a kind, or of a kind and the end of its name."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, [each["metadata"]["name"] for each in found]
    return found[0]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the kind that makes each pod, and the pod's template."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield "Pod", manifest
        elif "template" in manifest.get("spec", {}):
            yield manifest["kind"], manifest["spec"]["template"]


POD_ADDRESS = "10.1.2.3"


def environment(manifests: list[Manifest], pod: Manifest) -> dict[str, str]:
    """Return the environment that the pod's first container would get; a secret from elsewhere is its reference.

    The pod's address is `POD_ADDRESS`.
    """
    made = {
        each["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
        for each in manifests
        if each["kind"] == "Secret"
    }
    container = pod["spec"]["containers"][0]
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        (config,) = [
            each
            for each in manifests
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == source["configMapRef"]["name"]
        ]
        found |= config["data"]
    for each in container.get("env", ()):
        secret = each.get("valueFrom", {}).get("secretKeyRef", {})
        kept = made.get(secret.get("name"), {}).get(secret.get("key"))
        if each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") == "status.podIP":
            kept = POD_ADDRESS
        value = each.get("value", kept or str(each.get("valueFrom")))
        found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` changed by `over`, map by map, as Helm merges values files."""
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = deep_merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def single(path: str, value: Any) -> dict[str, Any]:
    """Return values with one of them set: `single("a.b", 1)` is `{"a": {"b": 1}}`."""
    values: Any = value
    for key in reversed(path.split(".")):
        values = {key: values}
    return dict(values)
