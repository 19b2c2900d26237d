"""Alerts and dashboard: valid, tested by Prometheus' own tool, and about metrics that the service exports."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from chart.charts import of, render
from restate_pubsub.telemetry.metrics import Metrics
from support.harness import ROOT
from support.programs import program

CONFIG = ROOT / "config"
ALERTS = yaml.safe_load((CONFIG / "alerts.yaml").read_text())
DASHBOARD = json.loads((CONFIG / "dashboard.json").read_text())


def exported() -> set[str]:
    """Return the names of all series that a service exports from its start."""
    text = generate_latest(Metrics(CollectorRegistry()).registry).decode()
    declared = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    histograms = {
        f"{name}_{end}" for name, kind in declared if kind == "histogram" for end in ("bucket", "sum", "count")
    }
    return {name for name, kind in declared if kind != "histogram"} | histograms


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each query is, and the query."""
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]


def promtool(*words: str | Path) -> None:
    """Run Prometheus' tool; it must succeed."""
    done = subprocess.run([program("promtool"), *map(str, words)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_valid() -> None:
    """As Prometheus reads them."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", CONFIG / "alerts.yaml")


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    """The cases are in alerts_test.yaml, and none of the alerts is without one."""
    cases = Path(__file__).parent / "alerts_test.yaml"
    promtool("test", "rules", cases)
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert f"{rule['alert']}" in cases.read_text()


def test_the_example_configuration_is_valid() -> None:
    """It loads the alerts beside it."""
    promtool("check", "config", CONFIG / "prometheus.yaml")


@pytest.mark.parametrize(("where", "query"), [*expressions()], ids=[where for where, _ in expressions()])
def test_every_metric_in_a_query_is_exported(where: str, query: str) -> None:
    """A renamed metric would leave an alert silent for ever."""
    named = set(re.findall(r"\b((?:restate_pubsub|process)_[a-z_]+)\b", query))
    assert named, f"{where} asks for no metric"
    assert named <= exported()


def test_every_query_of_the_dashboard_is_a_query(tmp_path: Path) -> None:
    """With Grafana's variables filled in, Prometheus can parse it."""
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m").replace("$", "")}
        for number, (_, query) in enumerate(expressions())
        if not query.startswith("label_values")
    ]
    written = tmp_path / "panels.yaml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "--lint=none", written)


def test_panels_do_not_overlap() -> None:
    """Each has its place in Grafana's grid of 24 columns, and an id of its own."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.fixture(scope="module")
def monitored() -> list[dict[str, Any]]:
    """Return the manifests with all of it on."""
    return render({"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}})


def test_the_chart_hands_on_the_alerts_unchanged(monitored: list[dict[str, Any]]) -> None:
    """Prometheus' templates in them are not Helm's."""
    assert of(monitored, "PrometheusRule")["spec"] == ALERTS


def test_the_runbook_can_be_where_one_publishes_it() -> None:
    """Each alert then leads there, to its entry."""
    url = "https://wiki.example.com/runbook"
    rules = of(render({"prometheusRule": {"enabled": True, "runbook": url}}), "PrometheusRule")["spec"]["groups"][0]
    for rule in rules["rules"]:
        assert rule["annotations"]["runbook_url"] == f"{url}#{rule['alert'].lower()}"


def test_the_chart_hands_on_the_dashboard_unchanged(monitored: list[dict[str, Any]]) -> None:
    """In a ConfigMap that Grafana's sidecar finds by its label."""
    config = of(monitored, "ConfigMap", "-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config["data"]["restate-pubsub.json"]) == DASHBOARD
