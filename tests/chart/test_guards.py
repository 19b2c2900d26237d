"""Values that cannot work are refused with a sentence; values that are no values at all, by the schema."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chart.charts import CHART, ci_values, deep_merge, refusal, single

OPERATOR = {"restate": {"operator": {"enabled": True, "register": {"cluster": "a"}}}}
CLOUD = ci_values("cloud")
PEERS = {"networkPolicy": {"enabled": True, "from": {"gateway": [{"podSelector": {}}]}}}

GUARDS: dict[str, dict[str, Any]] = {
    "restate.operator.register names 0 places": single("restate.operator.enabled", value=True),
    "restate.operator.register names 2 places": deep_merge(OPERATOR, single("restate.operator.register.cloud", "b")),
    "registration.url and registration.force have no effect": deep_merge(
        OPERATOR, single("registration.force", value=True)
    ),
    "which needs a token: set existingSecrets.RESTATE_AUTH_TOKEN": {
        key: value for key, value in CLOUD.items() if key != "existingSecrets"
    },
    "which calls the object from outside: set restate.identityKeys": deep_merge(
        CLOUD, single("restate.identityKeys", [])
    ),
    "which cannot reach a Service in this cluster: set registration.url": deep_merge(
        CLOUD, single("registration.url", "")
    ),
    "RESTATE_AUTH_TOKEN is in secrets and in existingSecrets": deep_merge(
        CLOUD, {"secrets": {"RESTATE_AUTH_TOKEN": "a"}}
    ),
    "extraEnv has PUBSUB_HEARTBEAT, which is a setting": {"extraEnv": [{"name": "PUBSUB_HEARTBEAT", "value": "1s"}]},
    "settings.PUBSUB_JWT_AUDIENCE says what a token must have, but without a key everybody may read": {
        "settings": {"PUBSUB_JWT_AUDIENCE": "here"}
    },
    "secrets.PUBSUB_JWT_KEY has 5 bytes": {"secrets": {"PUBSUB_JWT_KEY": "short"}},
    "PUBSUB_JWT_KEY and settings.PUBSUB_JWKS_URL are both set": {
        "secrets": {"PUBSUB_JWT_KEY": "x" * 32},
        "settings": {"PUBSUB_JWKS_URL": "https://id.example.org/keys"},
    },
    "settings.PUBSUB_CORS_ORIGINS has https://b.example.org/": {
        "settings": {"PUBSUB_CORS_ORIGINS": "https://a.example.org, https://b.example.org/"}
    },
    "settings.PUBSUB_SSE_PATH (/restate/x) and settings.PUBSUB_RESTATE_PATH (/restate) overlap": {
        "settings": {"PUBSUB_SSE_PATH": "/restate/x"}
    },
    "terminationGracePeriodSeconds is 25, but stopping takes up to 25 seconds": single(
        "terminationGracePeriodSeconds", 25
    ),
    "strategy.rollingUpdate has neither maxSurge nor maxUnavailable": single("strategy.rollingUpdate.maxSurge", 0),
    "service.nodePort needs service.type NodePort or LoadBalancer": single("service.nodePort", 30080),
    "ingress.enabled needs ingress.hosts": single("ingress.enabled", value=True),
    "httpRoute.enabled needs httpRoute.parentRefs": single("httpRoute.enabled", value=True),
    "autoscaling.minReplicas (11) is above autoscaling.maxReplicas (10)": {
        "autoscaling": {"enabled": True, "minReplicas": 11}
    },
    "autoscaling.enabled needs something to look at": {"autoscaling": {"enabled": True, "targetCPU": None}},
    "memory is 512Mi, but PUBSUB_MAX_STREAMS (50 KiB each) and PUBSUB_RINGS_MAX_BYTES may take 873Mi": {
        "resources": {"limits": {"memory": "512Mi"}}
    },
    "podDisruptionBudget.enabled needs maxUnavailable or minAvailable": single(
        "podDisruptionBudget.maxUnavailable", None
    ),
    "podDisruptionBudget.maxUnavailable is 0": single("podDisruptionBudget.maxUnavailable", 0),
    "podDisruptionBudget.minAvailable (2) keeps every one of 2 pods": single("podDisruptionBudget.minAvailable", 2),
    "podDisruptionBudget.minAvailable (51%) keeps every one of 2 pods": {
        "podDisruptionBudget": {"minAvailable": "51%"}
    },
    "podDisruptionBudget.minAvailable (100%) keeps every one of 3 pods": {
        "replicaCount": 3,
        "podDisruptionBudget": {"minAvailable": "100%"},
    },
    "autoscaling.prometheusUrl is where KEDA counts open streams": {
        "autoscaling": {"enabled": True, "prometheusUrl": "http://prometheus:9090"}
    },
    "serviceMonitor.enabled and podMonitor.enabled: every pod": {
        "serviceMonitor": {"enabled": True},
        "podMonitor": {"enabled": True},
    },
    "networkPolicy.from.restate is empty": deep_merge(PEERS, single("networkPolicy.from.restate", [])),
    "networkPolicy.from.gateway is empty": single("networkPolicy.enabled", value=True),
    "networkPolicy.from.prometheus is empty": deep_merge(PEERS, single("serviceMonitor.enabled", value=True)),
}


@pytest.mark.parametrize("integers", [False, True], ids=["file", "set"])
@pytest.mark.parametrize(("sentence", "values"), GUARDS.items(), ids=GUARDS)
def test_what_cannot_work_is_refused_with_a_sentence(
    sentence: str,
    values: dict[str, Any],
    integers: bool,  # noqa: FBT001
) -> None:
    """It names the values and says what to do, whether they come from a file or by `--set`."""
    said = refusal(values, integers=integers)
    assert sentence in said
    assert "values don't meet" not in said


def test_every_guard_is_tested() -> None:
    """Each `fail` in the template is one of the sentences above."""
    written = re.findall(r'\{\{- fail \(?(?:printf )?"([^"]*)"', (CHART / "templates" / "_guards.tpl").read_text())
    said = [refusal(values) for values in GUARDS.values()]
    for text in written:
        parts = [re.escape(part) for part in re.split(r"%[sd]", text)]
        assert any(re.search(".*".join(parts), sentence) for sentence in said), text


@pytest.mark.parametrize("least", [1, "50%", "0%"])
@pytest.mark.parametrize("integers", [False, True], ids=["file", "set"])
def test_a_budget_that_lets_one_pod_go_is_taken(least: Any, integers: bool) -> None:  # noqa: FBT001
    """Of two pods."""
    assert refusal(single("podDisruptionBudget.minAvailable", least), integers=integers) == ""


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown value": ({"replicas": 3}, "additional properties 'replicas' not allowed"),
    "an unknown value deep down": (
        single("restate.operator.cluster", "a"),
        "additional properties 'cluster' not allowed",
    ),
    "an unknown setting": ({"settings": {"PUBSUB_HEARTBEATS": "1s"}}, "additional properties 'PUBSUB_HEARTBEATS' not"),
    "a setting that the chart decides": ({"settings": {"PUBSUB_BIND": "0.0.0.0:80"}}, "'PUBSUB_BIND' not allowed"),
    "a secret among the settings": ({"settings": {"RESTATE_AUTH_TOKEN": "a"}}, "'RESTATE_AUTH_TOKEN' not allowed"),
    "a setting among the secrets": ({"secrets": {"PUBSUB_HEARTBEAT": "a"}}, "'PUBSUB_HEARTBEAT' not allowed"),
    "no duration": ({"settings": {"PUBSUB_HEARTBEAT": "soon"}}, "/settings/PUBSUB_HEARTBEAT"),
    "a duration without a unit": ({"settings": {"PUBSUB_HEARTBEAT": 15}}, "/settings/PUBSUB_HEARTBEAT"),
    "a duration in quotes without a unit": ({"settings": {"PUBSUB_HEARTBEAT": "15"}}, "/settings/PUBSUB_HEARTBEAT"),
    "no size": ({"settings": {"PUBSUB_RING_BYTES": "4 parsecs"}}, "/settings/PUBSUB_RING_BYTES"),
    "no path": ({"settings": {"PUBSUB_SSE_PATH": "pubsub"}}, "/settings/PUBSUB_SSE_PATH"),
    "no level": ({"settings": {"PUBSUB_LOG_LEVEL": "loud"}}, "/settings/PUBSUB_LOG_LEVEL"),
    "no URL": (single("restate.adminUrl", "restate:9070"), "/restate/adminUrl"),
    "no identity key": (single("restate.identityKeys", ["abc"]), "/restate/identityKeys/0"),
    "a secret without a key": ({"existingSecrets": {"RESTATE_AUTH_TOKEN": {"name": "a"}}}, "missing property 'key'"),
    "a service without a namespace": (
        single("restate.operator.register.service", {"name": "restate"}),
        "missing property 'namespace'",
    ),
    "no service type": (single("service.type", "ExternalName"), "/service/type"),
    "a word for a number": (single("replicaCount", "two"), "/replicaCount"),
    "a number for a label": (single("podLabels", {"a": 1}), "/podLabels/a"),
    "a word for a switch": (single("ingress.enabled", "yes"), "/ingress/enabled"),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSED.values(), ids=REFUSED)
def test_the_schema_refuses_what_is_no_value(values: dict[str, Any], sentence: str) -> None:
    """It names the place."""
    assert sentence in refusal(values)


@pytest.mark.parametrize(
    "given",
    [
        {"PUBSUB_HEARTBEAT": "1.5s", "PUBSUB_RETRY": "2 s", "PUBSUB_FEED_LINGER": 0},
        {"PUBSUB_RING_BYTES": "4MiB", "PUBSUB_MESSAGE_MAX_BYTES": 65536},
        {"PUBSUB_RETAIN_MESSAGES": 1000, "PUBSUB_RETAIN_IDLE": "7d"},
        {"PUBSUB_LOG_LEVEL": "debug", "PUBSUB_LOG_FORMAT": "console"},
    ],
)
def test_the_schema_accepts_what_the_service_accepts(given: dict[str, Any]) -> None:
    """Sizes with and without units; of durations, only zero needs none."""
    assert refusal({"settings": given}) == ""


@pytest.mark.parametrize(
    ("settings", "memory"),
    [
        ({}, "1Gi"),
        ({}, None),
        ({"PUBSUB_MAX_STREAMS": 1000}, "512Mi"),
        ({"PUBSUB_MAX_STREAMS": 1000, "PUBSUB_RINGS_MAX_BYTES": "64MiB"}, "256M"),
        ({"PUBSUB_MAX_STREAMS": 50000}, "3Gi"),
    ],
)
def test_a_memory_limit_that_the_streams_fit_into_is_taken(settings: dict[str, Any], memory: str | None) -> None:
    """Whatever the units; no limit is one, too."""
    assert refusal({"settings": settings, "resources": {"limits": {"memory": memory}}}) == ""
