"""The fields of the custom resources that the chart makes, as their definitions have them: no more than it may use.

RestateDeployment is restate.dev/v1beta1 of Restate's operator, HTTPRoute gateway.networking.k8s.io/v1, the monitors and
the rule monitoring.coreos.com/v1, ScaledObject keda.sh/v1alpha1 of KEDA, the two policies networking.gke.io/v1. A pod's
template is checked with Kubernetes' own schema, as a Deployment's.
"""

from __future__ import annotations

from typing import Any

STRING = {"type": "string"}
STRINGS = {"type": "object", "additionalProperties": STRING}
DURATION = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}
LABEL_SELECTOR = {"type": "object", "additionalProperties": False, "properties": {"matchLabels": STRINGS}}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def _resource(version: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _object(("name",), name=STRING, namespace=STRING, labels=STRINGS, annotations=STRINGS)
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": version},
        kind=STRING,
        metadata=metadata,
        spec=spec,
    )


REGISTER = {
    **_object(
        cluster=STRING,
        cloud=STRING,
        url=STRING,
        service=_object(
            ("name", "namespace"),
            name=STRING,
            namespace=STRING,
            path=STRING,
            port={"type": "integer", "minimum": 1, "maximum": 65535},
        ),
    ),
    "minProperties": 1,
    "maxProperties": 1,
}

RESTATE_DEPLOYMENT = _object(
    ("restate", "selector", "template"),
    replicas={"type": "integer", "minimum": 0},
    revisionHistoryLimit={"type": "integer", "minimum": 0},
    minReadySeconds={"type": "integer", "minimum": 0},
    restate=_object(("register",), register=REGISTER, servicePath={"type": "string", "pattern": "^/.*[^/]$"}),
    selector=LABEL_SELECTOR,
    template=_object(("spec",), metadata=_object(labels=STRINGS, annotations=STRINGS), spec={"type": "object"}),
)

HTTP_ROUTE = _object(
    (),
    parentRefs={
        "type": "array",
        "minItems": 1,
        "items": _object(
            ("name",),
            group=STRING,
            kind=STRING,
            name=STRING,
            namespace=STRING,
            sectionName=STRING,
            port={"type": "integer"},
        ),
    },
    hostnames={"type": "array", "items": STRING, "maxItems": 16},
    rules={
        "type": "array",
        "items": _object(
            matches={
                "type": "array",
                "items": _object(
                    path=_object(
                        type={"enum": ["Exact", "PathPrefix", "RegularExpression"]},
                        value={"type": "string", "maxLength": 1024},
                    )
                ),
            },
            timeouts=_object(request=DURATION, backendRequest=DURATION),
            backendRefs={
                "type": "array",
                "items": _object(("name", "port"), name=STRING, namespace=STRING, port={"type": "integer"}),
            },
        ),
    },
)

SCRAPED = {
    "type": "array",
    "items": _object(port=STRING, path=STRING, interval=DURATION, scrapeTimeout=DURATION),
}

SERVICE_MONITOR = _object(("selector", "endpoints"), selector=LABEL_SELECTOR, endpoints=SCRAPED)

POD_MONITOR = _object(("selector", "podMetricsEndpoints"), selector=LABEL_SELECTOR, podMetricsEndpoints=SCRAPED)

SCALED_OBJECT = _object(
    ("scaleTargetRef", "triggers"),
    scaleTargetRef=_object(("name",), apiVersion=STRING, kind=STRING, name=STRING),
    minReplicaCount={"type": "integer", "minimum": 0},
    maxReplicaCount={"type": "integer", "minimum": 1},
    advanced=_object(horizontalPodAutoscalerConfig=_object(behavior={"type": "object"})),
    triggers={
        "type": "array",
        "items": _object(
            ("type", "metadata"),
            type={"enum": ["prometheus", "cpu"]},
            metricType={"enum": ["AverageValue", "Value", "Utilization"]},
            metadata=STRINGS,
        ),
    },
)

TARGET = _object(("group", "kind", "name"), group=STRING, kind=STRING, name=STRING)

GCP_BACKEND_POLICY = _object(
    ("targetRef",),
    default=_object(
        timeoutSec={"type": "integer", "minimum": 1, "maximum": 2147483647},
        connectionDraining=_object(drainingTimeoutSec={"type": "integer", "minimum": 0, "maximum": 3600}),
    ),
    targetRef=TARGET,
)

HEALTH_CHECK_POLICY = _object(
    ("targetRef",),
    default=_object(
        config=_object(
            ("type",),
            type={"enum": ["TCP", "HTTP", "HTTPS", "HTTP2", "GRPC"]},
            httpHealthCheck=_object(port={"type": "integer"}, requestPath=STRING),
        )
    ),
    targetRef=TARGET,
)

PROMETHEUS_RULE = _object(
    (),
    groups={
        "type": "array",
        "items": _object(
            ("name",),
            name=STRING,
            interval=DURATION,
            rules={
                "type": "array",
                "items": {
                    **_object(("expr",), alert=STRING, expr=STRING, labels=STRINGS, annotations=STRINGS),
                    "properties": {
                        "alert": STRING,
                        "expr": STRING,
                        "for": DURATION,
                        "labels": STRINGS,
                        "annotations": STRINGS,
                    },
                },
            },
        ),
    },
)

SCHEMAS = {
    "RestateDeployment": _resource("restate.dev/v1beta1", RESTATE_DEPLOYMENT),
    "HTTPRoute": _resource("gateway.networking.k8s.io/v1", HTTP_ROUTE),
    "ServiceMonitor": _resource("monitoring.coreos.com/v1", SERVICE_MONITOR),
    "PodMonitor": _resource("monitoring.coreos.com/v1", POD_MONITOR),
    "PrometheusRule": _resource("monitoring.coreos.com/v1", PROMETHEUS_RULE),
    "ScaledObject": _resource("keda.sh/v1alpha1", SCALED_OBJECT),
    "GCPBackendPolicy": _resource("networking.gke.io/v1", GCP_BACKEND_POLICY),
    "HealthCheckPolicy": _resource("networking.gke.io/v1", HEALTH_CHECK_POLICY),
}
